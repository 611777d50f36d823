import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastgan.data import Order, TensorData
from fastgan.data.batches import batches

SIZES = st.integers(1, 40)


@given(SIZES, SIZES, st.integers(0, 2**40), st.integers(0, 50))
@settings(deadline=None)
def test_a_batch_depends_on_seed_and_number_alone(size, batch_size, seed, k):
    asked_in_order = Order(size, batch_size, seed)
    for number in range(k):
        asked_in_order.batch(number)
    assert torch.equal(asked_in_order.batch(k), Order(size, batch_size, seed).batch(k))


@given(SIZES, SIZES)
@settings(deadline=None)
def test_every_epoch_sees_every_sample_once(size, batch_size):
    order = Order(size, batch_size, 0)
    batch_list = [order.batch(k) for k in range(size)]
    assert all(len(batch) == batch_size for batch in batch_list)
    for epoch in torch.cat(batch_list).split(size):
        assert sorted(epoch.tolist()) == list(range(size))


def test_epochs_and_seeds_differ():
    assert not torch.equal(Order(100, 100, 0).batch(0), Order(100, 100, 0).batch(1))
    assert not torch.equal(Order(100, 100, 0).batch(0), Order(100, 100, 1).batch(0))


def test_prefetched_batches_come_in_order_and_bring_their_errors():
    class Slow(TensorData):
        prefetch = 2

        def batch(self, indices):
            if 7 in indices:
                raise ValueError("sample 7")
            return super().batch(indices)

    data = TensorData(torch.arange(20.0).view(10, 2))
    order = Order(10, 1, 0)
    ahead, plain = batches(Slow(data.samples), order), batches(data, order)
    where = torch.cat([order.batch(k) for k in range(10)]).tolist().index(7)
    for _ in range(where):
        assert torch.equal(next(ahead)[0], next(plain)[0])
    try:
        next(ahead)
    except ValueError as error:
        assert str(error) == "sample 7"
    else:
        raise AssertionError("no error")


def test_batches_start_where_asked():
    data, order = TensorData(torch.arange(20.0).view(10, 2)), Order(10, 3, 5)
    stream = batches(data, order)
    for _ in range(4):
        next(stream)
    assert torch.equal(next(stream)[0], next(batches(data, order, start=4))[0])
