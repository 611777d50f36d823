"""One update of either network, and their order in a step."""

from contextlib import nullcontext

import torch

from fastgan.models.sampling import generate
from fastgan.nn.modes import frozen
from fastgan.nn.pack import pack
from fastgan.training.step.unroll import unrolled_generator_loss


def alternating(
    state, objective, discriminator_steps, next_batch, next_latents, generator_steps=1, parts=1, unroll=None
):
    """A step: `discriminator_steps` updates of the critic, each on a fresh batch, then those of the generator.

    next_batch() -> real, condition (or None); next_latents() -> z. The generator gets the condition of the last batch;
    its loss, where it compares with real samples, gets that batch. parts: that a batch is cut into. unroll: keywords of
    unrolled_generator_loss. Returns the numbers to log, as detached tensors.
    """
    for _ in range(discriminator_steps):
        real, condition = next_batch()
        values = update_discriminator(state, objective, real, condition, next_latents(), parts)
    for _ in range(generator_steps):
        values = values | update_generator(state, objective, real, condition, next_latents(), parts, unroll)
    return values


def simultaneous(state, objective, discriminator_steps, next_batch, next_latents, unroll=None):
    """A step in which both networks answer each other's old weights, on the same samples, after discriminator_steps - 1
    updates of the critic alone."""
    for _ in range(discriminator_steps - 1):
        real, condition = next_batch()
        update_discriminator(state, objective, real, condition, next_latents())
    (real, condition), z = next_batch(), next_latents()
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    state.generator_optimizer.zero_grad(set_to_none=True)
    fake = generate(state.generator, z, condition)
    values = _discriminator_gradients(state, objective, real, fake.detach(), condition)
    values |= _generator_gradients(state, objective, real, fake, condition, z, unroll)
    _step_discriminator(state, objective)
    state.generator_optimizer.step()
    return values


def update_discriminator(state, objective, real, condition, z, parts=1):
    state.discriminator_optimizer.zero_grad(set_to_none=True)
    for real_part, condition_part, z_part in _parts(parts, real, condition, z):
        with torch.no_grad():  # the critic's update needs no graph of the generator
            fake = generate(state.generator, z_part, condition_part)
        values = _discriminator_gradients(state, objective, real_part, fake, condition_part, 1 / parts)
    _step_discriminator(state, objective)
    return values


def update_generator(state, objective, real, condition, z, parts=1, unroll=None):
    state.generator_optimizer.zero_grad(set_to_none=True)
    for real_part, condition_part, z_part in _parts(parts, real, condition, z):
        fake = generate(state.generator, z_part, condition_part)
        values = _generator_gradients(state, objective, real_part, fake, condition_part, z_part, unroll, 1 / parts)
    state.generator_optimizer.step()
    return values


def _discriminator_gradients(state, objective, real, fake, condition, share=1.0):
    critic = objective.critic(state.discriminator, condition)
    total, values = objective.discriminator(critic, pack(real, objective.pack), pack(fake, objective.pack))
    (total if share == 1 else total * share).backward()
    return _detach(values)


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


def _step_discriminator(state, objective):
    objective.constrain(state.discriminator, "before")
    state.discriminator_optimizer.step()
    objective.constrain(state.discriminator, "after")


def _parts(count, *tensors):
    if count == 1:
        return [tensors]
    return zip(*([None] * count if t is None else t.chunk(count) for t in tensors), strict=True)


def _detach(values):
    return {name: value.detach() for name, value in values.items()}
