"""fastgan.nn.SelfAttention2d: SAGAN's block, its variants, its derivatives and its pictures. gamma is never 0 here."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastgan.nn import SelfAttention2d, SNConv2d, load_spectral_norm_state
from fastgan.ops import attention_reference


def block(channels=16, gamma=0.7, **options):
    torch.manual_seed(0)
    layer = SelfAttention2d(channels, **options)
    with torch.no_grad():
        layer.gamma.fill_(gamma)
    return layer


def sagan(layer, x):
    """The published code's arithmetic in plain torch, with the layer's normalised weights."""
    theta, phi, g, o = (getattr(layer, name).weight for name in ("theta", "phi", "g", "o"))
    q = F.conv2d(x, theta).flatten(2)
    k = F.max_pool2d(F.conv2d(x, phi), 2).flatten(2)
    v = F.max_pool2d(F.conv2d(x, g), 2).flatten(2)
    weights = (q.mT @ k).softmax(-1)
    out = F.conv2d((v @ weights.mT).view(x.shape[0], -1, *x.shape[2:]), o)
    return x + layer.gamma * out


def test_is_the_published_sagan_block():
    layer, x = block(64).eval(), torch.randn(2, 64, 8, 6)
    widths = [getattr(layer, name).weight.shape[:2] for name in ("theta", "phi", "g", "o")]
    assert widths == [(8, 64), (8, 64), (32, 64), (64, 32)]
    torch.testing.assert_close(layer(x), sagan(layer, x), rtol=1e-4, atol=1e-5)


def test_starts_as_the_identity():
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(SelfAttention2d(16)(x), x)


def test_the_papers_block_has_no_pooling_and_no_projection():
    torch.manual_seed(0)
    layer = SelfAttention2d.of_the_paper(16).eval()
    nn.init.constant_(layer.gamma, 0.5)
    x = torch.randn(2, 16, 4, 4)
    q, k, v = (F.conv2d(x, getattr(layer, name).weight).flatten(2) for name in ("theta", "phi", "g"))
    expected = x + 0.5 * (v @ (q.mT @ k).softmax(-1).mT).view_as(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)
    assert not list(layer.o.parameters())


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("similarity", ["dot", "l2"])
def test_heads_and_similarity(similarity, heads):
    layer, x = (
        block(similarity=similarity, heads=heads, spectral_norm=False, pool=False).eval(),
        torch.randn(2, 16, 4, 4),
    )
    keys = layer.phi if similarity == "dot" else layer.theta

    def cut(t):
        return t.flatten(2).view(2, heads, -1, 16).mT

    out = attention_reference(
        cut(layer.theta(x)), cut(keys(x)), cut(layer.g(x)), scale=layer.scale, similarity=similarity
    )
    expected = x + 0.7 * layer.o(out.mT.reshape(2, -1, 4, 4))
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def penalty_gradients(function, layer, x):
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(x).square().sum(), x, create_graph=True)
    penalty = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return torch.autograd.grad(penalty, [p for p in layer.parameters() if p.requires_grad])


def test_a_penalty_through_the_block_has_plain_torchs_gradients():
    layer, x = block(16).double().eval(), torch.randn(3, 16, 6, 6, dtype=torch.float64)
    ours = penalty_gradients(layer, layer, x)
    expected = penalty_gradients(lambda x: sagan(layer, x), layer, x)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)


def test_loads_a_biggan_pytorch_state_dict():
    layer = block(16)
    shapes = {"theta": (2, 16), "phi": (2, 16), "g": (8, 16), "o": (16, 8)}
    state = {"gamma": torch.tensor(0.3)}
    for name, (rows, columns) in shapes.items():
        state[f"{name}.weight"] = torch.randn(rows, columns, 1, 1)
        state[f"{name}.u0"], state[f"{name}.sv0"] = torch.randn(1, rows), torch.ones(1)
    load_spectral_norm_state(layer, state)
    assert layer.gamma.item() == pytest.approx(0.3)
    weight = state["g.weight"]
    torch.testing.assert_close(layer.g.parametrizations.weight.original, weight)
    plain = block(16, spectral_norm=False)
    plain.load_state_dict({k: v for k, v in state.items() if k.endswith("weight") or k == "gamma"})


@pytest.mark.parametrize("options", [{}, {"similarity": "l2"}, {"heads": 2}, {"pool": False}], ids=str)
def test_attention_map_is_that_row_of_the_attention_matrix(options):
    layer, x = block(32, **options), torch.randn(2, 32, 6, 8)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    seen = layer.attention_map(x, (2, 5))
    assert seen.shape == ((2, 6, 8) if options.get("pool") is False else (2, 3, 4))
    torch.testing.assert_close(seen.sum((1, 2)), torch.ones(2))
    assert layer.training
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items()), "a picture must not train"
    # The same row by way of the op: values that are one at one key each.
    layer.eval()
    q, k = layer._heads(layer.theta(x)), layer._heads(layer._keys(x))
    identity = torch.eye(k.shape[2]).expand(2, layer.heads, -1, -1)
    matrix = attention_reference(q, k, identity, scale=layer.scale, similarity=layer.similarity)
    torch.testing.assert_close(seen.flatten(1), matrix.mean(1)[:, 2 * 8 + 5], rtol=1e-4, atol=1e-6)


def test_pooled_equals_unpooled_where_blocks_of_two_by_two_are_constant():
    x = torch.randn(2, 16, 3, 3).repeat_interleave(2, 2).repeat_interleave(2, 3)
    pooled, whole = block(pool=True, spectral_norm=False), block(pool=False, spectral_norm=False)
    whole.load_state_dict(pooled.state_dict())
    torch.testing.assert_close(pooled(x), whole(x), rtol=1e-4, atol=1e-5)


def test_compiles_and_runs_under_autocast():
    layer, x = block(16).eval(), torch.randn(2, 16, 4, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(layer(x)).all()


def test_bad_arguments_say_what_is_allowed():
    for options, message in (
        ({"heads": 3}, "qk_channels must be a positive multiple of heads=3"),
        ({"similarity": "cosine"}, "similarity must be"),
        ({"project": False}, "v_channels must be channels=16"),
    ):
        with pytest.raises(ValueError, match=message):
            SelfAttention2d(16, **options)
    with pytest.raises(ValueError, match="x must have shape"):
        block()(torch.zeros(1, 8, 4, 4))
    with pytest.raises(ValueError, match="at least 2 x 2"):
        block()(torch.zeros(1, 16, 1, 4))
    with pytest.raises(ValueError, match="query must be a position"):
        block().attention_map(torch.zeros(1, 16, 4, 4), (4, 0))


def test_a_critic_with_attention_trains_under_a_gradient_penalty():
    """200 steps of WGAN-GP on 8 x 8 images; the penalty's gradients stay those of plain torch."""
    torch.manual_seed(0)
    attention = SelfAttention2d(8, qk_channels=4, v_channels=4)
    nn.init.constant_(attention.gamma, 0.5)
    critic = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.LeakyReLU(0.2), attention, nn.Flatten(), nn.Linear(512, 1))
    generator = nn.Sequential(nn.Linear(4, 64), nn.Unflatten(1, (1, 8, 8)))
    critic_adam = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.0, 0.9))
    generator_adam = torch.optim.Adam(generator.parameters(), 2e-3, betas=(0.0, 0.9))
    pattern = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)

    def penalty(real, fake):
        t = torch.rand(len(real), 1, 1, 1)
        mixed = (t * real + (1 - t) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
        return 10 * (gradient.flatten(1).norm(dim=1) - 1).square().mean()

    for step in range(200):
        real = pattern + 0.1 * torch.randn(8, 1, 8, 8)
        fake = generator(torch.randn(8, 4)).detach()
        loss = critic(fake).mean() - critic(real).mean() + penalty(real, fake)
        critic_adam.zero_grad()
        loss.backward()
        assert math.isfinite(loss.item()), step
        assert all(torch.isfinite(p.grad).all() for p in critic.parameters()), step
        critic_adam.step()
        generator_adam.zero_grad()
        (-critic(generator(torch.randn(8, 4))).mean()).backward()
        generator_adam.step()
    assert attention.gamma.item() != 0.5
    assert loss.abs() < 50
    critic.double().eval()
    x = torch.randn(4, 8, 8, 8, dtype=torch.float64)
    ours = penalty_gradients(attention, attention, x)
    torch.testing.assert_close(
        ours, penalty_gradients(lambda x: sagan(attention, x), attention, x), rtol=1e-8, atol=1e-8
    )


def test_it_is_built_and_called_as_biggans_block():
    x, made = torch.randn(2, 16, 5, 5), []  # an odd map, pooled

    def which_conv(*args, **kwargs):
        made.append(args)
        return SNConv2d(*args, **{"kernel_size": 3, "padding": 1, **kwargs})

    block = SelfAttention2d(16, which_conv)
    assert made == [(16, 2), (16, 2), (16, 8), (8, 16)]
    assert list(block.state_dict()) == list(SelfAttention2d(16).state_dict())
    assert torch.equal(block.eval()(x, torch.randn(2, 8)), block(x))


def test_bias_and_settings_of_the_projections():
    block = SelfAttention2d(16, bias=True, eps=1e-6, n_power_iterations=3)
    for projection in (block.theta, block.phi, block.g, block.o):
        norm = projection.parametrizations.weight[0]
        assert projection.bias is not None and (norm.eps, norm.n_power_iterations) == (1e-6, 3)
