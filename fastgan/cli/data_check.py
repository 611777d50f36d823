"""`fastgan data check`, which looks at a data set before a run does."""

import argparse

import torch

from fastgan import data
from fastgan.cli.flags import mendable
from fastgan.data import data_source
from fastgan.figures import save_grid

ROWS = 8  # and columns


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "fastgan data",
        description="What a run would see of a data set, and what is wrong with the files.",
        epilog=f"what DATA, and --data of other commands, may be:\n{data.forms()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["check"])
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--resolution", type=int, help="of the run; smaller images are reported (64)")
    parser.add_argument("--links", action="store_true", help="follow links that lead out of the folder")
    parser.add_argument("--grid", metavar="FILE", help="draw images as a run sees them")
    flags = parser.parse_args(arguments)
    with mendable(ValueError, TypeError, OSError):
        print(data.check(flags.data, flags.resolution or 64, flags.links))
        if flags.grid:
            _draw(flags)
            print(f"grid:     {flags.grid}")


def _draw(flags):
    samples = data_source.load(flags.data, flags.resolution, None, True, data_source.Reading(links=flags.links))
    if len(samples.shape) != 3 or samples.shape[0] not in (1, 3):
        raise ValueError(f"{flags.data}: has samples of shape {tuple(samples.shape)}, which a grid cannot show")
    count = min(len(samples), ROWS**2)
    chosen = torch.arange(count) * len(samples) // count  # of all classes
    save_grid(samples.batch(chosen)[0], flags.grid)
