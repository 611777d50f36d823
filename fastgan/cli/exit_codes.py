"""How a command ends: the one place of its exit codes."""

import errno

USAGE, DATA, DIVERGED, DISK, MEMORY, PROCESS, PIPE = 2, 3, 4, 5, 6, 7, 141
SIGNAL = 128  # and the signal's number: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP

MEANINGS = {
    "0": "done",
    "1": "an error of fastgan's own, with a traceback",
    f"{USAGE}": "bad flags, or files of a run that are missing, damaged or in use",
    f"{DATA}": "an image that cannot be read",
    f"{DIVERGED}": "the training diverged",
    f"{DISK}": "the disk is full, or cannot be written",
    f"{MEMORY}": "out of memory",
    f"{PROCESS}": "another process of the run has ended",
    f"{PIPE}": "the reader of the output has gone",
    "129, 130, 143": "stopped by SIGHUP, Ctrl-C, SIGTERM",
}
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def of(error: BaseException) -> int:
    """The exit code for an error that the user can mend."""
    from fastgan.data import ImageError
    from fastgan.training import Diverged, ProcessFailed

    if isinstance(error, ImageError):
        return DATA
    if isinstance(error, Diverged):
        return DIVERGED
    if isinstance(error, ProcessFailed):
        return PROCESS
    if isinstance(error, OSError) and error.errno in OF_THE_DISK:
        return DISK
    return USAGE


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, in Python's, torch's or its CPU allocator's words."""
    import torch

    words = ("not enough memory", "can't allocate memory", "out of memory")
    found = isinstance(error, RuntimeError) and any(text in str(error) for text in words)
    return found or isinstance(error, (MemoryError, torch.OutOfMemoryError))
