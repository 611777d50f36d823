"""torch's layers with a spectrally normalised weight, under the names that GAN code uses."""

import inspect
from typing import Any

from torch import nn

from fastgan.nn.spectral.parametrization import spectral_norm


def _with_spectral_norm(cls):
    """The class decorator: the constructor of the base class, and the settings of the spectral norm."""
    base = cls.__base__

    def __init__(
        self,
        *args: Any,
        n_power_iterations: int = 1,
        eps: float = 1e-12,
        num_itrs: int | None = None,
        num_svs: int = 1,
        **kwargs: Any,
    ) -> None:
        if num_svs != 1:
            raise ValueError(f"num_svs must be 1 (fastgan normalises by the largest singular value), got {num_svs}")
        if num_itrs is not None and n_power_iterations not in (1, num_itrs):
            raise ValueError(
                f"num_itrs={num_itrs} and n_power_iterations={n_power_iterations} are the same thing: pass one"
            )
        base.__init__(self, *args, **kwargs)
        spectral_norm(self, n_power_iterations=n_power_iterations if num_itrs is None else num_itrs, eps=eps)

    own = [p for p in inspect.signature(__init__).parameters.values() if p.kind is p.KEYWORD_ONLY]
    __init__.__signature__ = inspect.Signature([*inspect.signature(base.__init__).parameters.values(), *own])
    cls.__init__ = __init__
    cls.__doc__ = f"""torch.nn.{base.__name__} with a spectrally normalised weight (`fastgan.nn.spectral_norm`).

    Takes the arguments of torch.nn.{base.__name__}, and n_power_iterations=1 (synonym num_itrs), eps=1e-12, num_svs=1.
    The state_dict is that of torch.nn.utils.parametrizations.spectral_norm(torch.nn.{base.__name__}(...)).
    """
    return cls


@_with_spectral_norm
class SNConv1d(nn.Conv1d):
    pass


@_with_spectral_norm
class SNConv2d(nn.Conv2d):
    pass


@_with_spectral_norm
class SNConv3d(nn.Conv3d):
    pass


@_with_spectral_norm
class SNConvTranspose1d(nn.ConvTranspose1d):
    pass


@_with_spectral_norm
class SNConvTranspose2d(nn.ConvTranspose2d):
    pass


@_with_spectral_norm
class SNConvTranspose3d(nn.ConvTranspose3d):
    pass


@_with_spectral_norm
class SNLinear(nn.Linear):
    pass


@_with_spectral_norm
class SNEmbedding(nn.Embedding):
    pass


OF_TORCH = {
    ours.__base__: ours
    for ours in (
        SNConv1d,
        SNConv2d,
        SNConv3d,
        SNConvTranspose1d,
        SNConvTranspose2d,
        SNConvTranspose3d,
        SNLinear,
        SNEmbedding,
    )
}
