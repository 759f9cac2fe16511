"""The console's questions, put to the store and drawn; each patient's view noted first. Routes only name these."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedimg.errors import DataError, FedimgError
from fedimg.home import SiteHome
from fedimg.privacy.course import course
from fedimg.privacy.stated import statement_of
from fedimg.report.markup import Markup
from sites.watch.console import alerts_page, queue_page, study_page, waiting, worklist_page
from sites.watch.console.calibration_page import Calibrated, prevalence_of
from sites.watch.console.drift_reading import Drifting, drifting
from sites.watch.console.files import OUTPUTS, OpenFile, open_output
from sites.watch.console.models_page import LedgerInfo
from sites.watch.console.models_reading import ModelInfo, models
from sites.watch.console.queue_reading import queue
from sites.watch.console.reading import Reading, mapping, read_json, text_of
from sites.watch.console.seen_reading import seen_here
from sites.watch.console.study_reading import study
from sites.watch.console.values import Alerts, Queue, Running, StudyDetail, Worklist
from sites.watch.console.viewing import Following, Viewing
from sites.watch.console.worklist_reading import AlertState, Show, alerts, worklist

Parts = Callable[[], Mapping[str, Markup]]
_T = TypeVar("_T")
_FRESH_S = 1.0


class Kept(Generic[_T]):
    """What was drawn of the same thing within the last second: many who follow a page are told alike."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[object, float, _T]] = {}

    def of(self, found: object, now: float, draw: Callable[[], _T]) -> _T:
        """`found`: that same object; it is held on to, so that its identity is nobody else's."""
        last = self._last.get(id(found))
        if last is not None and last[0] is found and 0 <= now - last[1] < _FRESH_S:
            return last[2]
        drawn = draw()
        fresh = {key: one for key, one in list(self._last.items()) if now - one[1] < _FRESH_S}
        self._last = fresh | {id(found): (found, now, drawn)}
        return drawn


