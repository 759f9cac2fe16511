"""Counts that many threads write are exact."""

from __future__ import annotations

import threading

from sites.watch.counts import Counts


def test_nothing_is_lost_between_threads():
    counts = Counts()
    threads = [
        threading.Thread(target=lambda: [counts.add("refused.unreadable") for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.add("received", 3)
    assert counts.read() == {"refused.unreadable": 4000, "received": 3} and counts.refused() == 4000


def test_what_was_read_does_not_change():
    counts = Counts()
    before = counts.read()
    counts.add("received")
    assert before == {} and counts.read() == {"received": 1}
