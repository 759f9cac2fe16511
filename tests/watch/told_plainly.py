"""Models that speak, targets that are told in plain JSON, and what was put into the outbox for them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from sites.watch.settings import Target
from sites.watch.store.models import Registered

TARGETS = (
    Target("pager", "webhook", url="https://pager.example/hook", secret="/s"),
    Target("chief", "webhook", url="https://chief.example/hook", secret="/s"),
    Target("pacs", "cstore", address="pacs:104", ae_title="PACS"),
)

FIRST, SECOND = (
    Registered(letter * 64, "nodule", version, "tumour", Path("/b"), "active", {})
    for letter, version in (("a", "1.0.0"), ("b", "2.0.0"))
)
WORDS = SimpleNamespace(
    metadata=SimpleNamespace(name="nodule", modalities=("CT",), body_parts=(), least_images=2),
    imaging=SimpleNamespace(dimensions=2),
)
"""Two models that speak, and what the watcher asks of either bundle."""


class SaidPlainly:
    """Bodies that say what they are of."""

    def alert(self, alert, kind, target, study, at):
        return json.dumps([alert.key, kind, target.name, study["accession"]]).encode()

    def summary(self, summary):
        return json.dumps([summary.finding, list(summary.suppressed)]).encode()

    def model(self, kind, said, at):
        return json.dumps([said, kind]).encode()

    def fhir(self, alerts, study):
        return b"{}"


def outbox(store):
    return [
        (row["target"], json.loads(row["body"])[1] if row["kind"] == "webhook" else row["kind"])
        for row in store.database.rows("SELECT target, kind, body FROM delivery ORDER BY id")
    ]
