"""How soon the console tells: from a commit in the watcher's store to the event that its readers have received.

    python scripts/benchmark_console.py [--unread 200] [--read 5000] [--readers 4] [--arrivals 100] [--alerts 100]
                                        [--json FILE]

A store of so many studies is made and served by a `Console` in this process, as the watcher's process does; readers in
a process of their own follow the worklist and the alerts as a browser does. Then alerts and studies are committed one by
one, each at a random moment, while images of other studies are committed at `--arrivals` a second in a thread of this
process. Measured: seconds from the commit to the last byte of the event, for each reader. Exit code 1 where 95 of 100
alerts have not arrived within 100 ms, or a study's row not within 1 s.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import queue
import re
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlencode

import numpy as np
from made_up_store import a_study, an_alert, fill, key_of, write

from fedimg.monitoring.pushing import RateLimit
from fedimg.process_log import logger
from fedimg.web.serving import PageServer
from sites.watch.actions import StoreActions
from sites.watch.alerting import Alerting
from sites.watch.console.serving import TOKEN_FILE, Console
from sites.watch.store.database import Database
from sites.watch.store.whole import Store
from sites.watch.targets import TargetBodies

MOST_ALERT_S, MOST_ROW_S = 0.1, 1.0
Heard: TypeAlias = "Queue[tuple[str, str, float]]"


def actions(database: Database) -> StoreActions:
    """What the watcher's centre does, without a target. It wakes nobody here: what is measured is found by looking."""
    store = Store(database)
    return StoreActions(
        store, Alerting(store, (), (), RateLimit(), TargetBodies(""), lambda: None), lambda: None
    )


def follow(address: tuple[str, int], token: str, path: str, heard: Heard) -> None:
    """A reader: logs in, and tells when which study or alert was in an event. Until its process ends."""
    line = http.client.HTTPConnection(*address, timeout=60)
    line.request("GET", "/login")
    answer = line.getresponse()
    form = answer.read().decode()
    cookies = [text.partition(";")[0] for text in answer.headers.get_all("set-cookie", [])]
    (csrf,) = re.findall('name="csrf" value="([^"]*)"', form)
    own = {"cookie": "; ".join(cookies), "sec-fetch-site": "same-origin"}
    own["content-type"] = "application/x-www-form-urlencoded"
    line.request("POST", "/login", urlencode({"csrf": csrf, "token": token, "username": "reader"}), own)
    answer = line.getresponse()
    answer.read()
    session = next(text.partition(";")[0] for text in answer.headers.get_all("set-cookie", []))
    line.request("GET", path, headers={"cookie": session})
    stream = line.getresponse()
    while text := stream.readline():
        if text.startswith(b"data: {"):
            at = time.time()
            for key in set(re.findall(rb"/studies/([0-9a-f]{32})", text)):
                heard.put((path, key.decode(), at))


