"""One update of either network, and their order in a step."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn

from fastgan.nn.modes import frozen
from fastgan.nn.pack import pack
from fastgan.training.distributed import average_gradients
from fastgan.training.step.objective import Objective
from fastgan.training.step.optimizers import trained_by
from fastgan.training.step.precision import step_optimizer
from fastgan.training.step.state import TrainState
from fastgan.training.step.unroll import unrolled_generator_loss

Values = dict[str, torch.Tensor]
Batch = tuple[torch.Tensor, torch.Tensor | None]


def eagerly(
    player: str,
    networks: Sequence[nn.Module],
    gradients: Callable[..., tuple[Values, torch.Tensor | None]],
    *tensors: torch.Tensor | None,
) -> tuple[Values, torch.Tensor | None]:
    """How an update computes its gradients: `graphs.Graphs` is the other way.

    gradients(*tensors) -> (numbers to log, logits of real samples or None): a function of the state and the tensors
    that adds the gradients to the parameters of the networks. The caller has set these to None.
    """
    return gradients(*tensors)


def alternating(
    state: TrainState,
    objective: Objective,
    *,
    next_batch: Callable[[], Batch],
    next_latents: Callable[[], torch.Tensor],
    discriminator_steps: int = 1,
    generator_steps: int = 1,
    parts: int = 1,
    unroll: dict[str, Any] | None = None,
    compute: Callable[..., Any] = eagerly,
) -> Values:
    """A step: `discriminator_steps` updates of the critic, each on a fresh batch, then those of the generator.

    next_batch() -> real, condition (or None); next_latents() -> z. The generator gets the condition of the last batch;
    its loss, if the loss compares with real samples, gets that batch. parts: that a batch is cut into. unroll: keywords
    of unrolled_generator_loss. compute: as `eagerly`. Returns the numbers to log, as detached tensors.
    """
    for _ in range(discriminator_steps):
        real, condition = next_batch()
        values = update_discriminator(state, objective, real, condition, next_latents(), parts, compute)
    for _ in range(generator_steps):
        z = next_latents()
        values = values | update_generator(state, objective, real, condition, z, parts, unroll, compute)
    return values


def simultaneous(
    state: TrainState,
    objective: Objective,
    *,
    next_batch: Callable[[], Batch],
    next_latents: Callable[[], torch.Tensor],
    discriminator_steps: int = 1,
    unroll: dict[str, Any] | None = None,
    compute: Callable[..., Any] = eagerly,
) -> Values:
    """A step in which both networks meet each other's old weights, on the same samples, after discriminator_steps - 1
    updates of the critic alone.

    The critic's update may find the critic's gradient at the fakes (`penalties.backward`). If the generator's loss is
    the adversarial one alone, then the generator's gradient needs no further pass of the critic.
    """
    for _ in range(discriminator_steps - 1):
        real, condition = next_batch()
        update_discriminator(state, objective, real, condition, next_latents(), compute=compute)
    (real, condition), z = next_batch(), next_latents()
    reuse = objective.generator_is_adversarial and not unroll

    def gradients(real, condition, z):
        fake = objective.generate(state.generator, z, condition)
        values, logits, found = _discriminator_gradients(
            state, objective, real, fake.detach(), condition, keep_fake_gradient=reuse
        )
        if reuse and found is not None and found.fake_gradient is not None:
            values |= _generator_gradients_from(found, pack(fake, objective.pack), state.scalers.get("generator"))
        else:
            values |= _generator_gradients(state, objective, real, fake, condition, z, unroll)
        return values, logits

    _forget_gradients(state.discriminator_optimizer, state.generator_optimizer)
    networks = (state.discriminator, state.generator)
    values, real_logits = compute("both", networks, gradients, real, condition, z)
    return values | _step_discriminator(state, objective, real_logits) | _step_generator(state)


def update_discriminator(
    state: TrainState,
    objective: Objective,
    real: torch.Tensor,
    condition: torch.Tensor | None,
    z: torch.Tensor,
    parts: int = 1,
    compute: Callable[..., Any] = eagerly,
) -> Values:
    def part(real, condition, z):
        with torch.no_grad():  # the critic's update needs no graph of the generator
            fake = objective.generate(state.generator, z, condition)
        return _discriminator_gradients(state, objective, real, fake, condition, 1 / parts)[:2]

    def gradients(real, condition, z):
        found = _each_part(part, parts, objective.memory, real, condition, z)
        logits = [of_part for _, of_part in found if of_part is not None]
        return _whole([values for values, _ in found]), torch.cat(logits) if len(logits) > 1 else (logits or [None])[0]

    _forget_gradients(state.discriminator_optimizer)
    networks = (state.discriminator, state.generator)
    values, real_logits = compute("discriminator", networks, gradients, real, condition, z)
    return values | _step_discriminator(state, objective, real_logits)


def update_generator(
    state: TrainState,
    objective: Objective,
    real: torch.Tensor,
    condition: torch.Tensor | None,
    z: torch.Tensor,
    parts: int = 1,
    unroll: dict[str, Any] | None = None,
    compute: Callable[..., Any] = eagerly,
) -> Values:
    def part(real, condition, z):
        fake = objective.generate(state.generator, z, condition)
        return _generator_gradients(state, objective, real, fake, condition, z, unroll, 1 / parts)

    def gradients(real, condition, z):
        return _whole(_each_part(part, parts, objective.memory, real, condition, z)), None

    _forget_gradients(state.generator_optimizer)
    values, _ = compute("generator", (state.discriminator, state.generator), gradients, real, condition, z)
    return values | _step_generator(state)


def _forget_gradients(*optimizers):
    for optimizer in optimizers:
        for p in trained_by(optimizer):  # zero_grad does the same, and notes itself in profiles: 3 % of a tiny step
            p.grad = None


def _discriminator_gradients(state, objective, real, fake, condition, share=1.0, keep_fake_gradient=False):
    """-> (values, logits of real, penalties.Gradients or None)"""
    critic = objective.critic(state.discriminator, condition)
    batches = pack(real, objective.pack), pack(fake, objective.pack)
    scaler = state.scalers.get("discriminator")
    return objective.add_discriminator_gradients(critic, *batches, share, keep_fake_gradient, scaler)


def _generator_gradients_from(found, fake, scaler):
    """Without a pass of the critic: the critic's update has found the critic's gradient at these samples."""
    value, cotangent = found.generator_cotangent()
    fake.backward(cotangent if scaler is None else scaler.scale(cotangent))
    return {"g_loss": value}


def _generator_gradients(state, objective, real, fake, condition, z, unroll=None, share=1.0):
    context = {"generator": state.generator, "latents": z, "condition": condition}
    real, fake = pack(real, objective.pack), pack(fake, objective.pack)
    scaler = state.scalers.get("generator")
    with nullcontext() if unroll else frozen(trained_by(state.discriminator_optimizer)):
        if unroll:
            players = (objective, state.discriminator, state.discriminator_optimizer, fake, real)
            total, values = unrolled_generator_loss(*players, condition=condition, context=context, **unroll)
        else:
            total, values = objective.generator(objective.critic(state.discriminator, condition), fake, real, **context)
        total = total if share == 1 else total * share
        (total if scaler is None else scaler.scale(total)).backward()
    return _detach(values)


def _step_discriminator(state, objective, real_logits):
    average_gradients(state.discriminator)
    objective.constrain(state.discriminator, "before")
    scaler = state.scalers.get("discriminator")
    logged = step_optimizer(state.discriminator_optimizer, scaler, "d", state.discriminator)
    objective.constrain(state.discriminator, "after")
    if objective.observe is not None:
        objective.observe(real_logits)
    return logged


def _step_generator(state):
    average_gradients(state.generator)
    return step_optimizer(state.generator_optimizer, state.scalers.get("generator"), "g", state.generator)


def _each_part(update, count, memory, *tensors):
    """update(*tensors) of each part of the batch; -> the list of what it returns.

    The memory is that of one update with the whole batch. Each part starts from the memory before the update, and the
    mean of what the parts make of it stays: for a moving average, the one moved by the mean of the whole batch.
    """
    if count == 1:
        return [update(*tensors)]
    before, moved, found = _copy(memory), [], []
    for part in zip(*([None] * count if t is None else t.chunk(count) for t in tensors), strict=True):
        _fill(memory, before)
        found.append(update(*part))
        moved.append(_copy(memory))
    for name, entries in (memory or {}).items():
        for key, value in entries.items():
            value.copy_(torch.stack([of_part[name][key] for of_part in moved]).mean(0))
    return found


def _copy(memory):
    return {name: {key: value.clone() for key, value in entries.items()} for name, entries in (memory or {}).items()}


def _fill(memory, values):
    for name, entries in values.items():
        for key, value in entries.items():
            memory[name][key].copy_(value)


def _whole(of_parts):
    """The numbers of the whole batch from those of its equal parts: their mean; of a largest value, the largest."""
    if len(of_parts) == 1:
        return of_parts[0]
    stacked = {name: torch.stack([values[name] for values in of_parts]) for name in of_parts[0]}
    return {name: values.amax(0) if name.endswith("_max") else values.mean(0) for name, values in stacked.items()}


def _detach(values):
    return {name: value.detach() for name, value in values.items()}
