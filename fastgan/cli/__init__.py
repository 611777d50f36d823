"""The command line: `fastgan train | sample | evaluate | doctor`, a file each. Nothing but this package prints."""

import importlib
import sys

COMMANDS = {
    "train": ("fastgan.cli.train", "train a pair of networks on the embedded garments or on a folder of images"),
    "compare": ("fastgan.cli.compare", "train recipes side by side: a table and a figure"),
    "stages": ("fastgan.cli.stages", "train two stages, a silhouette first and then the image on it"),
    "recipes": ("fastgan.cli.recipes", "list the named recipes and their papers"),
    "sample": ("fastgan.cli.sample", "draw images from the generator of a run"),
    "evaluate": ("fastgan.cli.evaluate", "measure a run, or a folder of images, against real ones"),
    "doctor": ("fastgan.cli.doctor", "say what is built, what serves each op, and what is missing"),
}


class BadInput(Exception):
    """What the user can mend, in one line."""


def main(argv=None):
    """Runs a command. Returns the exit code: 0; 2 after one line on stderr for bad input; 130 after Ctrl-C."""
    command, *arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print("usage: fastgan COMMAND [FLAGS]\n")
        print("\n".join(f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items()))
        print("\n`fastgan COMMAND --help` lists its flags.")
        return 0
    try:
        if command not in COMMANDS:
            raise BadInput(f"there is no command {command!r}; there are {', '.join(COMMANDS)}")
        return importlib.import_module(COMMANDS[command][0]).main(arguments) or 0
    except (BadInput, ModuleNotFoundError) as error:
        print(f"fastgan: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