def read_all(address: tuple[str, int], token: str, readers: int, heard: Heard) -> None:
    paths = ["/events" if number % 2 else "/alerts/events" for number in range(readers)]
    threads = [threading.Thread(target=follow, args=(address, token, path, heard)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def arriving(database: Database, unread: int, rate: float) -> Iterator[list[int]]:
    """Images of studies on the list, a transaction each."""
    ended, count = threading.Event(), [0]

    def receive() -> None:
        generator, due = np.random.default_rng(1), time.monotonic()
        while rate and not ended.is_set():
            key = key_of(int(generator.integers(min(8, unread))))
            write(
                database,
                ("UPDATE study SET images = images + 1, last_at = ? WHERE key = ?", (time.time(), key)),
            )
            count[0] += 1
            due += 1 / rate
            ended.wait(max(0.0, due - time.monotonic()))

    thread = threading.Thread(target=receive)
    thread.start()
    try:
        yield count
    finally:
        ended.set()
        thread.join()


def drained(heard: Heard) -> list[tuple[str, str, float]]:
    """Until nothing more came for two seconds."""
    found = []
    with suppress(queue.Empty):
        while True:
            found.append(heard.get(timeout=2))
    return found


@dataclass(frozen=True)
class Figures:
    """Of seconds from a commit to an event, in milliseconds."""

    count: int
    p50_ms: float
    p95_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: list[float]) -> Figures:
        found = sorted(1000 * one for one in seconds)
        p95 = found[min(len(found) - 1, int(0.95 * len(found)))]
        return cls(len(found), statistics.median(found), p95, found[-1])


@dataclass(frozen=True)
class Found:
    """`missing`: events that a reader has never got. `idle_cpu`: of a core, while nothing happens and all follow."""

    alert: Figures
    row: Figures
    missing: int
    arrivals_per_s: float
    idle_cpu: float

    @property
    def held(self) -> bool:
        soon = self.alert.p95_ms <= 1000 * MOST_ALERT_S and self.row.most_ms <= 1000 * MOST_ROW_S
        return soon and not self.missing


def measure(asked: argparse.Namespace, database: Database, server: PageServer, token: str) -> Found:
    context = multiprocessing.get_context("spawn")
    heard: Heard = context.Queue()
    child = context.Process(
        target=read_all, args=(("127.0.0.1", server.port), token, asked.readers, heard), daemon=True
    )
    child.start()
    try:
        first: dict[tuple[str, str, int], float] = {}
        heard.get(timeout=60)
        drained(heard)  # the first whole lists
        before = resource.getrusage(resource.RUSAGE_SELF)
        idle_from = time.monotonic()
        time.sleep(3)
        used = resource.getrusage(resource.RUSAGE_SELF)
        idle = (used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime) / (
            time.monotonic() - idle_from
        )
        with arriving(database, asked.unread, asked.arrivals) as count:
            begun = time.monotonic()
            stored = changes(asked, database)
            rate = count[0] / (time.monotonic() - begun)
        for path, key, at in drained(heard):
            copies = sum((path, key, n) in first for n in range(asked.readers))
            if copies < asked.readers and at >= stored.get(key, (path, 9e99))[1]:
                first[path, key, copies] = at
    finally:
        child.terminate()
        child.join()
    alert, row, missing = told(asked, stored, first)
    return Found(alert, row, missing, rate, idle)


def changes(asked: argparse.Namespace, database: Database) -> dict[str, tuple[str, float]]:
    """Alerts and new studies in turn, at random moments: study → (page, when it was committed)."""
    generator, stored = np.random.default_rng(2), {}
    for number in range(asked.alerts):
        time.sleep(generator.uniform(0.05, 0.25))
        at, new = time.time(), asked.unread + asked.read + number
        # of the studies that wait and are on the first page, those that no image comes to
        old = 8 + number
        stored[key_of(old)] = "/alerts/events", write(database, an_alert(old, at))
        time.sleep(generator.uniform(0.05, 0.25))
        stored[key_of(new)] = "/events", write(database, a_study(new, at - 10**7, "arriving"))
    return stored


def told(
    asked: argparse.Namespace, stored: dict[str, tuple[str, float]], first: dict[tuple[str, str, int], float]
) -> tuple[Figures, Figures, int]:
    """Of alerts and of rows, seconds from the commit to the event, the first one of each reader."""
    readers = {"/alerts/events": (asked.readers + 1) // 2, "/events": asked.readers // 2}
    found: dict[str, list[float]] = {path: [] for path in readers}
    for key, (path, at) in stored.items():
        found[path] += [first[path, key, n] - at for n in range(readers[path]) if (path, key, n) in first]
    wanted = asked.alerts * sum(readers.values())
    missing = wanted - sum(map(len, found.values()))
    return Figures.of(found["/alerts/events"]), Figures.of(found["/events"]), missing


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"unread": 200, "read": 5000, "readers": 4, "alerts": 90, "arrivals": 100}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with closing(Database(root)) as database:
            fill(database, asked.unread, asked.read)
            console = Console(root, actions(database), logger("benchmark"))
            with console.serve(port=0) as server:
                found = measure(asked, database, server, (root / TOKEN_FILE).read_text().strip())
    for name, one in (("alert", found.alert), ("row", found.row)):
        print(
            f"{name:6} n = {one.count}: median {one.p50_ms:.0f} ms, p95 {one.p95_ms:.0f} ms, most {one.most_ms:.0f} ms"
        )
    print(
        f"missing {found.missing}, arrivals {found.arrivals_per_s:.0f}/s, idle {found.idle_cpu:.3f} of a core"
    )
    if asked.json is not None:
        settings = {name: value for name, value in vars(asked).items() if name != "json"}
        asked.json.write_text(json.dumps({"settings": settings} | asdict(found), indent=1) + "\n")
    return 0 if found.held else 1


if __name__ == "__main__":
    sys.exit(main())
