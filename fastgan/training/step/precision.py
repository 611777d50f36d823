"""In which numbers a step computes (Micikevicius et al., "Mixed Precision Training", 2018)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.amp import GradScaler

NAMES = ("fp32", "tf32", "bf16", "fp16")
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
AMPERE = 8  # the first generation of NVIDIA's GPUs that computes in TF32 and in bfloat16


@dataclass(frozen=True)
class Precision:
    """name: "fp32"; "tf32", products of fp32 on a GPU with operands of 10 bits; "bf16", "fp16", autocast.

    Autocast is around the networks alone: losses, penalties, augmentation, optimisers and the average are fp32. With
    fp16, each network's gradients are scaled by a GradScaler of its own.
    Errors: ValueError for a device that cannot compute so.
    """

    name: str
    device: torch.device

    def __post_init__(self) -> None:
        if reason := self._lacks():
            raise ValueError(f'precision="{self.name}" {reason}; use precision="fp32"')

    def _lacks(self):
        kind, cuda = self.device.type, self.device.type == "cuda"
        if self.name == "tf32" and not (cuda and torch.cuda.get_device_capability(self.device)[0] >= AMPERE):
            return f"needs an NVIDIA GPU of compute capability {AMPERE} or newer, got the device {str(self.device)!r}"
        if self.name == "bf16" and cuda and torch.cuda.get_device_capability(self.device)[0] < AMPERE:
            return f"needs a GPU of compute capability {AMPERE} or newer, got {torch.cuda.get_device_name(self.device)}"
        if self.name in AUTOCAST and not torch.amp.is_autocast_available(kind):
            return f"needs a device with autocast, got {str(self.device)!r}"
        return None

    @property
    def autocast(self) -> torch.dtype | None:
        """The dtype of autocast around the networks, or None."""
        return AUTOCAST.get(self.name)

    def scalers(self, names: tuple[str, ...]) -> dict[str, GradScaler]:
        """A GradScaler for each of the names with fp16; else none."""
        return {name: GradScaler(self.device.type) for name in names} if self.name == "fp16" else {}

    @contextmanager
    def switched(self) -> Iterator[None]:
        """Inside the block, products of fp32 matrices on a GPU are TF32 with "tf32", and exact with every other name.

        Afterwards torch's switches are as they were.
        """
        if self.device.type != "cuda":
            yield
            return
        matmul: Any = torch.backends.cuda.matmul
        cudnn: Any = torch.backends.cudnn
        switches, older = (matmul, cudnn.conv, cudnn.rnn), (matmul, cudnn)
        before, older_before = [switch.fp32_precision for switch in switches], [_older(switch) for switch in older]
        tf32 = self.name == "tf32"
        try:
            # The older switches too, and first: torch raises when it reads an older one that contradicts a newer one.
            for switch in older:
                switch.allow_tf32 = tf32
            for switch in switches:
                switch.fp32_precision = "tf32" if tf32 else "ieee"
            yield
        finally:
            for switch, value in zip(older, older_before, strict=True):
                if value is not None:
                    switch.allow_tf32 = value
            for switch, value in zip(switches, before, strict=True):
                switch.fp32_precision = value


def _older(switch):
    """The value of an older switch; None for one that the caller's newer ones contradict."""
    try:
        return switch.allow_tf32
    except RuntimeError:
        return None


def step_optimizer(
    optimizer: torch.optim.Optimizer, scaler: GradScaler | None, prefix: str, network: nn.Module
) -> dict[str, torch.Tensor]:
    """The optimiser's step, from scaled gradients if there is a scaler. -> the numbers to log.

    A step whose gradients are not finite is skipped, and halves the scale: `<prefix>_skipped` is 1 then, else 0.
    """
    if scaler is None:
        optimizer.step()
        return {}
    one = torch.ones((), device=next(network.parameters()).device)
    scale = scaler.scale(one)
    scaler.step(optimizer)
    scaler.update()
    return {f"{prefix}_scale": scale, f"{prefix}_skipped": (scaler.scale(one) < scale).float()}
