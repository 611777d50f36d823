"""One update of either network, and their order in a step."""

import torch

from fastgan.training.critic import Critic, frozen


def alternating(state, objective, discriminator_steps, next_batch, next_latents):
    """A step: `discriminator_steps` updates of the critic, each on a fresh batch, then one of the generator.

    next_batch() -> real, labels (or None); next_latents() -> z. The generator gets the labels of the last batch; its
    loss, where it compares with real samples, gets that batch. Returns the numbers to log, as detached tensors.
    """
    for _ in range(discriminator_steps):
        real, labels = next_batch()
        values = update_discriminator(state, objective, real, labels, next_latents())
    return values | update_generator(state, objective, real, labels, next_latents())


def update_discriminator(state, objective, real, labels, z):
    with torch.no_grad():  # the critic's update needs no graph of the generator
        fake = generate(state.generator, z, labels)
    total, values = objective.discriminator(Critic(state.discriminator, labels), real, fake)
    _descend(state.discriminator_optimizer, total)
    return _detach(values)


def update_generator(state, objective, real, labels, z):
    with frozen(state.discriminator):
        fake = generate(state.generator, z, labels)
        total, values = objective.generator(Critic(state.discriminator, labels), fake, real)
        _descend(state.generator_optimizer, total)
    return _detach(values)


def generate(generator, z, labels=None):
    return generator(z) if labels is None else generator(z, labels)


def _descend(optimizer, total):
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    optimizer.step()


def _detach(values):
    return {name: value.detach() for name, value in values.items()}
