"""torch's layers with a spectrally normalised weight, under the names that GAN code uses."""

from torch import nn

from fastgan.nn.spectral.parametrization import spectral_norm


class _SpectralNormLayer:
    def __init__(self, *args, n_power_iterations=1, eps=1e-12, num_itrs=None, num_svs=1, **kwargs):
        if num_svs != 1:
            raise ValueError(f"num_svs must be 1 (fastgan normalises by the largest singular value), got {num_svs}")
        if num_itrs is not None and n_power_iterations not in (1, num_itrs):
            raise ValueError(
                f"num_itrs={num_itrs} and n_power_iterations={n_power_iterations} are the same thing: pass one"
            )
        super().__init__(*args, **kwargs)
        spectral_norm(self, n_power_iterations=n_power_iterations if num_itrs is None else num_itrs, eps=eps)


def _layer(base):
    return f"""torch.nn.{base.__name__} with a spectrally normalised weight (`fastgan.nn.spectral_norm`).

    Takes the arguments of torch.nn.{base.__name__}, and n_power_iterations=1 (synonym num_itrs), eps=1e-12, num_svs=1.
    The state_dict is that of torch.nn.utils.parametrizations.spectral_norm(torch.nn.{base.__name__}(...)).
    """


class SNConv1d(_SpectralNormLayer, nn.Conv1d):
    __doc__ = _layer(nn.Conv1d)


class SNConv2d(_SpectralNormLayer, nn.Conv2d):
    __doc__ = _layer(nn.Conv2d)


class SNConv3d(_SpectralNormLayer, nn.Conv3d):
    __doc__ = _layer(nn.Conv3d)


class SNConvTranspose1d(_SpectralNormLayer, nn.ConvTranspose1d):
    __doc__ = _layer(nn.ConvTranspose1d)


class SNConvTranspose2d(_SpectralNormLayer, nn.ConvTranspose2d):
    __doc__ = _layer(nn.ConvTranspose2d)


class SNConvTranspose3d(_SpectralNormLayer, nn.ConvTranspose3d):
    __doc__ = _layer(nn.ConvTranspose3d)


class SNLinear(_SpectralNormLayer, nn.Linear):
    __doc__ = _layer(nn.Linear)


class SNEmbedding(_SpectralNormLayer, nn.Embedding):
    __doc__ = _layer(nn.Embedding)
