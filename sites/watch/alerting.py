"""From a result to alerts and what goes out because of them; and what a person says of them. All in the caller's transaction.

What is pushed and when is `fedimg.monitoring`'s to say; here it is looked up, written down and put into the outbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fedimg.codes import Code
from fedimg.monitoring import alerts as life
from fedimg.monitoring.alerts import Alert, alert_key
from fedimg.monitoring.pushing import Message, RateLimit, Step, Summary, due_step, message, message_key
from fedimg.monitoring.worklist import urgency
from sites.watch.settings import Target
from sites.watch.store import audit
from sites.watch.store.alerts import Outgoing
from sites.watch.store.jobs import Finished, Job
from sites.watch.store.whole import Store

_FILES = ("cstore", "stow", "folder")
WATCHER = "watcher"


class Bodies(Protocol):
    """What targets are told, as bytes."""

    def alert(
        self, alert: Alert, kind: Message, target: Target, study: Mapping[str, Any], at: float
    ) -> bytes: ...
    def summary(self, summary: Summary) -> bytes: ...
    def model(self, kind: str, said: Mapping[str, Any], at: float) -> bytes: ...
    def fhir(self, alerts: Sequence[Alert], study: Mapping[str, Any]) -> bytes: ...


@dataclass(frozen=True)
class Alerting:
    """One watcher's.

    Attributes:
        targets: of the settings. steps, limit: of escalation, and of pushes. due: called when something is to go out.
    """

    store: Store
    targets: Sequence[Target]
    steps: Sequence[Step]
    limit: RateLimit
    bodies: Bodies
    due: Callable[[], None]

    def found(self, job: Job, finished: Finished, at: float) -> None:
        """A model that speaks has looked at a series: what it called, and what it calls no more with later images."""
        study, called = self._study(job.study), self._called(job, finished, at)
        for fresh in called:
            before = self.store.alerts.find(fresh.key)
            now = life.deduplicated(before, fresh)
            if now is not before:
                self._tell(before, now, job.id, study, at)
        keys = {alert.key for alert in called}
        for alert in self._of_series(job):
            if alert.key not in keys and life.may(alert, life.Superseded):
                self._tell(alert, life.after(alert, life.Superseded()), job.id, study, at)
        if called:
            self.store.studies.raise_priority(job.study, max(urgency(alert.kind) for alert in called))
            self._send_files(job, called, finished, study, at)
        self.due()

    def about_model(self, model: str, kind: str, said: Mapping[str, Any], at: float, *, tell: bool) -> None:
        """Drift, or labels that contradict a promise: noted; and told where it asks for a new training."""
        with self.store.database.change():
            audit.note(self.store.database, WATCHER, kind, model, at)
            if tell:
                body = self.bodies.model(kind, said, at)
                key = f"model-{hashlib.sha256(body).hexdigest()}"
                self.store.alerts.send("", [_outgoing(one, key, body) for one in self._told_at_once()], at)
        self.due()

    def tick(self, at: float) -> None:
        """Escalations and summaries that are due. Called every second or so."""
        sent = False
        for alert in self.store.alerts.unacknowledged():
            if (step := due_step(alert, self.steps, at)) is not None:
                with self.store.database.change():
                    self._escalate(alert, step, at)
                sent = True
        for pushes in self.store.alerts.all_pushes():
            left, summary = pushes.summary(at, self.limit)
            if summary is not None:
                body = self.bodies.summary(summary)
                outgoing = [_outgoing(one, summary.key, body) for one in self._told_at_once()]
                with self.store.database.change():
                    self.store.alerts.put_pushes(left)
                    self.store.alerts.send("", outgoing, at)
                sent = True
        if sent:
            self.due()

    def delivered(self, key: str, at: float) -> None:
        """A target has taken the first message of an alert."""
        self._happened(key, life.Delivered(), WATCHER, at)

    def acknowledge(self, key: str, who: str, at: float) -> None:
        """Raises DataError where there is no such alert, or it is past that."""
        self._happened(key, life.Acknowledged(), who, at, refuse=True)

    def confirm(self, key: str, who: str, at: float) -> None:
        """The finding is there, says a person: a label too. Raises DataError as `acknowledge`."""
        self._decided(key, life.Confirmed(), who, at, present=True)

    def dismiss(self, key: str, reason: life.Dismissal, who: str, at: float) -> None:
        """It is not there (a label too), or does not matter. Raises DataError as `acknowledge`."""
        absent = reason in (life.Dismissal.NOT_PRESENT, life.Dismissal.ARTEFACT)
        self._decided(key, life.Dismissed(reason), who, at, present=False if absent else None)

    def _decided(self, key: str, event: life.Event, who: str, at: float, present: bool | None) -> None:
        alert = self.store.alerts.known(key)
        with self.store.database.change():
            if life.may(alert, life.Acknowledged):  # whoever decides has seen it
                self._happened(key, life.Acknowledged(), who, at, refuse=True)
            self._happened(key, event, who, at, refuse=True)
            if present is not None:
                self.store.studies.label(alert.study, alert.finding, present, who, at)

    def _happened(self, key: str, event: life.Event, who: str, at: float, *, refuse: bool = False) -> None:
        with self.store.database.change():
            alert = self.store.alerts.known(key)
            if not refuse and not life.may(alert, type(event)):
                return
            now, name = life.after(alert, event), type(event).__name__.lower()
            self.store.alerts.changed(now, at)
            self.store.alerts.event(key, name, who, at, now.reason)
            audit.note(self.store.database, who, f"alert {name}", key, at)

    def _called(self, job: Job, finished: Finished, at: float) -> tuple[Alert, ...]:
        said = finished.prediction
        if not finished.called:
            return ()
        return life.one_of_each(
            Alert(
                key=alert_key(job.study, job.model, one["finding"]),
                study=job.study,
                finding=one["finding"],
                code=Code(**one["code"]),
                kind=said["kind"],
                where=one["where"],
                size_mm=one["size_mm"],
                score=one["score"],
                threshold=min(said["threshold"], one["score"]),
                model_name=said["model_name"],
                model_version=said["model_version"],
                model_digest=job.model,
                raised_at=at,
            )
            for one in said["found"]
        )

    def _of_series(self, job: Job) -> list[Alert]:
        """Alerts of this study and model whose evidence was in this series."""
        series = {
            row["id"]
            for row in self.store.database.rows(
                "SELECT id FROM job WHERE study = ? AND model = ? AND series = ?",
                (job.study, job.model, job.series),
            )
        }
        return [
            alert
            for alert in self.store.alerts.of_series(job.study, job.model)
            if self.store.alerts.job_of(alert.key) in series
        ]

    def _tell(self, before: Alert | None, now: Alert, job: int, study: Mapping[str, Any], at: float) -> None:
        """Write an alert down as it is now, and push what is to be pushed of it."""
        kind = message(before, now)
        pushed = True
        if kind in (Message.RAISED, Message.UPDATED):
            pushes, pushed = self.store.alerts.pushes(now.finding).offer(now.key, at, self.limit)
            self.store.alerts.put_pushes(pushes)
        self.store.alerts.put(now, job, at, suppressed=not pushed)
        if kind is None:
            return
        self.store.alerts.event(now.key, kind.value, WATCHER, at)
        audit.note(self.store.database, WATCHER, f"alert {kind.value}", now.key, at)
        if pushed:
            self._push(now, kind, self._told_at_once(), study, at)

    def _escalate(self, alert: Alert, step: Step, at: float) -> None:
        now = life.after(alert, life.Escalated())
        self.store.alerts.changed(now, at)
        self.store.alerts.event(now.key, Message.ESCALATED.value, WATCHER, at)
        audit.note(self.store.database, WATCHER, "alert escalated", now.key, at)
        targets = [target for target in self.targets if target.name == step.target]
        self._push(now, Message.ESCALATED, targets, self._study(now.study), at)

    def _push(
        self, alert: Alert, kind: Message, targets: Sequence[Target], study: Mapping[str, Any], at: float
    ) -> None:
        key = message_key(alert, kind)
        outgoing = [
            Outgoing(one.name, one.kind, key, self.bodies.alert(alert, kind, one, study, at), alert=alert.key)
            for one in targets
        ]
        self.store.alerts.send(alert.study, outgoing, at)

    def _told_at_once(self) -> list[Target]:
        later = {step.target for step in self.steps}
        return [one for one in self.targets if one.kind == "webhook" and one.name not in later]

    def _send_files(
        self, job: Job, called: Sequence[Alert], finished: Finished, study: Mapping[str, Any], at: float
    ) -> None:
        """SR, SEG and secondary capture, and FHIR for folders: no rate limits what goes into the records."""
        paths = tuple(
            Path(finished.outputs[name]) for name in sorted(finished.outputs) if name in ("sr", "seg", "sc")
        )
        about = f"{job.study}\n{job.model}\n{job.series}\n{job.images}"
        key = f"result-{hashlib.sha256(about.encode()).hexdigest()}"
        outgoing = [
            Outgoing(
                one.name,
                one.kind,
                key,
                self.bodies.fhir(called, study) if one.kind == "folder" else b"",
                paths,
            )
            for one in self.targets
            if one.kind in _FILES
        ]
        self.store.alerts.send(job.study, outgoing, at)

    def _study(self, key: str) -> Mapping[str, Any]:
        row = self.store.database.row("SELECT * FROM study WHERE key = ?", (key,))
        return {} if row is None else dict(row)


def _outgoing(target: Target, key: str, body: bytes) -> Outgoing:
    return Outgoing(target.name, target.kind, key, body)
