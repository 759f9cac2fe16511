"""What a site tells its own operator: which step, why, and what to do. It never leaves the site.

Expected refusals are written in full, since their texts hold no patient data by rule. Of an
unexpected fault only the kind and the places in the code are written: the text of a foreign
exception may quote the value that caused it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedimg.errors import FedimgError
from fedimg.values import Quarantine


def tell_operator(root: Path, step: str, fault: BaseException) -> None:
    """Append one JSON line to `operator.log` (0600) in the site's home."""
    line: dict[str, object] = {"time": _now(), "step": step}
    if isinstance(fault, FedimgError):
        line |= {
            "kind": type(fault).__name__,
            "expected": fault.expected,
            "found": fault.found,
            "remedy": fault.remedy,
        }
    else:
        frames = traceback.extract_tb(fault.__traceback__)
        line |= {
            "kind": type(fault).__name__,
            "where": [f"{Path(f.filename).name}:{f.lineno}" for f in frames],
        }
        if isinstance(fault, OSError):
            line["errno"] = os.strerror(fault.errno or 0)
    _append(root, line)


def note_held_back(
    root: Path,
    step: str,
    held_back: Mapping[Quarantine, int],
    positions: Mapping[Quarantine, Sequence[int]] | None = None,
) -> None:
    """Tell how many inputs a step held back, why, and where in the run; nothing where there are none."""
    counts = {reason.value: count for reason, count in sorted(held_back.items()) if count}
    if not counts:
        return
    line: dict[str, object] = {"time": _now(), "step": step, "kind": "held back", "counts": counts}
    if positions:
        line["positions"] = {reason.value: ranges(found) for reason, found in sorted(positions.items())}
    _append(root, line)


def note_shared(root: Path, files: int, recipient: str, key: str) -> None:
    """Tell that released files were sealed for somebody outside: how many, for whom, and under which key."""
    found = f"{files} released files for {recipient}, key {key}"
    _append(root, {"time": _now(), "step": "sharing", "kind": "shared", "found": found})


def ranges(positions: Sequence[int]) -> str:
    """Ascending positions as text: "0-3, 7"."""
    runs: list[list[int]] = []
    for position in sorted(positions):
        if runs and position == runs[-1][1] + 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append(root: Path, line: Mapping[str, object]) -> None:
    try:
        handle = os.open(root / "operator.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "a") as stream:
            stream.write(json.dumps(line) + "\n")
    except OSError:  # a full disk is one of the things to tell of
        sys.stderr.write(json.dumps(line) + "\n")


def read_operator_log(root: Path) -> list[dict[str, object]]:
    """All lines, oldest first; an empty list where nothing was ever refused."""
    path = root / "operator.log"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line]
