"""The generator's loss against the critic that its samples lead to (Metz et al., 2017, section 2.2)."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from fastgan import processes, randomness
from fastgan.training.step.objective import Objective

ZERO_SUM = ("minimax", "wasserstein")  # there the generator maximises all of the critic's loss, its real term included


def unrolled_generator_loss(
    objective: Objective,
    discriminator: nn.Module,
    optimizer: torch.optim.Optimizer,
    fake: torch.Tensor,
    real: torch.Tensor,
    *,
    steps: int,
    condition: torch.Tensor | None = None,
    recompute: bool = False,
    context: dict[str, Any] | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L_G(fake, theta_K) with theta_{k+1} = optimizer(theta_k, grad L_D(real, fake, theta_k)), differentiated through.

    The gradient of the result with respect to what made `fake` is exact: it goes through all K updates, the moments of
    Adam included. The discriminator, its buffers and the optimiser are as they were afterwards. Under a zero-sum loss
    ("minimax", "wasserstein") the generator's loss is minus the critic's, whose real term depends on fake through
    theta_K.

    objective: a training.Objective: the losses, with penalties. real, fake: (B, ...), fake with its graph; the same
        batch serves all K updates, as in the published code. optimizer: torch's Adam (without weight decay, amsgrad) or
        SGD (without momentum), whose state the inner updates start from.
    steps: K. recompute: keep theta_k alone, O(K) of the critic's size, and compute each inner graph again in the
        backward pass; else the K graphs are kept.
    Derivatives: first order with respect to fake; every layer of the critic must differentiate twice, and three times
    under a gradient penalty, where fastgan's ops raise.
    Errors: TypeError for an optimiser that cannot be differentiated through.
    Returns: the loss, and the numbers to log.
    """
    update = _differentiable(optimizer)
    memory = {name: {k: v.clone() for k, v in entries.items()} for name, entries in (objective.memory or {}).items()}
    objective = objective._replace(observe=None, memory=memory, through_samples=True)
    names = {id(p): name for name, p in discriminator.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    trained = [name for group in groups for name in group]
    own = dict(discriminator.named_parameters())
    fixed = {name: p.detach() for name, p in own.items() if name not in trained}
    buffers = {
        name: b.clone() for name, b in discriminator.named_buffers()
    }  # batch norm's, u and v: forwards move them
    play = _Play(discriminator)

    def critic_loss(values, fake, real):
        tensors = _named(fixed | values | buffers)
        return functional_call(play, tensors, (objective, condition, "discriminator", fake, real, None))[0]

    def inner(moments, fake, real, *values):
        with torch.enable_grad():
            theta = dict(zip(trained, values, strict=True))
            total = critic_loss(theta, fake, real)
            grads = _of_all(torch.autograd.grad(total, values, create_graph=True, allow_unused=True))
            return update(theta, dict(zip(trained, grads, strict=True)), moments)

    values = [own[name].detach().clone().requires_grad_() for name in trained]
    moments = _moments(optimizer, own, trained)
    for _ in range(steps):
        if recompute:
            before = {name: b.clone() for name, b in buffers.items()}

            def again(*args, before=before):
                for name, b in before.items():
                    buffers[name] = b.clone()
                return inner(*args)

            values, moments = checkpoint(
                again, moments, fake, real, *values, use_reentrant=False, context_fn=randomness.repeated
            )
        else:
            values, moments = inner(moments, fake, real, *values)
    tensors = _named(fixed | dict(zip(trained, values, strict=True)) | buffers)
    player = "discriminator" if objective.loss.name in ZERO_SUM else "generator"
    total, logged = functional_call(play, tensors, (objective, condition, player, fake, real, context))
    if player == "discriminator":
        total = -total
        logged = {"g_loss": total}
    return total, logged


class _Play(nn.Module):
    """The objective as a module, so that penalties too find the critic's weights of step k in the critic."""

    def __init__(self, discriminator):
        super().__init__()
        self.discriminator = discriminator

    def forward(self, objective, condition, player, fake, real, context):
        critic = objective.critic(self.discriminator, condition)
        if player == "discriminator":
            return objective.discriminator(critic, real, fake)
        return objective.generator(critic, fake, real, **(context or {}))


def _of_all(gradients):
    """The gradients of the whole batch, of which each of several processes judges its part."""
    if processes.world() == 1:
        return gradients
    found = [g for g in gradients if g is not None]
    flat = processes.mean(torch.cat([g.flatten() for g in found])).split([g.numel() for g in found])
    whole = iter(part.view(g.shape) for part, g in zip(flat, found, strict=True))
    return [None if g is None else next(whole) for g in gradients]


def _named(tensors):
    return {f"discriminator.{name}": t for name, t in tensors.items()}


def _moments(optimizer, own, trained):
    """Copies of Adam's moments, zeros before its first step: per name (step, exp_avg, exp_avg_sq).

    The number of the step stays on its device, in float64, which keeps the powers of beta as exact as Python's.
    """
    if isinstance(optimizer, torch.optim.SGD):
        return None
    moments = {}
    for name in trained:
        state = optimizer.state.get(own[name], {})
        zeros = torch.zeros_like(own[name])
        step = state["step"].double() if "step" in state else torch.zeros((), dtype=torch.float64)
        m, v = state.get("exp_avg", zeros), state.get("exp_avg_sq", zeros)
        moments[name] = (step, m.detach().clone(), v.detach().clone())
    return moments


def _differentiable(optimizer):
    """update(values, grads, moments) -> (list of new values, new moments), with a graph."""
    settings = [(group, {id(p) for p in group["params"]}) for group in optimizer.param_groups]
    options = settings[0][0]
    if len(settings) != 1:
        raise TypeError("unrolling needs an optimiser with one parameter group")
    if options.get("weight_decay") or options.get("amsgrad") or options.get("momentum") or options.get("maximize"):
        raise TypeError("unrolling knows Adam and SGD without weight decay, momentum, amsgrad and maximize")
    if isinstance(optimizer, torch.optim.SGD):
        return lambda values, grads, moments: (
            [v if grads[name] is None else v - options["lr"] * grads[name] for name, v in values.items()],
            moments,
        )
    if type(optimizer) is torch.optim.Adam:
        return lambda values, grads, moments: _adam(values, grads, moments, options)
    raise TypeError(f"unrolling knows Adam and SGD, got {type(optimizer).__name__}")


def _adam(values, grads, moments, options):
    """Kingma & Ba, 2015, Algorithm 1, as torch computes it."""
    beta1, beta2 = options["betas"]
    new_values, new_moments = [], {}
    for name, value in values.items():
        g, (step, m, v) = grads[name], moments[name]
        if g is None:
            new_values.append(value)
            new_moments[name] = moments[name]
            continue
        step, m, v = step + 1, beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g.square()
        root = _root(v) / (1 - beta2**step) ** 0.5
        new_values.append(value - options["lr"] / (1 - beta1**step) * m / (root + options["eps"]))
        new_moments[name] = (step, m, v)
    return new_values, new_moments


def _root(v):
    """sqrt(v) with derivative 0 at 0, where a parameter has had no gradient yet, in place of infinity."""
    zero = v == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, v).sqrt())
