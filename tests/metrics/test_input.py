"""Metrics and extractors refuse what is not an image in a range that they know, and measure networks as they are
used."""

import contextlib
import io
import os
import pickle

import pytest
import torch
from torch import nn

from fastgan import metrics
from fastgan.metrics.features.weights_file import load_weights

BYTES = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
WRONG = {
    "int64": (BYTES.long(), TypeError, "got torch.int64: try images.to"),
    "int32": (BYTES.int(), TypeError, "got torch.int32"),
    "bool": (BYTES > 7, TypeError, "got torch.bool"),
    "0..255": (BYTES.float(), ValueError, r"got 0\.\.255: try images / 127.5 - 1"),
    "-3..3": (BYTES / 42.5 - 3, ValueError, r"got -3\.\.3: try images.clamp"),
    "NaN": (BYTES / 127.5 - torch.nan, ValueError, "must be finite"),
    "infinity": (torch.where(BYTES > 250, torch.inf, 0.0), ValueError, "must be finite"),
    "NHWC": (BYTES.permute(0, 2, 3, 1), ValueError, r"try images.permute\(0, 3, 1, 2\)"),
    "one image": (BYTES[0], ValueError, r"got shape \(3, 16, 16\)"),
    "none": (BYTES[:0], ValueError, "without a zero"),
    "list": ([1, 2], TypeError, "must be a tensor"),
}


def pixels():
    return metrics.Extractor(nn.Flatten(), "pixels", channels=3, resolution=16)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_images_are_refused_by_every_metric_on_images(name):
    given, error, words = WRONG[name]
    with pytest.raises(error, match=words if name != "list" else None):
        pixels().features([given])
    if not isinstance(given, torch.Tensor) or name == "none":
        return
    real = metrics.Samples(BYTES, pixels().features(BYTES))
    for metric in metrics.ON_IMAGES:
        with pytest.raises(error, match=words):
            metrics.measure(real, metrics.Samples(given, real.features), (metric,))


def test_tensors_arrays_and_loaders_of_images_and_labels_have_the_same_features():
    right = pixels().features(BYTES).values
    labels = torch.zeros(40, dtype=torch.int64)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(BYTES, labels), batch_size=16)
    for given in (BYTES.numpy(), loader, [BYTES[:20].numpy(), BYTES[20:]], BYTES / 127.5 - 1, BYTES.half() / 127.5 - 1):
        assert torch.allclose(pixels().features(given).values, right, atol=0.01)
    with pytest.raises(TypeError, match="samples must be a tensor or a NumPy array, got dict"):
        pixels().features([{"image": BYTES}])
    with pytest.raises(ValueError, match="must be finite"):
        metrics.Extractor.samples().features(torch.full((3, 2), torch.nan))


def test_structural_similarity_and_patches_refuse_another_range_and_nan():
    with pytest.raises(ValueError, match=r"x must fit data_range \(2\), got values in 0\.\.255"):
        metrics.ms_ssim(BYTES, BYTES)
    with pytest.raises(ValueError, match="images must fit data_range"):
        metrics.ms_ssim_diversity(BYTES.float())
    assert metrics.ms_ssim(BYTES, BYTES, data_range=255).mean().item() == pytest.approx(1.0)
    broken = BYTES / 127.5 - 1
    broken[3, 0, 0, 0] = torch.nan
    for measure in (metrics.ms_ssim, metrics.patch_sliced_wasserstein):
        with pytest.raises(ValueError, match="must be finite"):
            measure(broken, broken.nan_to_num())


def test_the_kernel_of_huge_features_is_right_or_refused():
    x, y = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0))
    exact = metrics.kernel_distance(x.double() * 1e13, y.double() * 1e13, subset_size=None).mean
    assert metrics.kernel_distance(x * 1e13, y * 1e13, subset_size=None).mean == pytest.approx(exact, rel=1e-6)
    with pytest.raises(ValueError, match="too large for a kernel of degree 3: divide both by"):
        metrics.kernel_distance(x.double() * 1e60, y.double() * 1e60, subset_size=None)


class Noisy(nn.Module):
    """A batch norm, dropout, and noise of its own in every mode."""

    z_dim = 16

    def __init__(self, noise=0.0):
        super().__init__()
        self.norm, self.noise = nn.BatchNorm1d(16), noise

    def forward(self, z):
        z = nn.functional.dropout(self.norm(z), 0.1, self.training)
        return (z + self.noise * torch.randn(z.shape)).view(-1, 1, 4, 4)


def distance(a, b):
    return (a - b).square().mean((1, 2, 3))


