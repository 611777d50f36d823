"""The attention maps of networks at chosen positions of the images that they see."""

from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import nn

from fastgan.nn import SelfAttention2d
from fastgan.nn.modes import evaluation_mode


def attention_layers(network: nn.Module) -> dict[str, SelfAttention2d]:
    """name -> SelfAttention2d"""
    return {name: module for name, module in network.named_modules() if isinstance(module, SelfAttention2d)}


@torch.no_grad()
def attention_maps(
    network: nn.Module, queries: Iterable[tuple[int, int]], size: tuple[int, int], *inputs: torch.Tensor
) -> dict[str, torch.Tensor]:
    """{layer's name: (queries, B, h, w)} of one call network(*inputs), for the queries (row, column) in (H, W) = size.

    Each layer reads a query at the position of its map that contains the query. The call runs in evaluation mode, so
    that spectral norm's vectors and batch norm's statistics stay. Afterwards the network has its former mode.
    """
    layers, caught = attention_layers(network), {}
    with evaluation_mode(network), ExitStack() as hooks:
        for name, layer in layers.items():

            def catch(module, arguments, name=name):
                caught[name] = arguments[0]

            hooks.enter_context(layer.register_forward_pre_hook(catch))
        network(*inputs)
        return {
            name: layers[name].attention_maps(x, [_position(query, size, x.shape[2:]) for query in queries])
            for name, x in caught.items()
        }


def _position(query, size, map_size):
    return tuple(at * small // large for at, small, large in zip(query, map_size, size, strict=True))
