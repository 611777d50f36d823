"""Imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "fastgan"

# A room may import itself, the rooms before it that are named here, and nothing else of fastgan.
LEAVES = {"extras", "randomness", "atomic_file", "_library"}
OPS = LEAVES | {"ops", "kernels"}
NETWORKS = OPS | {"nn"}
TRICKS = {"augment", "models", "penalties", "losses", "metrics"}
MAY_IMPORT = {
    "extras": set(),
    "randomness": set(),
    "atomic_file": set(),
    "_library": set(),
    "ops": OPS,
    "nn": NETWORKS,
    "data": LEAVES,
    "augment": LEAVES,
    "models": NETWORKS,
    "penalties": NETWORKS | {"losses", "augment"},
    "losses": NETWORKS,
    "metrics": NETWORKS | {"data"},
    "report": LEAVES | {"metrics"},
    "training": NETWORKS | TRICKS | {"data", "report"},
    "doctor": OPS,
    "cli": NETWORKS | TRICKS | {"data", "report", "training", "doctor"},
}
ALWAYS_THERE = {"fastgan", "torch", "numpy"} | sys.stdlib_module_names


def room_of(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


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


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_room_has_its_rule():
    assert {room_of(path) for path in FILES} <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_rooms_below(path):
    room = room_of(path)
    assert set(rooms_imported(path)) <= MAY_IMPORT[room] | {room}


def test_the_rules_have_no_circle():
    above = {room: others - {room} for room, others in MAY_IMPORT.items()}
    while above:
        free = {room for room, others in above.items() if not others & above.keys()}
        assert free, f"a circle among {sorted(above)}"
        above = {room: others for room, others in above.items() if room not in free}


def test_the_check_sees_each_kind_of_import(tmp_path):
    path = tmp_path / "x.py"
    path.write_text(
        "import fastgan.cli\nfrom fastgan import models\ndef f():\n    from fastgan.training.ema import x\n"
    )
    assert set(rooms_imported(path)) == {"cli", "models", "training"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
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