def test_path_length_is_that_of_evaluation_mode_and_leaves_the_network_as_it_was():
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    generator = Noisy()
    generator.norm.eval()  # frozen by hand
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    state = torch.get_rng_state()
    trained = metrics.perceptual_path_length(generator, distance, z).mean
    assert trained == metrics.perceptual_path_length(Noisy().eval(), distance, z).mean
    assert generator.training and not generator.norm.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_both_ends_of_a_path_have_the_same_noise():
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    plain, noisy = (metrics.perceptual_path_length(Noisy(noise), distance, z).mean for noise in (0.0, 0.5))
    assert noisy == pytest.approx(plain, rel=1e-3)
    with pytest.raises(ValueError, match="distance must be finite"):
        metrics.perceptual_path_length(Noisy(torch.nan), distance, z)


def test_a_classifier_of_stacked_images_is_used_in_evaluation_mode():
    classify = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 10))
    images = torch.randn(32, 3, 2, 2)
    first, again = (metrics.stacked_labels(classify, images) for _ in range(2))
    assert torch.equal(first, again) and classify.training and classify[1].num_batches_tracked == 0


class Bomb:
    """Unpickled, this makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture(params=["pickle", "old format", "zip", "inside", "named safetensors"])
def bomb(request, tmp_path):
    """A file whose unpickling makes the folder `executed` beside it."""
    path, inside = tmp_path / "weights.pth", {"weight": torch.ones(1), "more": Bomb(tmp_path / "executed")}
    if request.param == "pickle":
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    elif request.param == "named safetensors":
        path = tmp_path / "weights.safetensors"
        torch.save(inside, path)
    else:
        what = inside if request.param == "inside" else Bomb(tmp_path / "executed")
        torch.save(what, path, _use_new_zipfile_serialization=request.param != "old format")
    return path


def test_weights_that_hold_more_than_tensors_are_refused_and_not_executed(bomb, monkeypatch):
    named = bomb.parent / "checkpoints" / "resnet18-f37072fd.pth"
    named.parent.mkdir()
    named.write_bytes(bomb.read_bytes())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(bomb.parent))
    for load in (
        lambda: metrics.inception(bomb),
        lambda: metrics.extractor(f"inception:{bomb}"),
        lambda: metrics.extractor("torchvision:resnet18"),
        lambda: metrics.fashion_cnn(bomb),
        lambda: metrics.GaussianStatistics.load(bomb),
        lambda: load_weights(bomb),
    ):
        with pytest.raises(ValueError, match=r"weights\.|resnet18"):
            load()
    assert not (bomb.parent / "executed").exists()
    with contextlib.suppress(Exception):
        torch.load(io.BytesIO(bomb.read_bytes()), weights_only=False)
    assert (bomb.parent / "executed").exists(), "the bomb is one"


def test_numpy_arrays_of_objects_and_lists_are_not_weights(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="must hold a dictionary of tensors alone"):
        load_weights(tmp_path / "list.pth")
    torch.save({"a": 1.0}, tmp_path / "number.pth")
    with pytest.raises(ValueError, match="must hold a dictionary of tensors alone"):
        load_weights(tmp_path / "number.pth")


def own_extractor():
    return metrics.Extractor(nn.Flatten(), "own")


def own_network():
    return nn.Flatten()


def test_extractors_are_named_by_a_text(tmp_path, monkeypatch):
    assert metrics.extractor(f"{__name__}:own_extractor").name == "own"
    features = metrics.extractor(f"{__name__}:own_network").features(BYTES)
    assert features.values.shape == (40, 768) and features.extractor.startswith(f"{__name__}:own_network#")
    for wrong, error, words in (
        ("resnet50", ValueError, "extractor must be fashion-cnn, inception:FILE, .* got 'resnet50'"),
        ("inception:", ValueError, "extractor must be"),
        ("no.such.module:f", ValueError, "cannot be imported"),
        (f"{__name__}:nothing", ValueError, "cannot be imported"),
        ("os:system", TypeError, "must be a Python function that returns"),
        (f"{__name__}:distance", TypeError, "missing 2 required"),
        ("torchvision:nothing", ValueError, "torchvision has no classifier 'nothing'"),
    ):
        with pytest.raises(error, match=words):
            metrics.extractor(wrong)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"resnet18.*fastgan downloads none: run python -c"):
        metrics.extractor("torchvision:resnet18")


def test_a_classifier_of_torchvision_gives_what_stands_before_its_last_layer(tmp_path, monkeypatch):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network = resnet18()
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    found = metrics.extractor("torchvision:resnet18").features(BYTES[:2])
    assert found.values.shape == (2, 512) and found.logits.shape == (2, 1000)
    logits = network.eval().fc(found.values)
    torch.testing.assert_close(found.logits, logits)
