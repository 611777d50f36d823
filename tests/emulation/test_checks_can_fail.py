"""What the emulator promises to see, it sees: mistakes planted in the kernels are found, by file and line."""

import pytest
from plain_spectral_norm import Network

PLANTED_IN_SPECTRAL_NORM = {
    "missing_barrier": r"race: .* without a barrier between them, at spectral_norm\.cuh:\d+",
    "out_of_bounds": r"out of bounds: read of 4 bytes .* `weight`.*, at pack\.h:\d+ in spectral_norm\.cuh:\d+",
    "uninitialised_read": r"uninitialised read of `dynamic shared memory`, at .*spectral_norm\.cuh:\d+",
}
ELSEWHERE = {
    # which of the two comes first is a matter of the order of the blocks
    "hand_over": r"(race: .* of `x`, written by thread \d+ of block \(\d,0,0\)|uninitialised read of `x`)",
    "every_block_writes": r"race: write to `y`, written by thread 0 of block",
    "diverging_barriers": r"barrier divergence: .* different __syncthreads\(\)",
    "returns_before_barrier": r"barrier divergence: __syncthreads\(\) after 1 threads of the block returned",
    "half_a_warp_exchanges": r"deadlock: 0 threads wait at __syncthreads\(\), 128 in a warp's exchange",
    "shuffle_as_barrier": r"race: write to `tile`, written by thread \d+ of block",
    "misaligned_pack": r"misaligned read of 16 bytes of `input`",
    "writes_input": r"write to the input `input`",
    "past_shared_array": r"out of bounds: write of 4 bytes 0 bytes past the end of `tile`",
    "shared_from_last_block": r"uninitialised read of `tile`",
}
MACHINES = [{"schedule": "sequential"}, {"schedule": "reverse"}, {"schedule": "random"}, {"portable": True}]


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("mistake", PLANTED_IN_SPECTRAL_NORM)
def test_mistake_in_the_kernels_is_found(emulated, mistake, machine):
    network = Network([(64, 61)])
    emulated.configure(**machine)
    emulated.ops.spectral_norm(*network.forward())
    emulated.configure(**machine, mistake=mistake)
    with pytest.raises(RuntimeError, match=PLANTED_IN_SPECTRAL_NORM[mistake]):
        emulated.ops.spectral_norm(*network.forward())


@pytest.mark.parametrize("machine", MACHINES, ids=str)
@pytest.mark.parametrize("kernel", ELSEWHERE)
def test_mistake_in_a_small_kernel_is_found(emulated, kernel, machine):
    emulated.configure(**machine)
    with pytest.raises(RuntimeError, match=ELSEWHERE[kernel] + r".*planted\.cpp:\d+"):
        emulated.module.run_planted(kernel)


def test_output_that_nobody_wrote_is_found(emulated):
    with pytest.raises(RuntimeError, match="unwritten output: byte 0 of `y`"):
        emulated.module.run_planted("unwritten_output")


def test_kernel_without_a_mistake_passes(emulated):
    emulated.configure(schedule="random", preempt=3)
    emulated.module.run_planted("correct")


def test_more_shared_memory_than_there_is_raises(emulated):
    network = Network([(64, 64)])
    emulated.ops.spectral_norm(*network.forward())
    needed = max(launch.shared_bytes for launch in emulated.launches())
    emulated.configure(shared_memory=needed - 1)
    emulated.ops.spectral_norm(*network.forward())
    assert all(launch.shared_bytes < needed for launch in emulated.launches())
