"""`fastgan doctor`, which works where the optional dependencies are missing."""

import argparse

from fastgan.doctor import report


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("fastgan doctor", description="What is built, and what is missing.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    print(report(as_json=parser.parse_args(arguments).json))
