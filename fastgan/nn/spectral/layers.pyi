# The layers as a type checker and an editor see them: `_with_spectral_norm` makes their constructors when it runs.

from typing import Literal

import torch
from torch import nn

class _Convolution:
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        num_itrs: int | None = None,
        num_svs: int = 1,
    ) -> None: ...

class _Transposed:
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        num_itrs: int | None = None,
        num_svs: int = 1,
    ) -> None: ...

class SNConv1d(_Convolution, nn.Conv1d): ...
class SNConv2d(_Convolution, nn.Conv2d): ...
class SNConv3d(_Convolution, nn.Conv3d): ...
class SNConvTranspose1d(_Transposed, nn.ConvTranspose1d): ...
class SNConvTranspose2d(_Transposed, nn.ConvTranspose2d): ...
class SNConvTranspose3d(_Transposed, nn.ConvTranspose3d): ...

class SNLinear(nn.Linear):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        num_itrs: int | None = None,
        num_svs: int = 1,
    ) -> None: ...

class SNEmbedding(nn.Embedding):
    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: torch.Tensor | None = None,
        _freeze: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        num_itrs: int | None = None,
        num_svs: int = 1,
    ) -> None: ...

OF_TORCH: dict[type[nn.Module], type[nn.Module]]
