"""What a watcher does now and then: take in other models, evaluate them on this site's labels, let old files go.

A model that was made active, silent or retired is so from the next study on. A bundle is loaded and tested by a worker
of its own before it takes over; one that is unfit stays out, and the former ones go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedimg.errors import DataError, FedimgError
from fedimg.evaluation.intervals import clopper_pearson
from fedimg.prediction.routing import Words
from fedimg.process_log import Say
from sites.watch import bundles
from sites.watch.alerting import WATCHER
from sites.watch.store import audit
from sites.watch.store.models import Registered
from sites.watch.store.whole import Store
from sites.watch.worker_process import Models, NotReady, Unfit
from sites.watch.working import Pool

_DAY_S = 86400.0
_MOST_TRIES = 3
"""Of loading the same models: a machine that is busy makes nobody unfit."""
_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model at this site, by labels of studies that it scored.

    Attributes:
        target: the sensitivity that it was released with; None without a promise.
        kept: False where the labels contradict it: even the upper end of the 95 % interval is below.
    """

    model: str
    positives: int
    hits: int
    negatives: int
    false_alarms: int
    target: float | None
    kept: bool


@dataclass
class Upkeep:
    """One watcher's. `models`: digest → what the bundle says, of those that workers have loaded; changed in place."""

    store: Store
    pool: Pool
    models: dict[str, Words]
    trusted: tuple[bytes, ...]
    keep_s: float
    say: Say
    contradicted: Callable[[Registered, Evaluated, float], None]
    _next: float = 0.0  # of a clock that no one sets
    _roles: dict[str, str] | None = None  # of each digest, as it was told last
    _late: tuple[frozenset[str], int, float] = (frozenset(), 0, 0.0)  # models, tries, not before (as _next)

    def tick(self, at: float) -> None:
        """Called every second or so."""
        self.exchange(at)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 600.0
            self.remove_files(at)
            self.evaluate(at)

    def exchange(self, at: float) -> None:
        """Workers hold what the registry says that works here."""
        working = {one.digest: one for one in self.store.models.working()}
        if working.keys() == self.models.keys():
            self._tell(working)
            return
        if self._late[0] == working.keys() and time.monotonic() < self._late[2]:
            return
        held: dict[str, Words] = {}
        for digest, one in working.items():
            try:
                registered, said = bundles.verified(one.folder, self.trusted)
                if registered.digest != digest:
                    raise DataError(
                        "the bundle that was registered", "another one in its folder", "add it anew"
                    )
            except FedimgError as fault:
                self._unfit(one, fault, at)
                return
            held[digest] = said
        try:
            self.pool.exchange(Models(tuple(one.folder for one in working.values()), self.trusted))
        except Unfit as fault:
            named = [one for one in working.values() if one.folder == fault.folder]
            self._refused(named or self._fresh(working), fault, at)
            return
        except NotReady as fault:
            self._not_yet(working, fault, at)
            return
        self._late = (frozenset(), 0, 0.0)
        self.models.update(held)  # never without a model between: the centre reads it meanwhile
        for digest in self.models.keys() - held.keys():
            del self.models[digest]
        self._roles = {}
        self._tell(working)

    def _tell(self, working: dict[str, Registered]) -> None:
        """Into the log, where who speaks has changed; what a start finds is told by the start."""
        roles = {digest: one.role for digest, one in working.items()}
        if self._roles not in (None, roles):
            self.say("models", loaded=[f"{one.name} {one.version} ({one.role})" for one in working.values()])
        self._roles = dict(roles)

    def _fresh(self, working: dict[str, Registered]) -> list[Registered]:
        return [one for digest, one in working.items() if digest not in self.models]

    def _not_yet(self, working: dict[str, Registered], fault: NotReady, at: float) -> None:
        """Who speaks goes on; it is tried again after a while, and only what fails again and again is unfit."""
        models, tries, _ = self._late
        tries = tries + 1 if models == working.keys() else 1
        self._late = (frozenset(working), tries, time.monotonic() + _PAUSE_S)
        self.say("models not loaded", attempts=tries, about=str(fault))
        if tries >= _MOST_TRIES:
            self._refused(self._fresh(working), fault, at)

    def _refused(self, which: list[Registered], fault: FedimgError, at: float) -> None:
        for one in which:
            self._unfit(one, fault, at)

    def _unfit(self, one: Registered, fault: FedimgError, at: float) -> None:
        """Out of work; where another of its name is in the shadow that was active before, that one speaks again."""
        with self.store.database.change():
            self.store.models.set_role(one.digest, "retired", WATCHER, at)
            if one.role == "active" and (former := self.store.models.former(one)) is not None:
                self.store.models.set_role(former, "active", WATCHER, at)
        self.say("model refused", model=f"{one.name} {one.version}", about=str(fault))

    def remove_files(self, at: float) -> None:
        """Images of studies that were looked at long ago. What was found stays."""
        if count := self.store.studies.remove_files(at - self.keep_s):
            self.store.database.count("removed", by=count)

    def evaluate(self, at: float) -> None:
        """Once a day each model that looks at studies, on the labels that there are by then."""
        for one in self.store.models.working():
            row = self.store.database.row(
                "SELECT MAX(at) AS last FROM evaluation WHERE model = ?", (one.digest,)
            )
            if row is not None and row["last"] is not None and 0 <= at - row["last"] < _DAY_S:
                continue
            found = evaluated(self.store, one)
            if found.positives + found.negatives == 0:
                continue
            with self.store.database.change():
                self._note(found, at)
                if not found.kept and one.role == "active":
                    self.contradicted(one, found, at)

    def _note(self, found: Evaluated, at: float) -> None:
        with self.store.database.change() as change:
            change.execute(
                "INSERT INTO evaluation (model, at, positives, hits, negatives, false_alarms, target, kept)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(found.model, at, found.positives, found.hits, found.negatives, found.false_alarms),
                    *(found.target, int(found.kept)),
                ),
            )
            audit.note(self.store.database, WATCHER, "evaluated", found.model, at)


def evaluated(store: Store, one: Registered) -> Evaluated:
    """By each labelled study: whether any of its findings is there, and whether any result has called it.

    Labels come mostly from studies that were called, so that what was missed and never labelled does not count: the
    sensitivity seen is an upper bound of the true one where not every study is labelled.
    """
    rows = store.database.rows(
        "SELECT MAX(label.present) AS present, MAX(result.called) AS called FROM label"
        " JOIN result ON result.study = label.study"
        " WHERE result.model = ? AND label.finding IN (SELECT value FROM json_each(?)) GROUP BY label.study",
        (one.digest, json.dumps(findings_of(one.said))),
    )
    positives = [bool(row["called"]) for row in rows if row["present"]]
    negatives = [bool(row["called"]) for row in rows if not row["present"]]
    point = one.said.get("operating_point")
    target = None if not point else float(point["target"])
    kept = target is None or not positives or clopper_pearson(sum(positives), len(positives)).high >= target
    return Evaluated(one.digest, len(positives), sum(positives), len(negatives), sum(negatives), target, kept)


def findings_of(said: Mapping[str, object]) -> list[str]:
    """Names of a model's findings, as its alerts have them."""
    listed = said.get("findings", [])
    return [one["class"] for one in listed] if isinstance(listed, list) else []
