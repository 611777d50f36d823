"""Self-attention over the positions of a feature map (Zhang et al., "Self-Attention GANs", 2019)."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from fastgan.nn.spectral.layers import SNConv2d
from fastgan.ops import attention


class SelfAttention2d(nn.Module):
    """x + gamma * o(softmax(theta(x) phi(x)^T) g(x)) over the h x w positions of x (B, C, h, w), gamma starting at 0.

    As the published SAGAN code has it: theta and phi to C/8 channels, g to C/2, keys and values max-pooled 2 x 2,
    logits not divided by sqrt(d), an output projection o, all 1 x 1 convolutions without bias and spectrally
    normalised. The paper describes another block, `SelfAttention2d.of_the_paper`. Names and shapes of the state_dict
    are those of BigGAN-PyTorch (theta, phi, g, o, gamma); `fastgan.nn.load_spectral_norm_state` reads such checkpoints.

    Args:
        channels: C.
        which_conv: constructor of a projection, which_conv(in, out, kernel_size=1, padding=0, bias=bias), as BigGAN's
            blocks take it; None: SNConv2d, or torch's Conv2d without spectral_norm.
        qk_channels, v_channels: widths of theta and phi (C/8), of g (C/2), of all heads together.
        pool: keys and values from 2 x 2 max-pooled maps, a quarter of the cost; needs h, w >= 2.
        spectral_norm: on every projection, with n_power_iterations and eps; without effect beside which_conv.
        bias: whether the projections have biases.
        similarity: "dot", or "l2" for a critic that must stay Lipschitz (Kim et al., 2021): logits -|q - k|^2 / sqrt(d)
            with one projection for queries and keys, theta, as their proof needs; phi is left out then.
        heads: attention heads that the channels are cut into.
        project: whether there is o; without it v_channels must be C.
        scale: of the logits; default 1 for "dot", 1 / sqrt(d) for "l2".

    Derivatives: to second order with respect to x and all parameters, at O(h w) memory.
    Dtypes and devices: as fastgan.ops.attention.
    """

    attend = staticmethod(attention)

    def __init__(
        self,
        channels: int,
        which_conv: Callable[..., nn.Module] | None = None,
        *,
        qk_channels: int | None = None,
        v_channels: int | None = None,
        pool: bool = True,
        spectral_norm: bool = True,
        similarity: Literal["dot", "l2"] = "dot",
        heads: int = 1,
        project: bool = True,
        scale: float | None = None,
        bias: bool = False,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        qk_channels = max(channels // 8, 1) if qk_channels is None else qk_channels
        v_channels = max(channels // 2, 1) if v_channels is None else v_channels
        for name, width in (("qk_channels", qk_channels), ("v_channels", v_channels)):
            if width < 1 or width % heads:
                raise ValueError(f"{name} must be a positive multiple of heads={heads}, got {width}")
        if similarity not in ("dot", "l2"):
            raise ValueError(f'similarity must be "dot" or "l2", got {similarity!r}')
        if not project and v_channels != channels:
            raise ValueError(f"v_channels must be channels={channels} if project=False, got {v_channels}")
        if which_conv is None:
            settings: dict[str, Any] = {"n_power_iterations": n_power_iterations, "eps": eps}
            which_conv = partial(SNConv2d, **settings) if spectral_norm else nn.Conv2d
        conv = partial(which_conv, kernel_size=1, padding=0, bias=bias)
        self.channels, self.heads, self.pool = channels, heads, pool
        self.similarity: Literal["dot", "l2"] = similarity
        self.scale = scale if scale is not None else 1.0 if similarity == "dot" else math.sqrt(heads / qk_channels)
        self.theta = conv(channels, qk_channels)
        if similarity == "dot":
            self.phi = conv(channels, qk_channels)
        self.g = conv(channels, v_channels)
        self.o = conv(v_channels, channels) if project else nn.Identity()
        self.gamma = nn.Parameter(torch.zeros(()))

    @classmethod
    def of_the_paper(cls, channels: int, **options: Any) -> "SelfAttention2d":
        """The block that the paper describes: no pooling, values of full width, no output projection."""
        return cls(channels, **{"pool": False, "v_channels": channels, "project": False, **options})

    def forward(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """y is ignored: a generator may call all of its blocks as block(x, y)."""
        self._check(x)
        q, k, v = self.theta(x), self._keys(x), self._pooled(self.g(x))
        out = self.attend(*(self._heads(t) for t in (q, k, v)), scale=self.scale, similarity=self.similarity)
        out = out.mT.reshape(x.shape[0], -1, *x.shape[2:])
        return x + self.gamma * self.o(out)

    def attention_map(self, x: torch.Tensor, query: tuple[int, int]) -> torch.Tensor:
        """The attention of position `query` = (row, column) of x (B, C, h, w) to every key: (B, h', w'), sums are 1.

        The mean over heads; h' = h // 2 if keys are pooled. Only one row of the attention matrix is computed. Spectral
        norm's vectors stay.
        """
        return self.attention_maps(x, [query])[0]

    @torch.no_grad()
    def attention_maps(self, x: torch.Tensor, queries: Sequence[tuple[int, int]]) -> torch.Tensor:
        """attention_map of each query, (queries, B, h', w'); keys are computed once."""
        self._check(x)
        h, w = x.shape[2:]
        for query in queries:
            if not (0 <= query[0] < h and 0 <= query[1] < w):
                raise ValueError(f"query must be a position (row, column) of a {h} x {w} map, got {query}")
        rows, columns = torch.tensor(queries, device=x.device).unbind(1)
        training = self.training
        self.eval()
        try:
            q, k = self.theta(x[:, :, None, rows, columns]), self._keys(x)  # (B, c, 1, queries), (B, c, h', w')
        finally:
            self.train(training)
        size = k.shape[2:]
        q, k = self._heads(q).float(), self._heads(k).float()
        logits = q @ k.mT if self.similarity == "dot" else -torch.cdist(q, k).square()
        weights = (self.scale * logits).softmax(-1).mean(1)  # (B, queries, h' * w')
        return weights.transpose(0, 1).unflatten(2, size)

    def _keys(self, x):
        return self._pooled(self.phi(x) if self.similarity == "dot" else self.theta(x))

    def _pooled(self, x):
        return F.max_pool2d(x, 2) if self.pool else x

    def _heads(self, x):
        """(B, heads * d, h, w) -> (B, heads, h * w, d), a view: the op takes any strides."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).mT

    def _check(self, x):
        if x.dim() != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x must have shape (batch, {self.channels}, height, width), got {tuple(x.shape)}")
        if self.pool and min(x.shape[2:]) < 2:
            raise ValueError(f"x must be at least 2 x 2 if pool=True, got {tuple(x.shape)}")

    def extra_repr(self) -> str:
        return f"heads={self.heads}, pool={self.pool}, similarity={self.similarity!r}, scale={self.scale:.4g}"
