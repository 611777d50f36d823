"""DistributedDataParallel: two forwards before a backward, with the buffers broadcast in between."""

import copy
import os
import sys
from pathlib import Path

import torch
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations

import fastgan

ROOT = Path(__file__).parents[2]
WORLD = 2


def train(rank, folder, shared, batches):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    unfused = copy.deepcopy(shared)  # what spawn hands over lies in memory that both processes write to
    theirs = type(unfused)(parametrizations.spectral_norm, torch.float64)
    theirs.load_state_dict(unfused.state_dict())
    fused = fastgan.nn.fuse_spectral_norm(copy.deepcopy(unfused))
    states = []
    for model in (theirs, unfused, fused):
        parallel = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        for real, fake in batches[rank]:
            optimizer.zero_grad()
            (parallel(*real) - parallel(*fake)).square().mean().backward()
            optimizer.step()
        states.append(model.state_dict())
    torch.save(states, folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # all is saved; on a busy machine gloo's threads can abort a process that shuts down in the usual way


def test_ddp_with_two_forwards_before_a_backward(critic, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])  # where the processes find this file, before others' tests
    generator = torch.Generator().manual_seed(0)

    def batch():
        x = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=generator)
        return x, torch.randint(10, (4,), generator=generator)

    batches = [[(batch(), batch()) for _ in range(3)] for _ in range(WORLD)]
    torch.multiprocessing.spawn(train, args=(tmp_path, critic(), batches), nprocs=WORLD)
    states = [torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD)]
    theirs = states[0][0]
    for key, expected in theirs.items():
        for state in (*states[0], *states[1]):
            assert torch.allclose(state[key], expected, rtol=1e-9, atol=1e-12), key
    assert not torch.equal(theirs["plain.weight"], critic().plain.weight)  # it did train
