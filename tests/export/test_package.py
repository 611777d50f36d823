"""fastgan.export: what is written gives the numbers of the generator that it was made from."""

import json
import types

import pytest
import torch

import fastgan
from fastgan import export, models
from fastgan.export.formats import difference
from fastgan.models import sampling
from fastgan.training.run.folder import RunFolder
from fastgan.training.run.load_generator import Loaded

MODELS = {
    "dcgan": {"resolution": 16, "channels": 1, "width": 4, "z_dim": 4, "spectral_norm": "both", "classes": 3},
    "sagan": {"resolution": 16, "channels": 3, "width": 8, "z_dim": 4},
    "r3gan": {"resolution": 16, "channels": 3, "width": 8, "z_dim": 4},
    "progressive": {"resolution": 16, "channels": 1, "width": 8, "z_dim": 4},
    "mlp": {"features": 2, "width": 8},
}


def trained(name, **others):
    """A generator whose running statistics, u and v have moved, in evaluation mode."""
    torch.manual_seed(0)
    generator = models.create(name, **MODELS[name], **others).generator
    for parameter in generator.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for _ in range(3):
        sampling.generate(generator, *inputs(generator, 8))
    return generator.eval()


def inputs(generator, count=3):
    return sampling.latents(generator, count, 0, "test"), sampling.labels_in_turn(generator, count)


@pytest.mark.parametrize("name", MODELS)
def test_load_gives_the_numbers_and_no_spectral_norm(tmp_path, name):
    generator, stage = trained(name), None
    if name == "progressive":
        stage = (1, 0.5)
        generator.set_stage(*stage)
    export.save(generator, tmp_path, generator.created_as, stage)
    loaded = fastgan.load(tmp_path)
    assert not loaded.training and not any("parametrizations" in key for key in loaded.state_dict())
    with torch.no_grad():
        expected = sampling.generate(generator, *inputs(generator))
        assert difference(sampling.generate(loaded, *inputs(generator)), expected, name) < 1e-5
    assert expected.std() > 0.01 and (loaded.z_dim, loaded.shape) == (generator.z_dim, generator.shape)


def test_onnx_gives_the_numbers_for_another_batch(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    generator = trained("sagan")
    assert export.save_onnx(generator, tmp_path / "g.onnx", *inputs(generator)) < 1e-4


def test_a_program_gives_the_numbers_for_another_batch(tmp_path):
    generator = trained("dcgan")
    assert export.save_program(generator, tmp_path / "g.pt2", *inputs(generator)) < 1e-4
    program = torch.export.load(str(tmp_path / "g.pt2")).module()
    with torch.no_grad():
        assert program(*inputs(generator, 7)).shape == (7, 1, 16, 16)


def test_other_numbers_are_an_error():
    with pytest.raises(export.DifferentNumbers, match=r"g\.onnx: differs from torch by 0\.001"):
        difference(torch.tensor([0.5, 0.501]), torch.tensor([0.5, 0.5]), "g.onnx")
    with pytest.raises(export.DifferentNumbers):
        difference(torch.tensor([float("nan")]), torch.tensor([0.5]), "g.onnx")


def test_damaged_and_missing_files_are_named(tmp_path):
    generator = trained("mlp")
    with pytest.raises(FileNotFoundError, match=r"config\.json: is missing"):
        fastgan.load(tmp_path)
    export.save(generator, tmp_path, generator.created_as)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match=r"model\.safetensors: is damaged"):
        fastgan.load(tmp_path)
    for config in ("[", "[]", '{"format": 2}', '{"format": 1, "model": 3}'):
        (tmp_path / "config.json").write_text(config)
        with pytest.raises(ValueError, match=r"config\.json: "):
            fastgan.load(tmp_path)


def test_the_card_says_recipe_data_and_metrics_with_their_extractor(tmp_path):
    generator = trained("dcgan")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    row = {"metric": "fid", "value": 12.345, "extractor": "fashion-cnn#01", "n": 64, "n_real": 80, "against": "fashion"}
    folder.evaluations.write_text("".join(json.dumps({**row, "step": s, "value": s / 2}) + "\n" for s in (7, 9)))
    recipe = fastgan.Recipe(generator_lr=0.00123)
    run = Loaded(generator, 9, generator.created_as, {"data": "fashion", "recipe": "default"}, folder, recipe, None)
    text = export.write_card(run, tmp_path).read_text()
    assert (tmp_path / "samples.png").exists() and "Data: fashion" in text and "dcgan, step 9" in text
    assert "| generator_lr | 0.00123 |" in text and "discriminator_lr" not in text
    assert "| fid | 4.5 | fashion-cnn#01 | 64 | 80 | fashion |" in text and "| fid | 3.5" not in text
    code = text.partition("```python\n")[2].partition("```")[0]
    export.save(generator, tmp_path, generator.created_as)
    names = types.SimpleNamespace(**_run(code.replace('"."', repr(str(tmp_path)))))
    assert names.images.shape == (16, 1, 16, 16)


def _run(code):
    names = {}
    exec(code, names)
    return names
