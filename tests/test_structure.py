"""Imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A room may import itself, the rooms below it that are named here, and nothing else of fastgan. An edge that no file
# uses is an error too: what nobody needs cannot grow unseen.
MAY_IMPORT = {
    "extras": set(),
    "processes": set(),
    "randomness": {"processes"},
    "own_code": set(),
    "atomic_file": set(),
    "_library": set(),
    "_threads": set(),
    "__main__": {"cli"},
    "kernels": set(),  # the Triton kernels, in the top-level folder of this name
    "ops": {"_library"},  # and, by name at the first call on a GPU, kernels
    "nn": {"ops", "processes"},
    "losses": {"processes"},
    "augment": {"processes", "randomness"},
    "data": {"atomic_file", "extras", "own_code", "processes", "randomness"},
    "models": {"nn", "ops", "own_code", "randomness"},
    "penalties": {"augment", "losses", "nn", "ops", "processes", "randomness"},
    "metrics": {"atomic_file", "data", "extras", "losses", "nn", "own_code", "randomness"},
    "figures": {"atomic_file", "extras"},
    "monitor": {"losses", "metrics", "models", "nn", "penalties", "randomness"},
    "training": {
        "atomic_file",
        "augment",
        "data",
        "extras",
        "losses",
        "metrics",
        "models",
        "monitor",
        "nn",
        "own_code",
        "penalties",
    }
    | {"figures", "processes", "randomness"},
    "report": {"atomic_file", "data", "extras", "figures", "models", "monitor", "nn", "training"},
    "export": {"atomic_file", "extras", "figures", "models", "nn", "own_code", "training"},
    "doctor": {"_library", "ops"},
    "bench": {"ops"},
    "cli": {
        "atomic_file",
        "bench",
        "data",
        "doctor",
        "export",
        "extras",
        "figures",
        "metrics",
        "models",
        "own_code",
        "processes",
        "randomness",
        "report",
        "training",
    },
}
ALWAYS_THERE = {"fastgan", "torch", "numpy", "typing_extensions"} | sys.stdlib_module_names


def name_of(path):
    """The module that a file is: fastgan.nn.pack; a package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("fastgan", *parts) if parts[0] == "kernels" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(path):
    return name_of(path).split(".")[1]


def imported_modules(path):
    """Every module that the file imports anywhere, by full name; `from a import b` counts as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    """The rooms of fastgan that the file imports; `fastgan` alone (as for its version) is none."""
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "fastgan" and len(parts) > 1:
            yield parts[1]


FILES = sorted(
    path
    for folder in ("fastgan", "kernels")
    for path in (ROOT / folder).rglob("*.py")
    if path.parent != ROOT / "fastgan"
)
FILES += sorted(path for path in (ROOT / "fastgan").glob("*.py") if path.name != "__init__.py")
MODULES = {name_of(path): path for path in FILES}


def imported_files(path):
    """The modules of fastgan that the file imports; `from fastgan.nn import SNLinear` is fastgan.nn."""
    for module in imported_modules(path):
        while module not in MODULES and "." in module:
            module = module.rpartition(".")[0]
        if module in MODULES:
            yield module


def readable(path):
    return str(path.relative_to(ROOT))


def test_every_room_has_its_rule():
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=readable)
def test_a_file_imports_only_from_rooms_below(path):
    room = room_of(path)
    assert set(rooms_imported(path)) <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_every_allowance_is_used(room):
    used = {other for path in FILES if room_of(path) == room for other in rooms_imported(path)}
    assert MAY_IMPORT[room] <= used


def test_the_rules_have_no_circle():
    above = {room: others - {room} for room, others in MAY_IMPORT.items()}
    while above:
        free = {room for room, others in above.items() if not others & above.keys()}
        assert free, f"a circle among {sorted(above)}"
        above = {room: others for room, others in above.items() if room not in free}


def test_no_circle_among_files():
    """Imports inside functions count. A package's __init__.py collects its files, so that arrows into it from its own
    files would be circles; those from elsewhere go on to what it collects."""
    below = {name_of(path): set(imported_files(path)) - {name_of(path)} for path in FILES}
    while below:
        free = {name for name, others in below.items() if not others & below.keys()}
        assert free, "a circle among " + ", ".join(sorted(_on_a_circle(below)))
        below = {name: others for name, others in below.items() if name not in free}


def _on_a_circle(below):
    """What is left when also everything that nothing left imports is taken away."""
    while unused := below.keys() - set().union(*below.values()):
        below = {name: others for name, others in below.items() if name not in unused}
    return below


def test_no_folder_is_a_heap():
    """At most a dozen siblings, unless they share one idea: the models, the layers, the commands, the tests of a
    room, the tables."""
    one_idea = {"fastgan/cli": 20, "fastgan/models": 15, "fastgan/nn": 15}
    for folder in {path.parent for path in FILES}:
        siblings = [p for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()]
        name = str(folder.relative_to(ROOT))
        if name != "fastgan":
            assert len(siblings) <= one_idea.get(name, 13), f"{name} has {len(siblings)} siblings"


def test_the_check_sees_each_kind_of_import(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        "import fastgan.cli\nfrom fastgan import models\ndef f():\n    from fastgan.training.step.ema import x\n"
    )
    assert set(rooms_imported(path)) == {"cli", "models", "training"}


@pytest.mark.parametrize("path", FILES, ids=readable)
def test_optional_dependencies_are_imported_where_they_are_used(path):
    """That is through `extras.require`, which says what to install where one is missing; Triton is the kernels' own."""
    allowed = ALWAYS_THERE | ({"triton"} if room_of(path) in ("kernels", "ops") else set())
    assert {module.split(".")[0] for module in imported_modules(path)} <= allowed


def test_import_fastgan_loads_torch_and_numpy_alone():
    """Beside what torch itself loads."""
    code = "import sys; import {}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    loaded = [
        set(
            subprocess.run(
                [sys.executable, "-c", code.format(name)], capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for name in ("torch, numpy", "fastgan")
    ]
    assert loaded[1] - loaded[0] <= {"fastgan"} | sys.stdlib_module_names


def test_everything_public_is_there_when_it_is_asked_for():
    import fastgan

    for name in fastgan.__all__:
        assert getattr(fastgan, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fastgan.nothing
