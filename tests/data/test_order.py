import multiprocessing
import os
import signal

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import Order, TensorData
from fastgan.data.batches import batches

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.integers(0, 2**40), st.integers(0, 50))
@settings(deadline=None)
def test_a_batch_depends_on_seed_and_position_alone(size, batch_size, seed, k):
    for replacement in (False, True):
        asked_in_order = Order(size, seed, replacement)
        for number in range(k):
            asked_in_order.take(number * batch_size, batch_size)
        position = k * batch_size
        again = Order(size, seed, replacement).take(position, batch_size)
        assert torch.equal(asked_in_order.take(position, batch_size), again)


@given(SIZES, SIZES)
@settings(deadline=None)
def test_every_epoch_sees_every_sample_once(size, batch_size):
    order = Order(size, 0)
    batch_list = [order.take(k * batch_size, batch_size) for k in range(size)]
    assert all(len(batch) == batch_size for batch in batch_list)
    for epoch in torch.cat(batch_list).split(size):
        assert sorted(epoch.tolist()) == list(range(size))


def test_epochs_and_seeds_differ():
    for replacement in (False, True):
        first = Order(100, 0, replacement).take(0, 100)
        assert not torch.equal(first, Order(100, 0, replacement).take(100, 100))
        assert not torch.equal(first, Order(100, 1, replacement).take(0, 100))


def test_batches_may_be_of_different_sizes():
    order = Order(10, 3)
    whole = order.take(0, 30)
    assert torch.equal(torch.cat([order.take(0, 7), order.take(7, 1), order.take(8, 22)]), whole)


def test_workersed_batches_come_in_order_and_bring_their_errors():
    class Slow(TensorData):
        workers = 2

        def batch(self, indices):
            if 7 in indices:
                raise ValueError("sample 7")
            return super().batch(indices)

    data = TensorData(torch.arange(20.0).view(10, 2))
    updates = [Order(10, 0).take(k, 1) for k in range(10)]
    ahead, plain = batches(Slow(data.samples), updates), batches(data, updates)
    where = torch.cat(updates).tolist().index(7)
    for _ in range(where):
        assert torch.equal(next(ahead)[0], next(plain)[0])
    try:
        next(ahead)
    except ValueError as error:
        assert str(error) == "sample 7"
    else:
        raise AssertionError("no error")


def test_ctrl_c_in_a_terminal_leaves_the_workers_alive():
    class Ahead(TensorData):
        workers = 1

    stream = batches(Ahead(torch.arange(20.0).view(10, 2)), (torch.tensor([k % 10]) for k in range(50)))
    next(stream), next(stream)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(worker.pid, number)
    assert [samples[0, 0].item() for samples, _ in stream] == [2.0 * (k % 10) for k in range(2, 50)]
    assert not multiprocessing.active_children()


def test_batches_end_with_the_updates():
    class Ahead(TensorData):
        workers = 2

    points, updates = torch.arange(20.0).view(10, 2), [torch.tensor([1]), torch.tensor([2, 3]), torch.tensor([4])]
    for data in (TensorData(points), Ahead(points)):
        assert [samples[:, 0].tolist() for samples, _ in batches(data, updates)] == [[2], [4, 6], [8]]
