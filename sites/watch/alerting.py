"""From a result to alerts and what goes out because of them; and what a person says of them. All in the caller's transaction.

What is pushed and when is `fedimg.monitoring`'s to say; here it is looked up, written down and put into the outbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        """A model that speaks has looked at a series; its result is in the store.

        What the study's alerts say follows from the latest result of each of its series: of several that call a finding the
        surest is told, and an alert is taken back only where none calls it any more.
        """
        study = self._study(job.study)
        surest = self._surest(job, at)
        for fresh, run in surest.values():
            before = self.store.alerts.find(fresh.key)
            now = self._as_of(before, fresh, run)
            if now is not before:
                self._tell(before, now, run, study, at)
        for alert in self.store.alerts.of_study(job.study, job.model):
            if alert.key not in surest and life.may(alert, life.Superseded):
                last = self.store.alerts.job_of(alert.key)
                self._tell(alert, life.after(alert, life.Superseded()), last, study, at)
        if called := _called(job.study, job.model, finished.prediction, finished.called, at):
            self.store.studies.raise_priority(job.study, max(urgency(alert.kind) for alert in called))
            self._send_files(job, "result", called, finished.outputs, study, at)
        self.due()

    def pictured(self, job: Job, outputs: Mapping[str, str], at: float) -> None:
        """The picture of a call is there, and its result in the store says by now what the call rests on.

        The alert is the same, and its place is told to whoever was told of it. That is no further call to anybody: it does
        not count against the rate limit. `outputs`: of the picture.
        """
        study = self._study(job.study)
        surest = self._surest(job, at)
        for fresh, run in surest.values():
            before = self.store.alerts.find(fresh.key)
            if run == job.id and before is not None and before.state is not life.State.SUPERSEDED:
                now = life.deduplicated(before, fresh)
                if now is not before:
                    self._tell(before, now, run, study, at, limited=False)
        own = [alert for alert, run in surest.values() if run == job.id]
        self._send_files(job, "picture", own, outputs, study, at)
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
        """Escalations and summaries that are due. Called every second or so.

        What seems due is looked up again within the transaction: meanwhile a person may have acknowledged it, or
        another push may have been held back.
        """
        steps, pushes = self.store.alerts.unacknowledged(), self.store.alerts.all_pushes()
        escalated = [self._escalate(one.key, at) for one in steps if due_step(one, self.steps, at)]
        told = [self._sum_up(one.finding, at) for one in pushes if one.summary(at, self.limit)[1]]
        if any(escalated) or any(told):
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
        with self.store.database.change():
            alert = self.store.alerts.known(key)
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

    def _as_of(self, before: Alert | None, fresh: Alert, run: int) -> Alert:
        """What the store keeps. That a run has no place yet says nothing new: what was said of an earlier one stays so long."""
        if before is not None and self.store.attention.pending(run):
            same = replace(fresh, where=before.where)
            if life.deduplicated(before, same) is before:
                return before
        return life.deduplicated(before, fresh)

    def _surest(self, job: Job, at: float) -> dict[str, tuple[Alert, int]]:
        """Key → the alert with the highest score of all series of the job's study, and the run that says so."""
        found: dict[str, tuple[Alert, int]] = {}
        for run, prediction in self.store.jobs.calling(job.study, job.model):
            for alert in _called(job.study, job.model, prediction, True, at):
                if alert.key not in found or alert.score > found[alert.key][0].score:
                    found[alert.key] = alert, run
        return found

    def _tell(
        self,
        before: Alert | None,
        now: Alert,
        job: int,
        study: Mapping[str, Any],
        at: float,
        *,
        limited: bool = True,
    ) -> None:
        """Write an alert down as it is now, and push what is to be pushed of it: if not `limited`, to who knows of it."""
        kind = message(before, now)
        pushed = limited or not self.store.alerts.suppressed(now.key)
        if limited and kind in (Message.RAISED, Message.UPDATED):
            pushes, pushed = self.store.alerts.pushes(now.finding).offer(now.key, at, self.limit)
            self.store.alerts.put_pushes(pushes)
        self.store.alerts.put(now, job, at, suppressed=not pushed)
        if kind is None:
            return
        self.store.alerts.event(now.key, kind.value, WATCHER, at)
        audit.note(self.store.database, WATCHER, f"alert {kind.value}", now.key, at)
        if pushed:
            self._push(now, kind, self._told_at_once(), study, at)

    def _escalate(self, key: str, at: float) -> bool:
        """Whether its next step was due still, and is taken."""
        with self.store.database.change():
            alert = self.store.alerts.known(key)
            if (step := due_step(alert, self.steps, at)) is None:
                return False
            now = life.after(alert, life.Escalated())
            self.store.alerts.changed(now, at)
            self.store.alerts.event(key, Message.ESCALATED.value, WATCHER, at)
            audit.note(self.store.database, WATCHER, "alert escalated", key, at)
            targets = [target for target in self.targets if target.name == step.target]
            self._push(now, Message.ESCALATED, targets, self._study(now.study), at)
        return True

    def _sum_up(self, finding: str, at: float) -> bool:
        """Whether there was something still, and is told."""
        with self.store.database.change():
            left, summary = self.store.alerts.pushes(finding).summary(at, self.limit)
            if summary is None:
                return False
            body = self.bodies.summary(summary)
            outgoing = [_outgoing(one, summary.key, body) for one in self._told_at_once()]
            self.store.alerts.put_pushes(left)
            self.store.alerts.send("", outgoing, at)
        return True

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
        self,
        job: Job,
        what: str,
        called: Sequence[Alert],
        outputs: Mapping[str, str],
        study: Mapping[str, Any],
        at: float,
    ) -> None:
        """SR, SEG and secondary capture, and FHIR for folders: no rate limits what goes into the records."""
        paths = tuple(Path(outputs[name]) for name in sorted(outputs) if name in ("sr", "seg", "sc"))
        about = f"{job.study}\n{job.model}\n{job.series}\n{job.images}"
        key = f"{what}-{hashlib.sha256(about.encode()).hexdigest()}"
        known = [self.store.alerts.find(one.key) or one for one in called]
        outgoing = [
            Outgoing(
                *(one.name, one.kind, key),
                self.bodies.fhir(known, study) if one.kind == "folder" and known else b"",
                paths,
            )
            for one in self.targets
            if one.kind in _FILES and (paths or one.kind == "folder")
        ]
        self.store.alerts.send(job.study, outgoing, at)

    def _study(self, key: str) -> Mapping[str, Any]:
        row = self.store.database.row("SELECT * FROM study WHERE key = ?", (key,))
        return {} if row is None else dict(row)


def _called(study: str, model: str, said: Mapping[str, Any], called: bool, at: float) -> tuple[Alert, ...]:
    """What a result calls, as alerts. Raises DataError for what none can say."""
    if not called:
        return ()
    return life.one_of_each(
        Alert(
            key=alert_key(study, model, one["finding"]),
            study=study,
            finding=one["finding"],
            code=Code(**one["code"]),
            kind=said["kind"],
            where=one["where"],
            size_mm=one["size_mm"],
            score=one["score"],
            threshold=min(said["threshold"], one["score"]),
            model_name=said["model_name"],
            model_version=said["model_version"],
            model_digest=model,
            raised_at=at,
        )
        for one in said["found"]
    )


def _outgoing(target: Target, key: str, body: bytes) -> Outgoing:
    return Outgoing(target.name, target.kind, key, body)
