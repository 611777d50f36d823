import importlib
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_fidelity.feature_extractor_base import FeatureExtractorBase

from fastgan import metrics
from fastgan.data import fashion_mnist
from fastgan.metrics import Extractor

module = importlib.import_module("fastgan.metrics.features.fashion_cnn")


def test_the_fashion_classifier_knows_garments(extractor):
    data = fashion_mnist()
    held_out = torch.arange(0, len(data), module.HELD_OUT)
    images, labels = data.batch(held_out)
    features = extractor.features(images)
    assert features.values.shape == (1000, 128) and features.logits.shape == (1000, 10)
    assert (features.logits.argmax(1) == labels).double().mean() > 0.87
    assert features.extractor == extractor.identity == f"fashion-cnn#{extractor.hash}"


def test_training_the_classifier_is_deterministic():
    threads, weights = torch.get_num_threads(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = module.FashionCNN()
        before = torch.get_rng_state()
        module.train(network, epochs=1)
        assert torch.equal(before, torch.get_rng_state()) and torch.get_num_threads() == threads
        weights.append(Extractor(network, "x").hash)
    assert weights[0] == weights[1]


def test_a_trained_classifier_is_read_from_its_file(extractor, tmp_path, monkeypatch):
    path = tmp_path / "fashion-cnn.safetensors"
    save_file(extractor.network.state_dict(), path)
    monkeypatch.setattr(module, "train", None)
    assert metrics.fashion_cnn(path).identity == extractor.identity
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert module.default_path().parent == tmp_path / "fastgan"
    save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="is not a fashion-cnn; remove the file"):
        metrics.fashion_cnn(path)


def test_the_hash_covers_weights_and_preparation():
    network = nn.Linear(4, 2)
    first = Extractor(network, "x").hash
    assert Extractor(network, "y").hash == first != Extractor(network, "x", resolution=8).hash
    network.bias.data[0] += 1
    assert Extractor(network, "x").hash != first


def test_real_bytes_and_generated_floats_are_prepared_alike():
    extractor = Extractor(nn.Flatten(), "pixels", channels=3, resolution=12)
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    values, logits = extractor(images)
    assert logits is None and values.shape == (3, 3 * 144) and values.abs().max() <= 1
    assert torch.equal(values, extractor(images / 127.5 - 1 + 1e-3)[0])
    grey = Extractor(nn.Flatten(), "pixels", channels=1)
    assert torch.allclose(grey(images.repeat(1, 3, 1, 1))[0], grey(images)[0], atol=1e-6)
    with pytest.raises(ValueError, match="1 or 1 channels, got 2"):
        grey(torch.zeros(1, 2, 4, 4))
    points = torch.randn(5, 2)
    assert torch.equal(Extractor.samples().features(points).values, points)


class Fidelity(FeatureExtractorBase):
    def __init__(self):
        super().__init__("tiny", ["64", "logits"])
        self.layer = nn.Linear(12, 4)

    @staticmethod
    def get_provided_features_list():
        return "64", "logits"

    def forward(self, x):
        assert x.dtype == torch.uint8
        return self.layer(x.flatten(1) / 255), x.flatten(1).float()[:, :3]


def test_torch_fidelitys_extractors_are_taken():
    images = torch.rand(6, 1, 2, 2) * 2 - 1
    extractor = Extractor.torch_fidelity(Fidelity(), "64", "logits")
    features = extractor.features(images)
    assert extractor.name == "tiny:64" and features.values.shape == (6, 4) and features.logits.shape == (6, 3)
    assert Extractor.torch_fidelity(Fidelity()).features(images).logits is None
    with pytest.raises(ValueError, match="must be among 64, logits; got '2048'"):
        Extractor.torch_fidelity(Fidelity(), "2048")


def test_inception_is_never_downloaded(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"fastgan downloads none: get weights-inception-.*inception:PATH"):
        metrics.inception(tmp_path / "nothing.pth")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"does not hold Inception's weights"):
        metrics.inception(tmp_path / "other.pth")


