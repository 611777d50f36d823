"""Path length regularisation (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020)."""

from dataclasses import dataclass

import torch
from torch import nn

from fastgan import processes, randomness
from fastgan.ops import grad_norm_penalty
from fastgan.penalties.terms import CriticFunction, GeneratorTerm, Measured, State, move_averages


@dataclass(frozen=True)
class PathLength(GeneratorTerm):
    """weight * mean_i (|J_i^T y_i| - a)^2, J_i = d fake_i / d latents_i, y ~ N(0, I) / sqrt(pixels) (section 3.2).

    a: the moving average of the lengths, moved first, a <- decay * a + (1 - decay) * mean, starting at the first mean;
        a constant for the gradient. The mean is over the batches of all processes. State: "average", "updates", 0-d.
    Where latents require grad and fake was made from them, fake's graph serves; else the generator runs on them again.
    rng in measure(...): a torch.Generator for y. Diagnostics: "path_length", "path_length_average".
    """

    weight: float = 2.0
    decay: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require("weight")
        if not 0 <= self.decay < 1:
            self._refuse("decay", "a number in [0, 1)")

    def initial_state(self) -> State:
        return {"average": torch.zeros(()), "updates": torch.zeros(())}

    def measure(
        self,
        critic: CriticFunction | None = None,
        *,
        real: torch.Tensor | None = None,
        fake: torch.Tensor | None = None,
        generator: nn.Module | None = None,
        latents: torch.Tensor | None = None,
        condition: torch.Tensor | None = None,
        state: State | None = None,
        rng: torch.Generator | None = None,
    ) -> Measured:
        if not state:
            raise ValueError("PathLength remembers an average: pass state=, a dict from its initial_state()")
        (latents,) = self._need(latents=latents)
        images = fake if latents.requires_grad else None
        if images is None:
            (network,) = self._need(generator=generator)
            latents = latents.detach().requires_grad_()
            images = network(latents) if condition is None else network(latents, condition)
        with torch.autocast(images.device.type, enabled=False):
            noise = randomness.of_batch(
                torch.randn, images.shape, generator=rng, device=images.device, dtype=images.dtype
            )
            pixels = max(1, images[0, 0].numel()) if images.dim() > 2 else 1
            (gradient,) = torch.autograd.grad(
                images, latents, noise / pixels**0.5, create_graph=True, allow_unused=True
            )
            if gradient is None:
                raise ValueError("fake must depend on latents for PathLength, but has no gradient with respect to them")
            _, lengths = grad_norm_penalty(gradient, return_norms=True)
        mean = processes.mean(lengths.detach().mean())
        (average,) = move_averages(state, self.decay, average=mean)
        average = average.to(mean)
        value = self.weight * (lengths - average).square().mean()
        return value, {"path_length": mean, "path_length_average": average}
