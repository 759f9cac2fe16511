"""All tables over one connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from sites.watch.store.alerts import Alerts
from sites.watch.store.attention import Attention
from sites.watch.store.database import Database
from sites.watch.store.jobs import Jobs
from sites.watch.store.models import Models
from sites.watch.store.studies import Studies


@dataclass
class Store:
    """Changes through `database.change` of several tables are one transaction."""

    database: Database
    studies: Studies = field(init=False)
    jobs: Jobs = field(init=False)
    models: Models = field(init=False)
    alerts: Alerts = field(init=False)
    attention: Attention = field(init=False)

    def __post_init__(self) -> None:
        self.studies, self.jobs = Studies(self.database), Jobs(self.database)
        self.models, self.alerts = Models(self.database), Alerts(self.database)
        self.attention = Attention(self.database)