def test_inception_runs_from_a_file(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Network

    class Bare(Network):
        def load_state_dict(self, *args, **kw):
            pass

    torch.save({}, tmp_path / "empty.pth")
    torch.manual_seed(0)
    bare = Bare("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(tmp_path / "empty.pth"))
    torch.save(bare.state_dict(), tmp_path / "weights.pth")
    clean, legacy = (metrics.inception(tmp_path / "weights.pth", resize=r) for r in ("clean", "legacy"))
    assert (clean.name, legacy.name) == ("inception-clean", "inception-legacy")
    features = clean.features(torch.rand(2, 1, 28, 28) * 2 - 1)
    assert features.values.shape == (2, 2048) and features.logits.shape == (2, 1008)


def measured(extractor, count=600):
    data = fashion_mnist()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    real, fake = (data.batch(indices)[0] for indices in order[: 2 * count].split(count))
    return [metrics.Samples.of(images, extractor) for images in (real, fake)]


def test_every_measurement_says_what_it_is(extractor):
    real, fake = measured(extractor)
    found = metrics.measure(real, fake, metrics.names())
    by_name = {m.name: m for m in found}
    assert len(by_name) == len(found)
    fid = by_name["FID(fashion-cnn)"]
    assert fid.extractor == extractor.identity and (fid.n, fid.n_real) == (600, 600)
    assert fid.versions["torch"] == torch.__version__
    assert json.loads(json.dumps(fid.as_dict()))["name"] == "FID(fashion-cnn)"
    assert "below the subsets' 1000" in by_name["KID(fashion-cnn)"].note
    assert "biased downwards" in by_name["IS(fashion-cnn)"].note
    assert by_name["modes(fashion-cnn)"].value == 10
    assert by_name["coverage[k=5, <](fashion-cnn)"].value > 0.9
    assert by_name["MS-SSIM[2 scales, window 11]"].extractor is None


def test_a_collapsed_set_is_seen(extractor):
    real, healthy = measured(extractor, 300)
    collapsed = metrics.Samples.of(healthy.images[:3].repeat(100, 1, 1, 1), extractor)
    good, bad = (
        {m.metric: m.value for m in metrics.measure(real, fake, ("fid", "prdc", "vendi", "modes", "ms_ssim"))}
        for fake in (healthy, collapsed)
    )
    assert bad["FID"] > 5 * good["FID"]
    assert bad["coverage[k=5, <]"] < 0.2 < 0.9 < good["coverage[k=5, <]"]
    assert bad["recall[k=5, <]"] == 0 and bad["Vendi"] <= 3.01 and bad["modes"] <= 3


def test_numbers_of_different_extractors_are_never_in_one_column(extractor):
    other = Extractor(nn.Flatten(), "fashion-cnn")  # the same name, another network
    rows = {}
    for name, e in (("a", extractor), ("b", other)):
        real, fake = (metrics.Samples.of(x, e) for x in (fashion_mnist().batch(torch.arange(50))[0],) * 2)
        rows[name] = metrics.measure(real, fake, ("vendi",))
    with pytest.raises(ValueError, match="numbers of different extractor do not belong in one column"):
        metrics.table(rows)
    text = metrics.table({"a": rows["a"], "again": rows["a"]})
    assert text.splitlines()[0].split() == ["Vendi(fashion-cnn)"] and len(text.splitlines()) == 3
    with pytest.raises(ValueError, match="features of different extractors"):
        metrics.measure(real, metrics.Samples.of(fake.images, extractor))
    with pytest.raises(ValueError, match=r"metrics must be among fid, .*; got fad"):
        metrics.measure(real, real, ("fad",))
    with pytest.raises(ValueError, match="is needs an extractor with logits"):
        metrics.measure(real, real, ("is",))
