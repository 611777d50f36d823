"""DistributedDataParallel: the gradients of two processes are those of one on the whole batch."""

import copy
import os
import sys
from pathlib import Path
from unittest import mock

import torch
import torch.multiprocessing
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fastgan import losses
from fastgan.penalties import DRAGAN, R1, R2, LeCam, evaluate

ROOT = Path(__file__).parents[2]
WORLD = 2


def loss_of(critic, real, fake):
    lecam = LeCam(0.5)  # whose averages are those of the whole batch
    states = ({}, {}, {}, lecam.initial_state())
    found = evaluate((R1(2.0), R2(2.0), PointPenalty(), lecam), critic, real, fake, states=states)
    adversarial = losses.get("non_saturating").discriminator(found.real_logits, found.fake_logits)
    return adversarial + sum(value for value, _ in found.terms)


class PointPenalty:
    """WGAN-GP at the midpoints: without a draw, which each process would make for itself."""

    def __call__(self, critic, *, real, fake):
        x = torch.lerp(fake, real, 0.5).requires_grad_()
        return 10 * R1(1.0, allow_coupled=True)(critic, real=x, fake=fake)


def shift_of(real):
    """DRAGAN's by its code where all that it draws is 1: half of the standard deviation."""
    with mock.patch.object(torch, "rand", lambda shape, generator=None, **kw: torch.ones(shape, **kw)):
        return (DRAGAN(variant="code").draw(real, None) - real).detach()


def differentiate(rank, folder, shared, batches):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    model = copy.deepcopy(shared)  # what spawn hands over lies in memory that both processes write to
    half = [batch.chunk(WORLD)[rank] for batch in batches]
    parallel = DistributedDataParallel(model)  # it reduces gradients for as long as it lives
    loss_of(parallel, *half).backward()
    torch.save([*(p.grad for p in model.parameters()), shift_of(half[0])], folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # all is saved; on a busy machine gloo's threads can abort a process that shuts down in the usual way


def test_two_processes_equal_one_on_the_whole_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])  # where the processes find this file, before others' tests
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0)).double()
    batches = torch.randn(2, 6, 2, 6, 6, dtype=torch.float64)
    torch.multiprocessing.spawn(differentiate, args=(tmp_path, critic, batches), nprocs=WORLD)
    loss_of(critic, *batches).backward()
    for rank in range(WORLD):
        *gradients, shift = torch.load(tmp_path / f"{rank}.pt")
        for got, parameter in zip(gradients, critic.parameters(), strict=True):
            torch.testing.assert_close(got, parameter.grad, rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(shift, (batches[0].std(correction=0) / 2).expand_as(shift))
