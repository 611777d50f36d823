"""The two optimisers, each with its own learning rate: TTUR (Heusel et al., 2017)."""

import torch


def make_optimizers(generator, discriminator, recipe):
    """-> (the generator's, the discriminator's)"""
    return (
        _adam(generator, recipe.generator_lr, recipe.betas),
        _adam(discriminator, recipe.discriminator_lr, recipe.betas),
    )


def _adam(network, lr, betas):
    parameters = [p for p in network.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    return torch.optim.Adam(parameters, lr, tuple(float(b) for b in betas), fused=fused)
