"""Drift follows from the store: the same after any restart, a study counted once, a lasting alarm told once."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedimg.monitoring.drift import DriftConfig
from sites.watch.drifting import EMBEDDING, PERSISTENT, Drifting

CONFIG = DriftConfig(window=60, look_every=20, horizon=400, least=40)


def observe(store, drifting, values, first=0, model="m"):
    looks = []
    for k, value in enumerate(values, start=first):
        with store.database.change() as change:
            change.execute(
                "INSERT INTO measure (study, model, at, numbers, embedding) VALUES (?, ?, ?, ?, ?)",
                (
                    f"{k}",
                    model,
                    float(k),
                    json.dumps({"image.mean": value, "rare": None}),
                    json.dumps([value, -value]),
                ),
            )
        look = drifting.observed(model, float(k))
        if look is not None:
            looks.append(look)
    return looks


@pytest.fixture
def values():
    return np.random.default_rng(7).normal(size=400).tolist()


def test_a_shift_is_found_asked_about_once_and_named(store, values):
    drifting = Drifting(store.database, 100, CONFIG)
    calm = observe(store, drifting, values[:200])
    assert [look.studies for look in calm] == [20, 40, 60, 80, 100]
    assert not any(look.moved for look in calm)
    moved = observe(store, drifting, [v + 2.0 for v in values[200:400]], first=200)
    alarmed = [look for look in moved if look.moved]
    assert {one.stream for one in alarmed[-1].moved} <= {"image.mean", EMBEDDING}
    assert alarmed[-1].moved
    assert [look.persists for look in alarmed].count(True) == 1
    assert alarmed.index(next(look for look in alarmed if look.persists)) == PERSISTENT - 1


@pytest.mark.parametrize("cut", [50, 99, 100, 217, 218, 219, 220])  # a look is due after the 220th
def test_a_restart_changes_nothing(store, values, cut):
    shifted = values[:160] + [v + 2.0 for v in values[160:300]]
    whole = Drifting(store.database, 100, CONFIG)
    found = observe(store, whole, shifted)
    rows = [
        json.loads(row["streams"])
        for row in store.database.rows("SELECT streams FROM drift_look ORDER BY id")
    ]

    with store.database.change() as change:
        change.execute("DELETE FROM measure")
        change.execute("DELETE FROM drift_look")
    first = Drifting(store.database, 100, CONFIG)
    again = observe(store, first, shifted[:cut])
    again += observe(store, Drifting(store.database, 100, CONFIG), shifted[cut:], first=cut)
    assert [look.studies for look in again] == [look.studies for look in found]
    after = [
        json.loads(row["streams"])
        for row in store.database.rows("SELECT streams FROM drift_look ORDER BY id")
    ]
    assert [one.get("image.mean") for one in after] == [one.get("image.mean") for one in rows]
    assert any("image.mean" in one for one in rows)


def test_too_few_references_are_no_reference(store, values):
    assert observe(store, Drifting(store.database, 200, CONFIG), values[:199]) == []
    assert store.database.rows("SELECT * FROM drift_look") == []


def test_models_are_watched_apart(store, values):
    drifting = Drifting(store.database, 100, CONFIG)
    observe(store, drifting, values[:130], model="a")
    assert observe(store, drifting, values[:90], model="b") == []
