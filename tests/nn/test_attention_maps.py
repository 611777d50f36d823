"""Attention maps of trained networks: the right row of the right layer, and nothing of the networks touched."""

import torch
from PIL import Image
from torch import nn

from fastgan import Recipe, Trainer, models
from fastgan.nn import SelfAttention2d
from fastgan.nn.attention_maps import attention_maps


def critic():
    torch.manual_seed(0)
    pair = models.create("sagan", channels=1, resolution=28, width=16, classes=3)
    for network in pair:
        for module in network.modules():
            if isinstance(module, SelfAttention2d):
                nn.init.constant_(module.gamma, 0.5)
    return pair.discriminator


def test_maps_are_the_layers_own_at_the_positions_that_queries_fall_into():
    network, x, labels = critic(), torch.rand(2, 1, 28, 28), torch.tensor([0, 2])
    before = {name: t.clone() for name, t in network.state_dict().items()}
    network.blocks[0].eval()  # a mode of its own is kept as well
    ((name, maps),) = attention_maps(network, [(14, 14), (27, 0)], (28, 28), x, labels).items()
    assert maps.shape == (2, 2, 7, 7)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 2))
    assert all(torch.equal(t, before[key]) for key, t in network.state_dict().items())
    assert network.training and not network.blocks[0].training
    network.eval()
    layer, inside = network.get_submodule(name), []
    with torch.no_grad(), layer.register_forward_pre_hook(lambda module, inputs: inside.append(inputs[0])):
        network(x, labels)
    assert len(inside) == 1 and not layer._forward_pre_hooks
    for ours, query in zip(maps, ((7, 7), (13, 0)), strict=True):
        torch.testing.assert_close(ours, layer.attention_map(inside[0], query))


def test_a_run_draws_them_where_the_networks_attend(tmp_path):
    data = torch.rand(16, 1, 16, 16) * 2 - 1
    for name, packed in (("sagan", 2), ("sngan", 1)):
        torch.manual_seed(0)
        pair = models.create(name, channels=1, resolution=16, width=8, z_dim=4, pack=packed)
        run = tmp_path / name
        Trainer(*pair, Recipe(batch_size=4, pack=packed), data, run_dir=run, sample_every=1, progress=False).fit(2)
        drawn = sorted(p.relative_to(run).as_posix() for p in run.glob("**/*step*.png") if "attention" in str(p))
        if name == "sngan":
            assert not drawn and not (run / "attention_maps.png").exists()
            continue
        assert drawn == ["attention_maps/step_00000001.png", "attention_maps/step_00000002.png"]
        assert (run / "attention_maps.png").read_bytes() == (run / drawn[-1]).read_bytes()
        assert Image.open(run / "attention_maps.png").size[0] > 500
