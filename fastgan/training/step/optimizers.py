"""The two optimisers, each with its own learning rate: TTUR (Heusel et al., 2017)."""

import torch


def make_optimizers(generator, discriminator, recipe) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
    """-> (the generator's, the discriminator's)"""
    return (
        _optimizer(generator, recipe.generator_lr, recipe),
        _optimizer(discriminator, recipe.discriminator_lr, recipe),
    )


def set_rates(state, recipe):
    """What schedules may change: learning rates, betas and eps. Each rollback halves the rates."""
    share = 0.5**state.rollbacks
    for optimizer, lr in (
        (state.generator_optimizer, recipe.generator_lr),
        (state.discriminator_optimizer, recipe.discriminator_lr),
    ):
        for group in optimizer.param_groups:
            group["lr"] = lr * share
            if "betas" in group:
                group["betas"] = (float(recipe.betas[0]), float(recipe.betas[1]))
            if "eps" in group:
                group["eps"] = recipe.eps


def trained_by(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """The parameters of an optimiser. To walk a network's modules for them would take longer at each step."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizer(network, lr, recipe):
    parameters = [p for p in network.parameters() if p.requires_grad]
    fused = all(p.device.type in ("cpu", "cuda") for p in parameters)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, fused=fused)
    if recipe.optimizer == "rmsprop":  # has no fused form
        return torch.optim.RMSprop(parameters, lr, eps=recipe.eps, foreach=True)
    return torch.optim.Adam(parameters, lr, (float(recipe.betas[0]), float(recipe.betas[1])), recipe.eps, fused=fused)
