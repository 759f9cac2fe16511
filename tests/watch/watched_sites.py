"""Members of a federation whose watchers have seen patients: homes with ledgers, and stores that nobody has sent."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
from made_up_store import MODEL, a_study, key_of, write

from fedimg.privacy.ledger import Ledger, LedgerTerms
from sites.watch.store.database import Database
from tests.sites.conftest import accepted, joined, site

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 31)
TODAY = date(2026, 2, 2)
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC).timestamp()
DAY = 86400.0
STREAMS = ("score", "image.mean", "image.std", "image.noise", "meta.pixel_mm", "meta.slice_mm")


def numbers(generator, shift=0.0):
    """Of one study; `shift` in standard deviations of the images' mean and the score."""
    return {
        "score.logit": float(generator.normal(shift, 1.5)),
        "image.mean": float(generator.normal(0.35 + 0.08 * shift, 0.08)),
        "image.std": float(generator.normal(0.2, 0.03)),
        "image.noise": float(np.exp(generator.normal(-4, 0.5))),
        "meta.pixel_mm": float(generator.choice([0.6, 0.7, 0.8])),
        "meta.slice_mm": float(generator.choice([1.0, 2.0, 3.0, 5.0])),
        "ops.left_out": 0.0,
    }


def a_model(classes=("no lesion", "lesion"), task="classification"):
    said = json.dumps({"classes": list(classes), "task": task})
    return "INSERT INTO model VALUES (?, 'nodule', '1', 'tumour', '', ?, 'active', 1.0)", (MODEL, said)


def seen(number, found, at=NOON, patient=None, scores=None):
    """A study that the model has looked at: rows for `write`. `patient`: its number, else one of its own."""
    statement, values = a_study(number, at, "analysed")
    who = f"ID{number}" if patient is None else patient
    rows = [(statement, (*values[:2], who, *values[3:]))]
    rows.append(
        (
            "INSERT INTO measure (study, model, at, numbers, embedding) VALUES (?, ?, ?, ?, '[]')",
            (key_of(number), MODEL, at, found if isinstance(found, str) else json.dumps(found)),
        )
    )
    if scores is not None:
        rows.append(
            (
                "INSERT INTO job (id, study, model, images, series, shadow, revision, state, queued_at)"
                " VALUES (?, ?, ?, 'i', 's', 0, 1, 'done', 1.0)",
                (number, key_of(number), MODEL),
            )
        )
        rows.append(
            (
                "INSERT INTO result VALUES (?, ?, ?, ?, '{}', 0.5, NULL, 0, 1.0, ?)",
                (number, key_of(number), MODEL, json.dumps({"scores": scores}), at),
            )
        )
    return rows


def store(root, *rows, model=None):
    """A watcher's home with these rows."""
    root.mkdir(mode=0o700, exist_ok=True)
    database = Database(root)
    write(database, model or a_model(), *(one for several in rows for one in several))
    database.close()
    return root


def patients(count, seed, shift=0.0, first=0):
    generator = np.random.default_rng(seed)
    return [row for k in range(count) for row in seen(first + k, numbers(generator, shift))]


def members(root, net, names=("north", "south", "east"), epsilon_max=10.0):
    """Homes with ledgers, of sites that have accepted a bundle in which all of them are members."""
    found = {}
    for name in names:
        found[name] = site(root / name, 1000)
        joined(net, found[name], name)
    accepted(net, found)
    for one in found.values():
        terms = LedgerTerms(epsilon_max, 1e-5, 8)
        Ledger.create(one.home.ledger, one.home.signing_key, terms).disconnect()
    return {name: one.home for name, one in found.items()}
