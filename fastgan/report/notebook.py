"""The report in a notebook."""

import html
from typing import Any

from fastgan.extras import require
from fastgan.report.page import render

HEIGHT = 900  # pixels of the frame


def show(run: Any, *others: Any) -> Any:
    """Display the page of a run (a folder, a Trainer or a Record) in a notebook, or of several runs side by side.

    Returns the IPython.display.HTML that it displays. Errors: save_report's; ModuleNotFoundError without IPython.
    """
    page = html.escape(render([run, *others]))
    display = require("IPython.display", "notebook")
    sandbox = 'sandbox="allow-scripts" style="width: 100%; border: 0; border-radius: 12px"'
    frame = display.HTML(
        f'<div><iframe title="fastgan report" height="{HEIGHT}" {sandbox} srcdoc="{page}"></iframe></div>'
    )
    display.display(frame)
    return frame
