"""What a person does at the page, written down with who it was before anything is shown or changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fedimg.errors import DataError
from fedimg.monitoring.alerts import Dismissal
from sites.watch.alerting import Alerting
from sites.watch.store import audit
from sites.watch.store.models import Role
from sites.watch.store.whole import Store


@dataclass(frozen=True)
class StoreActions:
    """All raise DataError for what is not there, or what cannot be. changed: called after each."""

    store: Store
    alerting: Alerting
    changed: Callable[[], None]

    def acknowledge(self, alert: str, who: str) -> None:
        self.alerting.acknowledge(alert, who, time.time())
        self.changed()

    def confirm(self, alert: str, who: str) -> None:
        self.alerting.confirm(alert, who, time.time())
        self.changed()

    def dismiss(self, alert: str, reason: str, who: str) -> None:
        if reason not in set(Dismissal):
            raise DataError("a listed reason", "another", f"give one of {', '.join(Dismissal)}")
        self.alerting.dismiss(alert, Dismissal(reason), who, time.time())
        self.changed()

    def read(self, study: str, who: str) -> None:
        self.store.studies.read(study, who, time.time())
        self.changed()

    def label(self, study: str, finding: str, present: bool, who: str) -> None:
        self.store.studies.label(study, finding, present, who, time.time())
        self.changed()

    def seen(self, about: str, what: str, who: str) -> None:
        """On the disk when this returns."""
        audit.note(self.store.database, who, what, about, time.time())

    def again(self, delivery: int, who: str) -> None:
        """A dead delivery is tried once more, from its first attempt."""
        with self.store.database.change() as change:
            done = change.execute(
                "UPDATE delivery SET state = 'due', attempts = 0, next_at = ?, done_at = NULL WHERE id = ? AND state = 'dead'",
                (time.time(), delivery),
            )
            if not done.rowcount:
                raise DataError("a delivery that was given up", "none of that number", "open the queue again")
            audit.note(self.store.database, who, "delivery again", str(delivery), time.time())
        self.alerting.due()
        self.changed()

    def role(self, model: str, role: Role, who: str) -> None:
        """A model speaks, is silent, or is retired from the next study on."""
        self.store.models.set_role(model, role, who, time.time())
        self.changed()
