"""How OpenMP's threads wait, set before torch loads and only in a process that the `fastgan` command starts.

Waiting threads of GNU's OpenMP spin, and so take the processor from other programs and from each other. Passive threads
sleep. A policy that the user has set stays.
"""

import os
import sys


def is_command():
    """Whether this process is `fastgan ...` or `python -m fastgan ...`, with -u too, as torchrun has it."""
    return os.path.basename(sys.argv[0]) == "fastgan" or ["-m", "fastgan"] in (sys.orig_argv[1:3], sys.orig_argv[2:4])


if is_command():
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
