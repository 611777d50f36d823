"""A type checker knows the public names, and finds mistakes in arguments. `make lint` checks the package itself."""

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

import fastgan
from fastgan.ops.bias_act import ACTIVATIONS, ActivationName
from fastgan.ops.grad_norm_penalty import KINDS, Kind
from fastgan.training.run.options import Options, RunOptions

ROOT = Path(__file__).parents[1]
ROOMS = ["fastgan", *(f"fastgan.{name}" for name in fastgan.__all__ if name not in ("Recipe", "Trainer", "load"))]

PAIRS = {  # a mistake, and the line without it
    "fastgan.Recipy()": "fastgan.Recipe()",
    "fastgan.Recipe(lossy='hinge')": "fastgan.Recipe(loss='hinge')",
    "fastgan.Recipe(generator_lr='fast')": "fastgan.Recipe(generator_lr=1e-4)",
    "fastgan.Recipe(optimizer='adamw')": "fastgan.Recipe(optimizer='sgd')",
    "fastgan.Recipe().generator_rate": "fastgan.Recipe().generator_lr",
    "fastgan.Trainer(net, net, recipe, x, log_evry=10)": "fastgan.Trainer(net, net, recipe, x, log_every=10)",
    "fastgan.Trainer(net, net, recipe, [1, 2])": "fastgan.Trainer(net, net, recipe, x, device='cpu')",
    "fastgan.Trainer(net, net, recipe, x).fit('5')": "fastgan.Trainer(net, net, recipe, x).fit(5)",
    "fastgan.nn.SNConv2d(3, 8, 3, strid=2)": "fastgan.nn.SNConv2d(3, 8, 3, stride=2, n_power_iterations=2)",
    "fastgan.nn.SNLinear('3', 8)": "fastgan.nn.SNLinear(3, 8, num_itrs=2)",
    "fastgan.nn.SelfAttention2d(64, similarity='l1')": "fastgan.nn.SelfAttention2d(64, similarity='l2')",
    "fastgan.nn.BiasAct(64, 'leaky_rely')": "fastgan.nn.BiasAct(64, 'lrelu')",
    "fastgan.ops.attention(x, x)": "fastgan.ops.attention(x, x, x)",
    "fastgan.ops.attention(x, x, x, similarity='cosine')": "fastgan.ops.attention(x, x, x, similarity='l2')",
    "fastgan.ops.bias_act(x, act='relo')": "fastgan.ops.bias_act(x, act='relu')",
    "fastgan.ops.grad_norm_penalty(x).norms": "fastgan.ops.grad_norm_penalty(x).item()",
    "fastgan.ops.grad_norm_penalty(x, return_norms=True).item()": (
        "fastgan.ops.grad_norm_penalty(x, return_norms=True)[1]"
    ),
    "fastgan.ops.group_norm(x, groups=2)": "fastgan.ops.group_norm(x, num_groups=2)",
    "fastgan.losses.get('hinge').critic": "fastgan.losses.get('hinge').discriminator",
    "fastgan.penalties.R1(gama=1.0)": "fastgan.penalties.R1(gamma=1.0, every=4)",
    "fastgan.penalties.DRAGAN(variant='papr')": "fastgan.penalties.DRAGAN(variant='paper')",
    "fastgan.penalties.R1()(net, x, x)": "fastgan.penalties.R1()(net, real=x, fake=x)",
    "fastgan.penalties.R1()(net, real=x)": "fastgan.penalties.R1().measure(net, real=x, fake=x)[0].backward()",
    "fastgan.penalties.Critic(net, packs=2)": "fastgan.penalties.Critic(net, pack=2)",
    "fastgan.penalties.backward(net, 'hinge', real=x, fake=x, route='fast')": (
        "fastgan.penalties.backward(net, 'hinge', real=x, fake=x, route='general')"
    ),
    "fastgan.data.load('ring', size=8)": "fastgan.data.load('ring', resolution=None).shape",
    "fastgan.data.as_data([1, 2])": "fastgan.data.as_data(x)",
    "fastgan.metrics.frechet_distance(x)": "fastgan.metrics.frechet_distance(x, x) + 1",
    "fastgan.metrics.mode_coverage(x, x, 0.1, rule='disc')": (
        "fastgan.metrics.mode_coverage(x, x, 0.1, rule='box').modes"
    ),
    "fastgan.monitor.best([], patience=3)": "fastgan.monitor.best([])",
    "fastgan.report.save_grid(x)": "fastgan.report.save_grid(x, 'x.png', columns=4)",
    "fastgan.models.create('dcgan', resolution='32')": "fastgan.models.create('dcgan', resolution=32).generator",
    "fastgan.augment.DiffAugment(policies='color')": "fastgan.augment.DiffAugment(policy='color')(x)",
    "fastgan.training.TwoStage(x, recipe)": "fastgan.training.TwoStage(x, recipe, run_dir='x')",
}
BEFORE = "import torch\nimport fastgan\nx, net, recipe = torch.ones(2), torch.nn.Linear(2, 1), fastgan.Recipe()\n"


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """file's name -> {number of a line: what basedpyright reports}, from one run over all files."""
    folder = tmp_path_factory.mktemp("typed")
    readme = (ROOT / "README.md").read_text()
    (folder / "readme.py").write_text("\n".join(re.findall(r"```python\n(.*?)```", readme, re.S)))
    (folder / "wrong.py").write_text(BEFORE + "".join(f"{line}\n" for line in PAIRS))
    (folder / "right.py").write_text(BEFORE + "".join(f"{line}\n" for line in PAIRS.values()))
    (folder / "names.py").write_text("import fastgan\n" + "".join(f"fastgan.{name}\n" for name in fastgan.__all__))
    settings = {
        "typeCheckingMode": "basic",
        "extraPaths": [str(ROOT)],
        "reportUnusedExpression": "none",
        "reportAttributeAccessIssue": "error",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    found = {name: {} for name in ("readme", "wrong", "right", "names")}
    for report in json.loads(done.stdout)["generalDiagnostics"]:
        found[Path(report["file"]).stem][report["range"]["start"]["line"]] = report["message"]
    return found


def test_every_mistake_is_reported(reported):
    first = BEFORE.count("\n")
    missed = [line for number, line in enumerate(PAIRS, first) if number not in reported["wrong"]]
    assert not missed and len(reported["wrong"]) == len(PAIRS)


@pytest.mark.parametrize("name", ["right", "names", "readme"])
def test_what_is_right_is_not_reported(reported, name):
    assert reported[name] == {}


def test_literals_name_the_rows_of_their_tables():
    assert get_args(ActivationName) == tuple(ACTIVATIONS) and get_args(Kind) == tuple(KINDS)


def test_the_options_of_a_trainer_are_those_of_a_run():
    assert get_type_hints(Options) == get_type_hints(RunOptions)


def test_the_stub_of_the_layers_has_their_arguments():
    """layers.pyi says for a checker what a decorator makes when the package runs."""
    tree = ast.parse((ROOT / "fastgan/nn/spectral/layers.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, node in classes.items():
        if not name.startswith("SN"):
            continue
        holder = classes.get(node.bases[0].id, node) if isinstance(node.bases[0], ast.Name) else node
        arguments = next(f for f in holder.body if isinstance(f, ast.FunctionDef)).args
        stub = [a.arg for a in (*arguments.args[1:], *arguments.kwonlyargs)]
        assert stub == list(inspect.signature(getattr(fastgan.nn, name)).parameters), name


# --- what is public


def public(room):
    """name -> function or class, of a room's __all__."""
    module = importlib.import_module(room)
    return {name: getattr(module, name) for name in module.__all__ if callable(getattr(module, name))}


@pytest.mark.parametrize("room", ROOMS)
def test_all_names_everything_public(room):
    """Nothing else can be imported from a package, but for its modules. `ruff check` sorts the names."""
    module = importlib.import_module(room)
    assert all(hasattr(module, name) for name in module.__all__) and len(set(module.__all__)) == len(module.__all__)
    if room not in ("fastgan", "fastgan.losses"):  # packages that only collect
        there = {name for name, value in vars(module).items() if not isinstance(value, ModuleType)}
        assert {name for name in there if not name.startswith("_")} == set(module.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_is_documented(room):
    made = re.compile(r"\w+\(.*\)$", re.S)  # what a dataclass or a NamedTuple writes if it has no docstring
    assert [name for name, value in public(room).items() if not value.__doc__ or made.match(value.__doc__)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_is_annotated(room):
    assert [gap for name, value in public(room).items() for gap in gaps(name, value)] == []


def gaps(name, value):
    """The parameters and results without an annotation, of a function or of a class's public methods."""
    if not inspect.isclass(value):
        yield from gaps_of(name, value)
        return
    for method, found in vars(value).items():
        found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if inspect.isfunction(found) and (not method.startswith("_") or method in ("__init__", "__call__", "__len__")):
            yield from gaps_of(f"{name}.{method}", found)


def gaps_of(name, function):
    function = inspect.unwrap(function)
    if function.__qualname__.startswith("_") or hasattr(function, "__signature__"):  # a Protocol's; a stub has these
        return
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls"):
            yield f"{name}({parameter.name})"
    if signature.return_annotation is signature.empty:
        yield f"{name} ->"


def test_a_gap_is_found():
    class Example:
        def method(self, x: int, y) -> int:
            return x

        @property
        def size(self):
            return 0

    Example.method.__qualname__, Example.size.fget.__qualname__ = "Example.method", "Example.size"
    assert list(gaps("Example", Example)) == ["Example.method(y)", "Example.size ->"]
