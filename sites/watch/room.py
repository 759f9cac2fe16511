"""A disk that is full is no fault of what is written: it is written when there is room again."""

from __future__ import annotations

import errno
import sqlite3
import threading
from collections.abc import Callable

_AGAIN_S = 2.0


def written(step: Callable[[], None], ending: threading.Event, held_up: Callable[[str], None]) -> bool:
    """Done, as soon as there is room; not, where `ending` comes first: a start finds again what was to be done.

    Args: step: one transaction; what it does to files it may do again. held_up: told why it waits, and "" when it goes on.
    """
    held = False
    while True:
        try:
            step()
        except (OSError, sqlite3.OperationalError) as fault:
            if not _no_room(fault):
                raise
            if not held:
                held_up("no room on the disk")
            held = True
            if ending.wait(_AGAIN_S):
                return False
        else:
            if held:
                held_up("")
            return True


def _no_room(fault: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(fault, OSError):
        return fault.errno in (errno.ENOSPC, errno.EDQUOT)
    return fault.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL
