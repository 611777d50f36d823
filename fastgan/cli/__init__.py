"""The command line: `fastgan train | sample | report | ...`, a file each. Nothing but this package prints."""

import contextlib
import difflib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Sequence

from fastgan.cli import exit_codes

COMMANDS = {
    "train": ("fastgan.cli.train", "train a pair of networks on the embedded garments or on your own images"),
    "compare": ("fastgan.cli.compare", "train recipes side by side: a table and a figure"),
    "stages": ("fastgan.cli.stages", "train two stages, a silhouette first and then the image on it"),
    "recipes": ("fastgan.cli.recipes", "list the named recipes and their papers"),
    "sample": ("fastgan.cli.sample", "draw images from the generator of a run"),
    "report": ("fastgan.cli.report", "write one HTML page of a run, or of runs side by side"),
    "evaluate": ("fastgan.cli.evaluate", "measure a run, or a folder of images, against real ones"),
    "data": ("fastgan.cli.data_check", "say what a run would see of your images, and what is wrong with the files"),
    "export": ("fastgan.cli.export", "write the generator of a run for other places: safetensors, ONNX, torch.export"),
    "bench": ("fastgan.cli.bench", "measure an op on this machine against torch: time, error, share of the ceiling"),
    "doctor": ("fastgan.cli.doctor", "say what is built, what serves each op, and what is missing"),
}


class BadInput(Exception):
    """What the user can mend, in one line."""

    def __init__(self, message: str, code: int = exit_codes.USAGE) -> None:
        super().__init__(message)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command. Returns the exit code (fastgan.cli.exit_codes); for what the user can mend, after one line on
    stderr."""
    _open_closed_streams()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _run(list(sys.argv[1:] if argv is None else argv) or ["--help"])
            sys.stdout.flush()
            return code
    except BadInput as error:
        return _say(error, error.code)
    except ModuleNotFoundError as error:
        return _say(error, exit_codes.USAGE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader
        return exit_codes.PIPE
    except KeyboardInterrupt as stopped:
        number = getattr(stopped, "signal", signal.SIGINT)
        return _say(f"stopped by {stopped}" if str(stopped) else "stopped", exit_codes.SIGNAL + number)
    except (MemoryError, RuntimeError) as error:
        if not exit_codes.is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        return _say(
            f"out of memory: lower --batch-size, --width, --resolution or --count ({reason:.200})", exit_codes.MEMORY
        )


def _run(arguments: list[str]) -> int:
    command, *rest = arguments
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "--version":
        import fastgan

        print(f"fastgan {fastgan.__version__}")
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise BadInput(f"{command!r} is not a command; use one of {', '.join(COMMANDS)}{hint}")
    if command != "train" and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise BadInput(f"{command} runs in one process; start fastgan {command} without torchrun")
    return importlib.import_module(COMMANDS[command][0]).main(rest) or 0


def _help() -> str:
    commands = "\n".join(f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items())
    codes = "\n".join(f"  {code:<15}{meaning}" for code, meaning in exit_codes.MEANINGS.items())
    return (
        f"usage: fastgan COMMAND [FLAGS]\n\n{commands}\n\n`fastgan COMMAND --help` lists its flags."
        f" `fastgan --version` says the version.\n\nexit codes:\n{codes}"
    )


def _say(error: object, code: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        process = os.environ.get("RANK", "0")  # of several that torchrun has started
        name = "fastgan" if process == "0" else f"fastgan, process {process}"
        print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if category.__module__.partition(".")[0] == "fastgan":
        print(f"fastgan: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=sys.stderr)


def _open_closed_streams():
    """A closed stdin, stdout or stderr (`2>&-`) becomes /dev/null, so that no file of the run gets the number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r"))
