"""How OpenMP's threads wait, set before torch loads and only in a process that the `fastgan` command starts.

Waiting threads of GNU's OpenMP spin, and so take the processor from other programs and from each other. Passive threads
sleep. A policy that the user has set stays.
"""

import os
import sys


def is_command() -> bool:
    """Whether this process is `fastgan ...` or `python -m fastgan ...`, with flags of Python's own or without."""
    name = sys.argv[0] if sys.argv else ""  # an embedded Python may have none
    if name != "-m":  # which it is while Python looks for the module
        return os.path.basename(name) == "fastgan"
    return sys.orig_argv[-len(sys.argv)].removeprefix("-m") == "fastgan"


if is_command():
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
