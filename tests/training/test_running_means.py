import pytest
import torch

from fastgan import Recipe, losses
from fastgan.training.step.ema import MovingAverage
from fastgan.training.step.objective import Objective
from fastgan.training.step.running_means import Diverged, RunningMeans
from fastgan.training.step.state import TrainState
from fastgan.training.step.updates import alternating


def test_means_since_the_last_time():
    tally = RunningMeans()
    for step, value in enumerate([1.0, 2.0, 6.0]):
        tally.add(step, {"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert tally.take() == {"a": 3, "b": -3}
    tally.add(3, {"a": torch.tensor(5.0), "b": torch.tensor(0.0)})
    assert tally.take() == {"a": 5, "b": 0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_step_is_named(bad):
    tally = RunningMeans()
    for step in range(10):
        g_loss = bad if step in (4, 6) else 0.0
        d_loss = bad if step >= 5 else 0.0
        tally.add(step, {"d_loss": torch.tensor(d_loss), "g_loss": torch.tensor(g_loss)})
    for ask in (tally.check, tally.take):
        with pytest.raises(Diverged, match="step 4: g_loss is not finite"):
            ask()


def test_a_step_waits_for_no_number(toy, monkeypatch):
    """On a GPU each of these would stop the processor until the device has caught up."""
    state = TrainState.create(*toy.pair(), Recipe())
    tally, objective = RunningMeans(), Objective(losses.get("hinge"))

    def step(number):
        values = alternating(
            state,
            objective,
            discriminator_steps=2,
            next_batch=lambda: (torch.randn(4, 2), None),
            next_latents=lambda: torch.randn(4, 3),
        )
        MovingAverage(state.average, state.generator).update(0.9, number)
        tally.add(number, values)

    step(1)
    with monkeypatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):

            def refuse(self, *args, name=name):
                raise AssertionError(f"Tensor.{name} in a step")

            patched.setattr(torch.Tensor, name, refuse)
        step(2)
    tally.take()