@dataclass(frozen=True)
class Known:
    """What the console knows and from where.

    Attributes:
        results: the folder below which results' files lie. home: of the site, whose ledger is shown; None: no ledger.
        prevalence: as the settings state it, by model or finding. process: what only the running watcher knows.
    """

    reading: Reading
    results: Path
    home: Path | None = None
    prevalence: Mapping[str, float] = field(default_factory=dict)
    process: Callable[[], Running | None] = lambda: None
    clock: Callable[[], float] = time.time
    _drawn_lists: Kept[worklist_page.Drawn] = field(default_factory=Kept, init=False)
    _waits: dict[str, Any] = field(default_factory=dict, init=False)
    _drawn_alerts: Kept[Mapping[str, Markup]] = field(default_factory=Kept, init=False)

    def worklist(self, show: Show, first: int) -> Worklist:
        return self.reading.read(worklist(show, first), ("worklist", show, first))

    def study(self, key: str) -> StudyDetail:
        """Raises DataError for a study that is not there."""
        return self.reading.read(study(key))

    def alerts(self, state: AlertState, finding: str, first: int) -> Alerts:
        return self.reading.read(alerts(state, finding, first), ("alerts", state, finding, first))

    def queue(self) -> Queue:
        """What waits cost is measured anew every half a minute: it takes a day's arrivals."""
        process, half_minute = self.process(), int(self.clock() // 30)
        if self._waits.get("at") != half_minute:
            workers = max(1, len(process.workers)) if process is not None else 1
            measured = self.reading.read(
                lambda connection: waiting.measured(connection, self.clock(), workers)
            )
            self._waits.update(at=half_minute, waits=measured)
        found = self.reading.read(queue, "queue")
        return replace(found, waits=self._waits["waits"], process=process)

    def models(self) -> list[ModelInfo]:
        return self.reading.read(models)

    def drift(self) -> list[Drifting]:
        return self.reading.read(drifting)

    def calibration(self) -> list[Calibrated]:
        now = self.clock()
        return self.reading.read(
            lambda connection: [
                Calibrated(one, seen_here(connection, one, now), prevalence_of(one, self.prevalence))
                for one in models(connection)
                if one.role != "retired"
            ]
        )

    def study_of_alert(self, alert: str) -> str:
        """Raises DataError for an alert that is not there."""
        found = self.reading.read(
            lambda connection: connection.execute(
                "SELECT study FROM alert WHERE key = ?", (alert,)
            ).fetchone()
        )
        if found is None:
            raise DataError("an alert of this site", "another key", "open it from the alerts")
        return str(found[0])

    def output(self, job: int, name: str) -> tuple[str, str]:
        """The study of a result, and the path of one of its files. Raises DataError where there is none."""
        known = OUTPUTS.get(name)
        found = self.reading.read(
            lambda connection: connection.execute(
                "SELECT study, outputs FROM result WHERE job = ?", (job,)
            ).fetchone()
        )
        path = "" if found is None or known is None else mapping(read_json(found[1])).get(known.key)
        if found is None or not path:
            raise DataError("a file of a result", "none of that name", "open it from its study")
        return str(found[0]), text_of(path, 4096)

    def open_output(self, path: str) -> OpenFile:
        """Raises DataError for what does not lie below the results."""
        return open_output(self.results, path)

    def ledger(self) -> tuple[LedgerInfo | None, str]:
        """Of the site's home; or why there is none to be shown."""
        if self.home is None:
            return None, "The settings name no site's home: this watcher belongs to no ledger."
        try:
            home = SiteHome.open(self.home)
            if not home.ledger.exists():
                return None, "This site has no ledger yet: one is opened with its first run."
            found = statement_of(home.ledger, home.signing_key)
        except (FedimgError, OSError):
            return None, "The ledger cannot be read: fedimg ledger verify says why."
        closed = sum(run.closed for run in found.runs.values())
        return LedgerInfo(
            found.epsilon_spent,
            found.epsilon_left,
            found.terms.epsilon_max,
            found.terms.delta,
            len(found.runs),
            closed,
            tuple(course(found)),
        ), ""

    def drawn_worklist(self, found: Worklist, show: Show) -> worklist_page.Drawn:
        now = self.clock()
        return self._drawn_lists.of(found, now, lambda: worklist_page.drawn_of(found, show, now))

    def drawn_alerts(self, found: Alerts, state: AlertState, finding: str) -> Mapping[str, Markup]:
        now = self.clock()
        return self._drawn_alerts.of(found, now, lambda: alerts_page.parts(found, state, finding, now))

    # ------------------------------------------------------------------------------- what streams tell

    def worklist_parts(self, viewing: Viewing, show: Show, first: int) -> Parts:
        following, followed = Following(viewing, "worklist"), worklist_page.Followed()

        def parts() -> Mapping[str, Markup]:
            found = self.worklist(show, first)
            following.note(row.study for row in found.rows)
            return followed.parts(self.drawn_worklist(found, show))

        return parts

    def alerts_parts(self, viewing: Viewing, state: AlertState, finding: str, first: int) -> Parts:
        following = Following(viewing, "alerts")

        def parts() -> Mapping[str, Markup]:
            found = self.alerts(state, finding, first)
            following.note(row.study for row in found.rows)
            return self.drawn_alerts(found, state, finding)

        return parts

    def study_parts(self, viewing: Viewing, key: str, csrf: str) -> Parts:
        following = Following(viewing, f"study {key}")

        def parts() -> Mapping[str, Markup]:
            found = self.study(key)
            following.note((key,))
            return study_page.parts(found, csrf)

        return parts

    def queue_parts(self, viewing: Viewing, csrf: str) -> Parts:
        following = Following(viewing, "queue")

        def parts() -> Mapping[str, Markup]:
            found = self.queue()
            following.note(())
            return queue_page.parts(found, self.clock(), csrf)

        return parts
