"""Benchmarks that go on where they were stopped, and the twins that they compare with."""

import copy
import csv

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastgan
from benchmarks import gpu
from benchmarks.rows import Rows
from benchmarks.torch_twin import torch_twin

MACHINE = {"hardware": "a GPU", "driver": "1", "torch": "2", "triton": "3"}


def test_rows_are_kept_and_known_by_their_key_and_machine(tmp_path):
    path = tmp_path / "rows.csv"
    rows = Rows(path, ("name", "batch"), ("milliseconds",), "cpu")
    assert ("a", 2) not in rows
    rows.add(("a", 2), ("1.5",))
    rows.add(("b", 2), ("2.5",))
    again = Rows(path, ("name", "batch"), ("milliseconds",), "cpu")
    assert ("a", 2) in again and ("a", 3) not in again
    again.add(("a", 2), ("1.25",))
    elsewhere = Rows(path, ("name", "batch"), ("milliseconds",), "cpu")
    elsewhere.about = elsewhere.about | {"torch": "9"}
    assert ("a", 2) not in elsewhere
    elsewhere.add(("a", 2), ("9",))
    with path.open(newline="") as file:
        found = [(row["name"], row["milliseconds"], row["torch"]) for row in csv.DictReader(file)]
    assert found == [("b", "2.5", torch.__version__), ("a", "1.25", torch.__version__), ("a", "9", "9")]


def test_the_list_for_a_gpu_skips_what_is_finished_and_ends_when_nothing_works(tmp_path):
    calls, broken = [], {"two"}

    def run(command):
        calls.append(command)
        return command in broken

    finished = tmp_path / "finished.csv"
    assert gpu.go_on(("one", "two", "three"), MACHINE, finished, run) == ["two"]
    broken.clear()
    assert gpu.go_on(("one", "two", "three"), MACHINE, finished, run) == []
    assert calls == ["one", "two", "three", "two"]
    broken.add("one")
    assert gpu.go_on(("one", "two", "three"), MACHINE | {"driver": "2"}, finished, run) == ["one"]
    assert calls[4:] == ["one"]


def test_rows_written_on_a_gpu_name_the_machine(tmp_path):
    path = tmp_path / "speed.csv"
    path.write_text("layer,torch\na,2.11\n")
    gpu.add_machine([path], MACHINE)
    assert path.read_text().splitlines() == ["layer,torch,hardware,driver,triton", "a,2.11,a GPU,1,3"]


class OnlyTorch(TorchDispatchMode):
    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        assert op.namespace != "fastgan", op
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["dcgan", "sngan", "sagan", "wgan_gp", "r3gan", "biggan"])
def test_a_twin_on_torchs_layers_has_the_same_numbers(name):
    torch.manual_seed(0)
    pair = fastgan.models.create(name, channels=3, resolution=32, width=4)
    for network, x in (
        (pair.generator, torch.randn(4, pair.generator.z_dim)),
        (pair.discriminator, torch.randn(4, 3, 32, 32)),
    ):
        ours = copy.deepcopy(network).double().train()
        twin = torch_twin(ours)
        with OnlyTorch():
            found = twin(x.double())
        expected = ours(x.double())
        torch.testing.assert_close(found, expected)
        found.square().sum().backward()
        expected.square().sum().backward()
        for (key, p), q in zip(twin.named_parameters(), ours.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, msg=key)
