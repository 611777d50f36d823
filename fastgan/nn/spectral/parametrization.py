"""Spectral normalisation of a module's weight, as a torch parametrization (Miyato et al., 2018)."""

import threading
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from fastgan import ops
from fastgan.nn.spectral.parametrized_class import complete_class
from fastgan.nn.spectral.recomputation import Iterations
from fastgan.ops._torch_private import backward_pass

WARM_UP_ITERATIONS = 15  # as torch: u and v start close to the singular vectors


def spectral_norm(
    module: nn.Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> nn.Module:
    """Divide `module.name` by its spectral norm whenever it is read: W / sigma, sigma = u^T W v.

    A drop-in for torch.nn.utils.parametrizations.spectral_norm: the same arguments, numbers (to rounding), random
    numbers drawn, state_dict keys and errors, on fastgan.ops.spectral_norm, which differentiates twice. Beyond torch's:
    the module can be pickled, and `parametrize.remove_parametrizations` on a deepcopy leaves the original whole.

    Reading the weight in training mode iterates once more, each time; `fuse_spectral_norm` makes it once per forward.
    The weight is initialised like any other: `nn.init.orthogonal_(module.weight)`, `module.weight.data.normal_()`,
    `module.reset_parameters()` and `module.weight = tensor` change the original, and u, v follow (15 iterations).
    `b.weight = a.weight` copies a's normalised weight. To share one weight, share the parameter before spectral_norm.
    As with torch's, the gradient is `module.parametrizations.weight.original.grad`, and
    `module.parametrizations.weight.original.requires_grad_(False)` freezes the weight.

    Activation checkpointing: the recomputation does not iterate; it reads the u and v of its forward. It raises a
    RuntimeError if the layer may have iterated in between: call backward before the next training forward of the layer.
    A part that is compiled by torch.compile as well raises in training: use one of the two.

    Args:
        module: whose weight; its class becomes a subclass of what it was.
        name: of the parameter or buffer, real-valued. One dimension: W / |W|, without u and v.
        n_power_iterations: per read in training mode; none in evaluation.
        eps: lower bound of a norm that is divided by.
        dim: the output dimension; None: 1 for ConvTranspose, else 0. The others are flattened to the matrix's columns.

    dtypes: float64, float32, bfloat16, float16; sums in float32. Under autocast nothing is cast (torch's products
    are, so that its sigma is a half-precision number there): the layer casts the normalised weight itself.
    Memory format: the normalised weight has the strides of the weight.
    A weight of zeros has no spectral norm: W / sigma is NaN until the weight is set, and a warning says so.
    Errors: ValueError if `name` is not a tensor of the module, if the module is an nn.LSTM, nn.GRU or nn.RNN, and for
        n_power_iterations < 1; IndexError for dim.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, torch.Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if isinstance(module, nn.RNNBase):
        raise ValueError(
            f"{type(module).__name__} reads its weights from a list of its own, and would not see {name!r} normalised:"
            " use a cell (LSTMCell, GRUCell, RNNCell), or torch.nn.utils.spectral_norm"
        )
    if dim is None:
        dim = 1 if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
    parametrize.register_parametrization(module, name, SpectralNorm(weight, n_power_iterations, dim, eps))
    return complete_class(module)


class Ready(NamedTuple):
    """A weight that was normalised ahead of its use, and what it was computed from."""

    weight: torch.Tensor
    stamp: tuple[int | None, int] | None
    normalized: torch.Tensor


class SpectralNorm(nn.Module):
    """The parametrization W -> W / sigma; buffers _u (out,) and _v (in * kh * kw,) estimate singular vectors."""

    _u: torch.Tensor
    _v: torch.Tensor

    def __init__(self, weight: torch.Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [{-weight.ndim}, {weight.ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.n_power_iterations = n_power_iterations
        self.dim = dim % weight.ndim
        self.eps = eps
        self.ready = None  # a Ready, only during the forward of a fused model
        self.iterations = Iterations()
        if weight.ndim > 1:
            rows = weight.shape[self.dim]
            for name, size in (("_u", rows), ("_v", weight.numel() // max(rows, 1))):
                self.register_buffer(name, self._draw(weight.new_empty(size)))
            self._warm_up(weight)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        ready = self.ready  # read once: another thread may take it away
        if ready is not None and is_current(ready, weight):
            return ready.normalized
        return power_iterate([self], [weight])[0]

    @torch.no_grad()
    def settle(self, weight: torch.Tensor) -> None:
        """Let u and v follow a weight that was set from outside; draw them first if they are zero or not finite."""
        if weight.ndim > 1 and not weight.is_meta:
            for vector in (self._u, self._v):
                if not (vector.any() and vector.isfinite().all()):  # memory that to_empty() left
                    self._draw(vector)
            self._warm_up(weight)

    @torch.no_grad()
    def _warm_up(self, weight):
        if weight.numel() and not weight.is_meta and not weight.any():
            warnings.warn(
                "a weight of zeros has no spectral norm: W / sigma is NaN until the weight is set; leave a layer that"
                " starts at zero without spectral norm",
                stacklevel=3,
            )
        matrix = as_matrix(weight.detach(), self.dim)
        _, _, us, vs = ops.spectral_norm(
            [matrix], [self._u], [self._v], n_power_iterations=WARM_UP_ITERATIONS, eps=self.eps
        )
        torch._foreach_copy_([self._u, self._v], us + vs)

    def _draw(self, vector):
        return vector.copy_(F.normalize(vector.normal_(), dim=0, eps=self.eps))

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        return value

    def set_ready(self, weight: torch.Tensor, normalized: torch.Tensor) -> None:
        # Past nn.Module's own __setattr__, which looks for parameters: a tenth of a small network's forward.
        object.__setattr__(self, "ready", Ready(weight, _stamp(weight), normalized))

    def forget_ready(self) -> None:
        object.__setattr__(self, "ready", None)

    def check_recomputation(self) -> None:
        """Raise a RuntimeError unless u and v are those of the forward that a backward pass recomputes now."""
        if getattr(self, "_is_replica", False):  # of DataParallel: its forwards run in threads that number nodes alike
            raise RuntimeError(
                "activation checkpointing of a spectrally normalised layer does not work in DataParallel"
            )
        self.iterations.check_recomputation()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("ready", "iterations")}

    def __setstate__(self, state) -> None:
        super().__setstate__({**state, "ready": None, "iterations": Iterations()})

    def extra_repr(self) -> str:
        return f"n_power_iterations={self.n_power_iterations}, dim={self.dim}, eps={self.eps}"


def is_current(ready: Ready, weight: torch.Tensor) -> bool:
    """Whether this weight was normalised already, here, in the value and with the graph that are wanted now."""
    if ready.weight is not weight or ready.stamp != _stamp(weight):
        return False
    return ready.normalized.requires_grad or not (weight.requires_grad and torch.is_grad_enabled())


def power_iterate(norms: Sequence[SpectralNorm], weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """One op call for weights of one dtype and device whose norms share eps, n_power_iterations and training."""
    first = norms[0]
    old_us: list[Any] = [
        norm._buffers["_u"] for norm in norms
    ]  # what norm._u finds, after a search that costs ten times more
    old_vs: list[Any] = [norm._buffers["_v"] for norm in norms]
    update, recorded = first.training, not torch.compiler.is_compiling()
    if update and recorded and backward_pass() != -1:  # activation checkpointing: this forward has iterated already
        for norm in norms:
            norm.check_recomputation()
        update = False
    normalized, _, us, vs = ops.spectral_norm(
        [as_matrix(weight, norm.dim) for norm, weight in zip(norms, weights, strict=True)],
        old_us,
        old_vs,
        n_power_iterations=first.n_power_iterations,
        eps=first.eps,
        update=update,
    )
    if update:
        # In place: DDP and data-parallel replicas hold these very buffers; a backward does not, it saved us and vs.
        with torch.no_grad():
            torch._foreach_copy_(old_us + old_vs, us + vs)
        if recorded:
            for norm in norms:
                norm.iterations.record()
    return [as_weight(m, w, norm.dim) for m, w, norm in zip(normalized, weights, norms, strict=True)]


def as_matrix(weight: torch.Tensor, dim: int) -> torch.Tensor:
    """(..., out at dim, ...) -> (out, ...), contiguous, which the op reads as a matrix (out, rest)."""
    return (weight.movedim(dim, 0) if dim else weight).contiguous()


def as_weight(matrix: torch.Tensor, weight: torch.Tensor, dim: int) -> torch.Tensor:
    """The inverse of as_matrix, in the shape and memory format of weight."""
    if not dim and weight.is_contiguous():
        return matrix
    result = matrix.movedim(0, dim) if dim else matrix
    return result if result.stride() == weight.stride() else torch.empty_like(weight).copy_(result)


def _stamp(weight):
    """The weight's count of in-place changes, and this thread: a normalised weight has a graph, which belongs to one.

    For inference tensors torch does not count changes: None in their place. In compiled graphs: None for both.
    """
    if torch.compiler.is_compiling():
        return None
    return None if weight.is_inference() else weight._version, threading.get_ident()
