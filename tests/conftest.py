"""What holds for all tests.

Compiled graphs do not come from an earlier build's cache: a graph calls the ops by the schemas of its build.
"""

import atexit
import os
import shutil
import sys
import tempfile

import pytest

if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="fastgan-tests-inductor-")
    atexit.register(shutil.rmtree, os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def no_report_of_each_run(request, monkeypatch):
    """A page has 5 MB: only a test that is marked with `reports` has its runs write one."""
    module = sys.modules.get("fastgan.training.callbacks.report")
    if module is not None and request.node.get_closest_marker("reports") is None:
        monkeypatch.setattr(module.Report, "on_end", lambda self, trainer: None)
