import pytest
import torch

from fastgan.augment import POLICIES, AdaptiveProbability, DiffAugment


def seeded(f, seed=0):
    def call(*arguments):
        torch.manual_seed(seed)
        return f(*arguments)

    return call


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("p", [1.0, 0.5])
def test_both_derivatives_are_right(policy, p):
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    augment = seeded(lambda x: DiffAugment(policy)(x, p).pow(2))
    assert torch.autograd.gradcheck(augment, x) and torch.autograd.gradgradcheck(augment, x)


def test_translation_moves_whole_images_and_brings_zeros():
    x = torch.rand(64, 2, 16, 16) + 1
    moved = DiffAugment("translation")(x)
    found = set()
    for before, after in zip(x, moved, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                expected = torch.zeros_like(before)
                rows, columns = slice(max(down, 0), 16 + min(down, 0)), slice(max(right, 0), 16 + min(right, 0))
                source = before[:, max(-down, 0) : 16 - max(down, 0), max(-right, 0) : 16 - max(right, 0)]
                expected[:, rows, columns] = source
                if torch.equal(expected, after):
                    matches.append((down, right))
        assert len(matches) == 1
        found.update(matches)
    assert len(found) > 10


def test_cutout_leaves_a_rectangle_of_zeros_of_at_most_half_the_side():
    zeros = DiffAugment("cutout")(torch.ones(200, 1, 8, 8)) == 0
    assert zeros.any(3).sum(2).max() == 4 and zeros.any(2).sum(2).max() == 4
    for hole in zeros[:, 0]:
        assert hole.sum() == hole.any(0).sum() * hole.any(1).sum()


def test_colours_keep_what_their_names_say():
    x = torch.randn(16, 3, 8, 8)
    brightness, saturation, contrast = POLICIES["color"]
    shift = brightness(x) - x
    assert torch.allclose(shift, shift[:, :1, :1, :1].expand_as(x), atol=1e-6) and shift.abs().max() <= 0.5 + 1e-6
    assert torch.allclose(saturation(x).mean(1), x.mean(1), atol=1e-5)
    assert torch.allclose(contrast(x).mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5)


def test_p_is_the_share_of_images_that_are_touched():
    x = torch.ones(4000, 1, 4, 4)
    for p in (0.0, 0.3, torch.tensor(0.3, dtype=torch.float64), 1.0):
        touched = (DiffAugment("color")(x, p) != x).flatten(1).any(1).float().mean()
        assert abs(touched - (1 - (1 - float(p)) ** 1 if p else 0)) < 0.03  # only brightness shows on a plain image


def test_vectors_and_unknown_policies_are_refused():
    with pytest.raises(ValueError, match="vectors have no augmentation"):
        DiffAugment()(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="policy must be made of color, translation, cutout; got 'blur'"):
        DiffAugment("blur")
    assert DiffAugment("color, cutout") == DiffAugment(("color", "cutout"))


def test_probability_follows_the_signs_every_four_observations():
    adaptive = AdaptiveProbability(images=1000)
    state = adaptive.initial_state()
    confident, unsure = torch.ones(10, 1, 2, 2), torch.tensor([1.0, -1.0] * 5)
    for number in range(1, 9):
        adaptive.observe(state, confident)
        assert state["p"].item() == pytest.approx(0.04 * (number // 4))
    for _ in range(4):
        adaptive.observe(state, unsure)
    assert state["p"].item() == pytest.approx(0.04)
    for _ in range(40):
        adaptive.observe(state, unsure)
    assert state["p"].item() == 0
    for _ in range(200):
        adaptive.observe(state, confident)
    assert state["p"].item() == 1
