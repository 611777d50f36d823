"""One update of either network, and their order in a step."""

from contextlib import nullcontext

import torch

from fastgan.models.sampling import generate
from fastgan.nn.modes import frozen
from fastgan.nn.pack import pack
from fastgan.training.distributed import average_gradients
from fastgan.training.step.unroll import unrolled_generator_loss


def alternating(
    state, objective, *, next_batch, next_latents, discriminator_steps=1, generator_steps=1, parts=1, unroll=None
):
    """A step: `discriminator_steps` updates of the critic, each on a fresh batch, then those of the generator.

    next_batch() -> real, condition (or None); next_latents() -> z. The generator gets the condition of the last batch;
    its loss, if the loss compares with real samples, gets that batch. parts: that a batch is cut into. unroll: keywords
    of unrolled_generator_loss. Returns the numbers to log, as detached tensors.
    """
    for _ in range(discriminator_steps):
        real, condition = next_batch()
        values = update_discriminator(state, objective, real, condition, next_latents(), parts)
    for _ in range(generator_steps):
        values = values | update_generator(state, objective, real, condition, next_latents(), parts, unroll)
    return values


def simultaneous(state, objective, *, next_batch, next_latents, discriminator_steps=1, unroll=None):
    """A step in which both networks meet each other's old weights, on the same samples, after discriminator_steps - 1
    updates of the critic alone.

    The critic's update may find the critic's gradient at the fakes (`penalties.backward`). If the generator's loss is
    the adversarial one alone, then the generator's gradient needs no further pass of the critic.
    """
    for _ in range(discriminator_steps - 1):
        real, condition = next_batch()
        update_discriminator(state, objective, real, condition, next_latents())
    (real, condition), z = next_batch(), next_latents()
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    state.generator_optimizer.zero_grad(set_to_none=True)
    fake = generate(state.generator, z, condition)
    reuse = objective.generator_is_adversarial and not unroll
    values, found = _discriminator_gradients(state, objective, real, fake.detach(), condition, keep_fake_gradient=reuse)
    if reuse and found.fake_gradient is not None:
        values |= _generator_gradients_from(found, pack(fake, objective.pack))
    else:
        values |= _generator_gradients(state, objective, real, fake, condition, z, unroll)
    _step_discriminator(state, objective, found.real_logits)
    _step_generator(state)
    return values


def update_discriminator(state, objective, real, condition, z, parts=1):
    state.discriminator_optimizer.zero_grad(set_to_none=True)

    def part(real, condition, z):
        with torch.no_grad():  # the critic's update needs no graph of the generator
            fake = generate(state.generator, z, condition)
        return _discriminator_gradients(state, objective, real, fake, condition, 1 / parts)

    found = _each_part(part, parts, objective.memory, real, condition, z)
    _step_discriminator(state, objective, torch.cat([gradients.real_logits for _, gradients in found]))
    return _whole([values for values, _ in found])


def update_generator(state, objective, real, condition, z, parts=1, unroll=None):
    state.generator_optimizer.zero_grad(set_to_none=True)

    def part(real, condition, z):
        fake = generate(state.generator, z, condition)
        return _generator_gradients(state, objective, real, fake, condition, z, unroll, 1 / parts)

    values = _whole(_each_part(part, parts, objective.memory, real, condition, z))
    _step_generator(state)
    return values


def _discriminator_gradients(state, objective, real, fake, condition, share=1.0, keep_fake_gradient=False):
    """-> (values, penalties.Gradients)"""
    critic = objective.critic(state.discriminator, condition)
    batches = pack(real, objective.pack), pack(fake, objective.pack)
    values, found = objective.add_discriminator_gradients(critic, *batches, share, keep_fake_gradient)
    return _detach(values), found


def _generator_gradients_from(found, fake):
    """Without a pass of the critic: the critic's update has found the critic's gradient at these samples."""
    value, cotangent = found.generator_cotangent()
    fake.backward(cotangent)
    return {"g_loss": value}


def _generator_gradients(state, objective, real, fake, condition, z, unroll=None, share=1.0):
    context = {"generator": state.generator, "latents": z, "condition": condition}
    real, fake = pack(real, objective.pack), pack(fake, objective.pack)
    with nullcontext() if unroll else frozen(state.discriminator):
        if unroll:
            players = (objective, state.discriminator, state.discriminator_optimizer, fake, real)
            total, values = unrolled_generator_loss(*players, condition=condition, context=context, **unroll)
        else:
            total, values = objective.generator(objective.critic(state.discriminator, condition), fake, real, **context)
        (total if share == 1 else total * share).backward()
    return _detach(values)


def _step_generator(state):
    average_gradients(state.generator)
    state.generator_optimizer.step()


def _step_discriminator(state, objective, real_logits):
    average_gradients(state.discriminator)
    objective.constrain(state.discriminator, "before")
    state.discriminator_optimizer.step()
    objective.constrain(state.discriminator, "after")
    if objective.observe is not None:
        objective.observe(real_logits)


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
