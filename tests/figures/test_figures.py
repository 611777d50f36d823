import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from fastgan.figures import save_attention_maps, save_curves, save_grid
from fastgan.figures.scatter import draw_points


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_image_at_its_place(tmp_path, channels):
    values = torch.linspace(-1, 1, 5)
    save_grid(values.view(5, 1, 1, 1).expand(5, channels, 56, 56), tmp_path / "g.png", columns=3)
    pixels = np.array(Image.open(tmp_path / "g.png"))
    assert pixels.shape[:2] == (2 * 58 + 2, 3 * 58 + 2) and pixels.ndim == (2 if channels == 1 else 3)
    for index, value in enumerate(values):
        shown = pixels[30 + index // 3 * 58, 30 + index % 3 * 58]
        assert np.all(shown == round((value.item() + 1) * 127.5))


def test_small_images_are_enlarged_pixel_by_pixel(tmp_path):
    save_grid(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(1, 1, 2, 2), tmp_path / "g.png")
    pixels = np.array(Image.open(tmp_path / "g.png"))[2:-2, 2:-2]
    assert pixels.shape == (56, 56)
    assert set(np.unique(pixels)) == {0, 255} and pixels[:28, :28].max() == 0


def test_values_outside_are_clipped(tmp_path):
    save_grid(torch.full((1, 1, 60, 60), 9.0), tmp_path / "g.png")
    assert np.array(Image.open(tmp_path / "g.png")).min() == 255


@pytest.mark.parametrize("shape", [(4, 28, 28), (4, 2, 28, 28), (0, 1, 28, 28)])
def test_what_is_no_image_is_refused(tmp_path, shape):
    with pytest.raises(ValueError, match="images must have shape"):
        save_grid(torch.zeros(shape), tmp_path / "g.png")


def test_curves_are_drawn_from_the_log_without_a_screen(tmp_path, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    rows = [{"step": s, "d_loss": 1 / s, "g_loss": s, "d_real": 0.5, "d_fake": -0.5} for s in range(1, 9)]
    for some in (rows, rows[:1], []):
        save_curves(some, tmp_path / "c.png")
        assert Image.open(tmp_path / "c.png").size[0] > 500


def test_attention_maps_show_the_query_and_refuse_what_does_not_fit(tmp_path):
    images, maps = torch.full((2, 1, 8, 8), -1.0), {"critic": torch.rand(1, 2, 4, 4)}
    save_attention_maps(images, [(6, 1)], maps, tmp_path / "a.png")
    pixels = np.array(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 60))  # the red dots
    assert len(rows) and columns.max() < pixels.shape[1] / 4, "low and left in the first of two columns"
    with pytest.raises(ValueError, match=r"maps\['critic'\] must have shape \(2, 2, h, w\)"):
        save_attention_maps(images, [(6, 1), (0, 0)], maps, tmp_path / "a.png")


def test_the_axes_grow_with_points_that_are_far_from_the_modes():
    figure = Figure()
    near, far = figure.subplots(1, 2)
    modes = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    draw_points(near, torch.cat([modes.repeat(50, 1), torch.tensor([[900.0, 0.0], [torch.nan, 1.0]])]), modes)
    assert near.get_xlim() == pytest.approx((-1.35, 1.35))
    draw_points(far, 70 * modes.repeat(50, 1), modes)
    assert far.get_xlim() == far.get_ylim() == pytest.approx((-94.5, 94.5))


def test_images_that_are_not_finite_are_said_to_be(tmp_path):
    images = torch.full((3, 1, 60, 60), -1.0)
    images[1, 0, 5] = torch.nan
    with pytest.warns(UserWarning, match="1 of 3 images hold NaN or infinity"):
        save_grid(images, tmp_path / "g.png", columns=3)
    assert set(np.unique(np.array(Image.open(tmp_path / "g.png")))) == {0, 128, 255}
