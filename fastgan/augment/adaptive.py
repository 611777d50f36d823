"""Adaptive discriminator augmentation (Karras et al., 2020, section 3): p follows the critic's overfitting."""

from dataclasses import dataclass

import torch

from fastgan import processes


@dataclass(frozen=True)
class AdaptiveProbability:
    """Raises p where r_t = E sign(D(real)) is above `target`, lowers it where below, within [0, 1].

    Every `every` observations p moves by the number of real images seen since, over `images`: from 0 to 1 takes at
    least `images` images. The state is a dict of 0-d float64 tensors, changed in place; a checkpoint may hold it.
    """

    target: float = 0.6
    every: int = 4
    images: int = 500_000

    def __post_init__(self) -> None:
        if not -1 <= self.target <= 1:
            raise ValueError(f"target must lie in [-1, 1], got {self.target}")
        if self.every < 1 or self.images < 1:
            raise ValueError(f"every and images must be at least 1, got {self.every} and {self.images}")

    def initial_state(self, device: torch.device | str | None = None) -> dict[str, torch.Tensor]:
        names = ("p", "observations", "seen", "signs")
        return {name: torch.zeros((), dtype=torch.float64, device=device) for name in names}

    @torch.no_grad()
    def observe(self, state: dict[str, torch.Tensor], real_logits: torch.Tensor) -> None:
        """real_logits (B, ...): the critic's word on one batch of (augmented) real images, some for each;
        of several processes each its part."""
        signs = real_logits.detach().sign().flatten(1) if real_logits.ndim > 1 else real_logits.sign().unsqueeze(1)
        count = len(real_logits) * processes.world()
        state["signs"] += processes.mean(signs.double().mean()) * count
        state["seen"] += count
        state["observations"] += 1
        due = state["observations"] % self.every == 0  # a tensor: no wait for the device
        step = torch.sign(state["signs"] / state["seen"] - self.target) * state["seen"] / self.images
        state["p"].copy_(torch.where(due, (state["p"] + step).clamp(0, 1), state["p"]))
        for name in ("seen", "signs"):
            state[name].mul_(~due)
