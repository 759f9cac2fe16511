"""Targets that are told in plain JSON, and what was put into the outbox for them."""

from __future__ import annotations

import json

from sites.watch.settings import Target

TARGETS = (
    Target("pager", "webhook", url="https://pager.example/hook", secret="/s"),
    Target("chief", "webhook", url="https://chief.example/hook", secret="/s"),
    Target("pacs", "cstore", address="pacs:104", ae_title="PACS"),
)


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
