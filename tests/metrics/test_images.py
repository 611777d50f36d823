"""Metrics and transformations of images themselves."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan import metrics


def garments(count, seed=0, resolution=28):
    from fastgan.data import fashion_mnist

    data = fashion_mnist(resolution)
    return data.batch(torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:count])[0]


@pytest.mark.parametrize("sizes", [((28, 28), (64, 64)), ((64, 48), (17, 20)), ((100, 100), (99, 30))])
def test_resizing_is_pils_on_floats(sizes):
    (h, w), (height, width) = sizes
    images = torch.randint(0, 256, (2, 3, h, w), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    ours = metrics.resize(images, height, width)
    for image, got in zip(images, ours, strict=True):
        for channel, result in zip(image, got, strict=True):
            plane = Image.fromarray(channel.numpy().astype(np.float32))
            theirs = np.asarray(plane.resize((width, height), Image.Resampling.BICUBIC)).clip(0, 255)
            assert np.abs(theirs - result.numpy()).max() < 2e-3  # of 255
    assert torch.equal(metrics.resize(images, h, w), images.float())


def test_the_pyramid_of_a_flat_image_is_its_coarsest_level_alone():
    flat = torch.full((1, 2, 32, 32), 3.0)
    *fine, coarse = metrics.laplacian_pyramid(flat, 2)
    assert coarse.shape == (1, 2, 16, 16) and torch.allclose(coarse, torch.tensor(3.0))
    assert fine[0][:, :, 2:-2, 2:-2].abs().max() < 1e-5


def test_patches_of_equal_sets_are_close_and_of_noise_are_far():
    real, other = garments(300, 0, 32), garments(600, 1, 32)[300:]
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    setting = {"patches": 16, "directions": 32, "repeats": 1}
    near, far = (metrics.patch_sliced_wasserstein(real, fake, **setting) for fake in (other, noise))
    assert set(near) == {32, 16, "mean"}
    collapsed = metrics.patch_sliced_wasserstein(real, real[:1].repeat(300, 1, 1, 1), **setting)
    assert all(6 * near[side] < far[side] and 3 * near[side] < collapsed[side] for side in near)
    with pytest.raises(ValueError, match="one shape"):
        metrics.patch_sliced_wasserstein(real, noise[:9])


def test_small_images_have_an_ms_ssim_of_another_name():
    assert metrics.ms_ssim_name(256) == metrics.ms_ssim_name(176) == "MS-SSIM"
    assert metrics.ms_ssim_name(28) == "MS-SSIM[2 scales, window 11]"
    assert metrics.ms_ssim_name(16) == "MS-SSIM[2 scales, window 7]"
    with pytest.raises(ValueError, match="at least 6 pixels"):
        metrics.ms_ssim_name(5)
    for side in range(6, 200):
        images = torch.rand(1, 1, side, side + 3)
        assert metrics.ms_ssim(images, images).item() == pytest.approx(1)


def test_diversity_is_one_for_a_collapsed_set():
    real = garments(100)
    assert metrics.ms_ssim_diversity(real[:1].repeat(5, 1, 1, 1), pairs=20) == pytest.approx(1)
    assert metrics.ms_ssim_diversity(real, pairs=200) < 0.6
