"""The same values elsewhere in memory."""

import torch


def contiguous(t):
    return t.contiguous()


def channels_inside(t):
    """channels_last in any number of dimensions."""
    return t.movedim(1, -1).contiguous().movedim(-1, 1) if t.dim() > 2 else t


def every_other(t):
    return torch.stack([t, t], -1).flatten(-2)[..., ::2] if t.dim() else t


def reversed_strides(t):
    order = range(t.dim())[::-1]
    return t.permute(*order).contiguous().permute(*order) if t.dim() else t


def misaligned(t):
    """Begins one element into its storage, and so is aligned to no more than an element."""
    return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)


LAYOUTS = (contiguous, channels_inside, every_other, reversed_strides, misaligned)
