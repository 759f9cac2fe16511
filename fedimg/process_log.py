"""What a long-running process says of itself: one JSON line an event on stderr, where a supervisor keeps it.

Events and names are this program's own words. Names of sites and runs may stand in it, and the texts of its own
errors; nothing of a patient ever does, and no text of a foreign exception.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime

Say = Callable[..., None]
_lock = threading.Lock()


def logger(process: str) -> Say:
    """`say(event, **fields)` for one process; an event that only repeats the one before is said once."""
    last: list[str] = [""]

    def say(event: str, **fields: object) -> None:
        told = {"process": process, "event": event} | {k: v for k, v in fields.items() if v not in (None, "")}
        text = json.dumps(told, ensure_ascii=False, default=str)
        with _lock:
            if text == last[0]:
                return
            last[0] = text
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")} | told
            sys.stderr.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            sys.stderr.flush()

    return say
