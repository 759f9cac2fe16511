"""Does a kill at a random moment lose a study, or tell anything twice? Real processes, C-STORE, a webhook's receiver.

    python scripts/study_watch_faults.py [--trials 40] [--seed 1] [--json FILE]

Each trial sends a study over one association and kills, at a random moment of the next seconds, the watcher, or its
worker, or the connection (the sender goes away without a word). Then everything is started again as a supervisor and a
PACS would: the watcher runs, files that were not acknowledged are sent anew. At the end: every file that was acknowledged
is there, every study was looked at whole, every study with a finding has one alert and was told of under one key, no
study without one has any. Exit code 1 where one of these does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from known_studies import outlining_bundle, write_study
from loopback_watch import Loopback, Receiver, receiving, wait_for

from fedimg.crypto.keys import SigningKey

KINDS = ("watcher", "worker", "sender")
_SLICES = 24


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = study(arguments.trials, arguments.seed)
    for name, value in found.items():
        sys.stdout.write(f"{name:28} {value}\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")
    return int(
        any(found[name] for name in ("lost_files", "not_looked_at", "missed", "doubled", "wrongly_told"))
    )


def study(trials: int, seed: int) -> dict[str, object]:
    """What became of all of them."""
    chance, key = random.Random(seed), SigningKey.from_bytes(bytes(range(32)))  # noqa: S311 - no secret
    killed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bundle = outlining_bundle(root / "bundle", key)
        with receiving(root) as receiver:
            limit = {"most": 10 * trials, "window_s": 3600.0}
            watcher = Loopback(root / "w", [bundle], key, {"deliver": [receiver.target()], "limit": limit})
            watcher.start()
            sent: dict[str, list[Path]] = {}
            try:
                for number in range(trials):
                    name = f"s{number:03d}-{'sick' if number % 2 else 'well'}"
                    sent[name] = write_study(root / "in", name, ball=bool(number % 2), slices=_SLICES)
                    kind = KINDS[number % len(KINDS)]
                    killed[kind] += 1
                    _trial(watcher, sent[name], kind, chance.uniform(0.0, 2.0))
                _settled(watcher, len(sent))
                return {"trials": trials, "killed": dict(killed), **_judged(watcher, receiver, sent)}
            finally:
                watcher.stop()


def _trial(watcher: Loopback, paths: list[Path], kind: str, after_s: float) -> None:
    acknowledged: list[Path] = []

    def sending() -> None:
        part = paths[: len(paths) // 2] if kind == "sender" else paths
        try:
            acknowledged.extend(watcher.send(part))
        except ConnectionError:
            return  # what was acknowledged on it is not known: all are sent again

    thread = threading.Thread(target=sending)
    thread.start()
    time.sleep(after_s)
    if kind == "watcher":
        watcher.kill()
    elif kind == "worker":
        for pid in watcher.workers():
            os.kill(pid, signal.SIGKILL)
    thread.join()
    if kind == "watcher":
        watcher.start()
    left = [path for path in paths if path not in acknowledged]
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:
        try:
            stored = watcher.send(left)
        except ConnectionError:
            time.sleep(0.2)
            continue
        left = [path for path in left if path not in stored]


def _settled(watcher: Loopback, studies: int) -> None:
    open_states = "SELECT 1 FROM study WHERE state NOT IN ('analysed', 'failed', 'not_analysed')"
    wait_for(
        lambda: len(watcher.rows("SELECT 1 FROM study")) == studies and not watcher.rows(open_states),
        180,
        "all studies",
    )
    wait_for(lambda: not watcher.rows("SELECT 1 FROM delivery WHERE state = 'due'"), 60, "all messages")


def _judged(watcher: Loopback, receiver: Receiver, sent: dict[str, list[Path]]) -> dict[str, object]:
    rows = watcher.rows(
        "SELECT study.key, study.state, study.images, (SELECT COUNT(*) FROM alert WHERE study = study.key) AS alerts,"
        " (SELECT COUNT(*) FROM result WHERE study = study.key) AS results FROM study"
    )
    for row in rows:
        if row["state"] != "analysed" or not row["results"]:
            sys.stderr.write(f"{row}\n")
            for name in ("job", "routing"):
                for one in watcher.rows(f"SELECT * FROM {name} WHERE study = ?", row["key"]):  # noqa: S608
                    sys.stderr.write(f"  {name}: {one}\n")
    alerts = watcher.rows("SELECT key FROM alert")
    told = Counter(receiver.raised())
    sick = sum(name.endswith("sick") for name in sent)
    return {
        "studies": len(rows),
        "with_a_finding": sick,
        "lost_files": len(sent) * _SLICES - sum(row["images"] for row in rows),
        "not_looked_at": sum(row["state"] != "analysed" or not row["results"] for row in rows),
        "missed": sick - len(alerts) + sum(alert["key"] not in told for alert in alerts),
        "doubled": sum(count > 1 for count in told.values()) + receiver.differing,
        "wrongly_told": len(told) - len({alert["key"] for alert in alerts} & set(told)),
        "same_key_again": receiver.repeats,
    }


if __name__ == "__main__":
    sys.exit(main())
