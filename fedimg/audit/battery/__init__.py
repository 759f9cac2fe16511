"""The conformance battery: does a mechanism do what it claims? Exact tests on generated data, in seconds.

It takes a mechanism and nothing else. A claimed σ, q, C and ledger are held against what comes out. All
tests together give a false alarm in one correct run of 10,000.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

import numpy as np

from fedimg.audit.battery import books, canaries, noise, probes, reuse, sampler, sensitivity, shape, upload
from fedimg.audit.battery.result import FALSE_ALARM, Check, Figures, Report
from fedimg.audit.mechanism import Mechanism, NotCheckable

__all__ = ["FALSE_ALARM", "Check", "Report", "run"]


GROUPS = ("sensitivity", "noise", "sampler", "ledger", "upload", "canaries")


def run(mechanism: Mechanism, seed: int | None = None, groups: Collection[str] = GROUPS) -> Report:
    """All checks of one mechanism.

    Args:
        groups: which; "noise" holds groups 2 to 4, which look at the same releases.
        seed: of the battery's own tie-breaking in tests of counts; None takes fresh entropy. It has nothing to
            do with the mechanism's randomness.
    """
    begin = time.perf_counter()
    source = np.random.default_rng(seed)
    found: list[Check] = []
    figures: Figures = {}
    for group, checks in (
        ("sensitivity", lambda: sensitivity.checks(mechanism)),
        ("noise", lambda: _of_noise(mechanism, figures)),
        ("sampler", lambda: sampler.checks(mechanism, source, figures)),
        ("ledger", lambda: books.checks(mechanism)),
        ("upload", lambda: upload.checks(mechanism)),
        ("canaries", lambda: canaries.checks(mechanism)),
    ):
        if group in groups:
            found.extend(_guarded(group, checks))
    return Report(mechanism.name, tuple(found), time.perf_counter() - begin, figures)


def _of_noise(mechanism: Mechanism, figures: Figures) -> Iterator[Check]:
    """Groups 2 to 4 look at the same releases."""
    rows, tail = probes.noise_rows(mechanism), probes.tail_row(mechanism)
    figures["quantiles"] = shape.quantiles(tail)
    yield from noise.checks(rows, tail)
    yield from reuse.checks(mechanism, rows)
    yield from shape.checks(rows.matrix, tail, rows.claim.grid / rows.claim.noise_std)


def _guarded(group: str, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """A mechanism that breaks off fails the group; what it has no hook for is not checkable."""
    try:
        yield from checks()
    except NotCheckable as missing:
        yield Check(f"{group}.all", None, str(missing))
    except Exception as fault:  # noqa: BLE001 - whatever a mechanism raises is a finding about it
        yield Check(f"{group}.completes", 0.0, f"broke off with {type(fault).__name__}")
