"""`fastgan doctor`: what is built, which backend serves each op, what is missing and how to get it."""

import importlib.metadata
import importlib.util
import json
import platform
from typing import Any

import torch

import fastgan
from fastgan import _library
from fastgan.ops._torch_private import kernel_is_registered, op_names

TRAINING_PACKAGES = ("torchvision", "tyro", "tqdm", "matplotlib", "tensorboard", "safetensors", "yaml")


def backends(op: str) -> dict[str, str]:
    """{"cpu": ..., "cuda": ...} with what serves the op there, by the dispatcher's own word."""

    def has_kernel(key):
        return kernel_is_registered(op, key)

    cuda = has_kernel("CUDA") and torch.cuda.is_available()
    written_in = "Triton" if importlib.util.find_spec(f"fastgan.kernels.{op}") else "CUDA C++"
    return {
        "cpu": f"C++ ({_library.isa()})" if has_kernel("CPU") else "plain torch",
        "cuda": written_in if cuda else f"none: no GPU here ({written_in})" if has_kernel("CUDA") else "plain torch",
    }


def ops() -> list[str]:
    """The op families: every op of the fastgan namespace that is not another one's derivative."""
    return sorted(name for name in op_names() if not name.endswith("_backward"))


def examine() -> dict[str, Any]:
    """Everything that doctor reports, as plain data."""
    missing = []
    if _library.CUDA_PROBLEM:
        missing.append(f"CUDA ops: {_library.CUDA_PROBLEM}")
    elif not torch.cuda.is_available():
        missing.append("GPU: the CUDA ops are loaded, but torch sees no GPU on this machine")
    absent = [name for name in TRAINING_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        missing.append(f"training packages ({', '.join(absent)}): run `pip install 'fastgan[train]'`")
    return {
        "fastgan": fastgan.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda (torch)": torch.version.cuda,
        "triton": importlib.metadata.version("triton") if importlib.util.find_spec("triton") else None,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu instructions": _library.isa(),
        "cpu threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "libraries": {name: str(_library.library(name) or "not built") for name in ("_C", "_CUDA")},
        "ops": {op: backends(op) for op in ops()},
        "missing": missing,
    }


def report(as_json: bool = False) -> str:
    """The findings as text (or JSON)."""
    found = examine()
    if as_json:
        return json.dumps(found, indent=2)
    lines = []
    for name, value in found.items():
        if name in ("ops", "missing", "libraries"):
            continue
        lines.append(f"{name:17} {', '.join(value) or 'none' if isinstance(value, list) else value}")
    lines += ["", f"{'op':17} {'on CPU':18} on CUDA"]
    lines += [f"{op:17} {where['cpu']:18} {where['cuda']}" for op, where in found["ops"].items()]
    lines += ["", *(f"missing: {what}" for what in found["missing"])]
    return "\n".join(lines if found["missing"] else [*lines, "nothing is missing"])
