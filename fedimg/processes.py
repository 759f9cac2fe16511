"""Processes: what is said where child processes cannot start, instead of trying for ever; and their memory.

Children are spawned, not forked (a forked child inherits threads and open ledgers). A spawned child
imports the script that started it, so a script that starts work on its top level starts it in every
child again (Python's `multiprocessing`, "Safe importing of main module").
"""

from __future__ import annotations

import ctypes
import multiprocessing
from functools import cache

from fedimg.errors import ConfigError

_REMEDY = (
    'put the script\'s work below `if __name__ == "__main__":`, since each worker process imports the script'
)


def refuse_while_starting() -> None:
    """Raises ConfigError in a child process that is still importing its parent's script."""
    # The flag that multiprocessing itself refuses by, in `_check_not_importing_main`.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError("a call from the script itself", "one from a worker that imports it", _REMEDY)


def never_started() -> ConfigError:
    """For a parent whose fresh children ended before they did anything."""
    return ConfigError(
        "worker processes that start",
        "that they end before their first task",
        f"{_REMEDY}; if it is there already, free memory or use fewer workers",
    )


_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3), glibc
_LARGEST_KEPT, _MOST_KEPT = 1 << 25, 1 << 28  # bytes: of one piece, and of free memory at the heap's end


@cache
def keep_freed_memory() -> None:
    """Let this process keep memory that is freed, up to 256 MiB, for its next use.

    Whoever reads one file of a megabyte after the other would else be given fresh pages for each, which
    the system has to clear: a tenth of the time. Where the C library is not glibc nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)
