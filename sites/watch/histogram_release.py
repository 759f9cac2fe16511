"""Drift histograms of a model for the coordinator: the one way by which anything of a watcher's patients leaves.

The order is that of every release of a site, and nothing comes before its charge:

1. policy, membership, model, streams, noise: public, judged before a patient is looked at
2. the whole cost is reserved in the site's ledger, as a run of its own: each file costs again, of one period too
3. who may be in it is written down (`enrol`), and the charge is on the disk
4. only then values are read, summed and noised; what is left of the reservation is given back
5. the file is signed and gets its name

A kill between 3 and 5 has cost the patients and made no file; none makes a file that nobody was charged for. The
noise is never on a disk, so a second try is a second release, with its own charge.

**Who is counted.** The ledger's records by patient, those of training, serve here too (HMAC of the site's key, issuer and
patient number): who has withdrawn, and who has nothing left, is left out inside, after the charge, and shows nowhere. Two
records that the site has merged count once. Of a patient the latest study of the period counts, by when the model first
looked at it. A study that names no patient is in nothing, since it may be anybody's. The watcher keeps no issuer
of patient numbers: a site whose training saw one names it, so that both mean one record.

An empty site makes its file like any other.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.dicom.pseudonyms import normalise_id
from fedimg.durable import fresh_file
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.monitoring import shared_histograms
from fedimg.monitoring.shared_histograms import FINDING, MOST_STREAMS, STREAMS, SharedHistograms
from fedimg.privacy.clipping import clipped_blocks
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.histogram_plan import LAW, RELEASE, ROLE, HistogramPlan
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import ChargedReleases
from fedimg.privacy.policy import SitePolicy
from fedimg.values import ClippedSum, Vector
from sites.enrolment import Enrolment
from sites.watch.store.schema import reader

RUN: Final = "drift-"
"""Begins the name under which the ledger has a file's cost."""
_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person at the site asks for.

    Attributes:
        model: the bundle's digest. first, last: days (UTC), both included.
        epsilon: what the file may cost a patient. delta: None: the ledger's, as far as the policy allows it.
        streams: (): all that the model has. issuer: of patient numbers, as the headers of this site's images name it.
    """

    model: str
    first: date
    last: date
    epsilon: float
    delta: float | None = None
    streams: tuple[str, ...] = ()
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A file, what is in it, and ε of the ledger: spent or reserved, and left."""

    file: Path
    histograms: SharedHistograms
    epsilon_spent: float
    epsilon_left: float


def make(home: SiteHome, watcher: Path, asked: Asked, folder: Path, today: date | None = None) -> Made:
    """One signed file in `folder`, under a random name.

    Args:
        watcher: the home of the watcher, whose store it is.

    Raises:
        PolicyRefused, BudgetExhausted, LedgerError: not allowed, or not in the budget; nothing was released.
        DataError: no such model, stream, period or store, or a site that belongs to no federation.
    """
    _check_period(asked, today or datetime.now(UTC).date())
    policy = SitePolicy.load(home.policy)
    federation, name = _membership(home)
    if not (folder.is_dir() and os.access(folder, os.W_OK)):  # before anything is charged
        raise DataError("a folder for the file", "none that can be written", "make it first")
    store = reader(watcher)
    try:
        streams = _streams(store, asked)
        ledger = Ledger.open(home.ledger, home.signing_key)
        try:
            delta = min(ledger.terms.delta, policy.largest_delta) if asked.delta is None else asked.delta
            policy.check_drift(asked.epsilon, delta)
            subject = f"{asked.model} {asked.first} {asked.last} {' '.join(streams)}"
            plan = HistogramPlan.made(subject, len(streams), asked.epsilon, delta)
            vector, charge = _released(_Release(home, store, ledger, plan, asked, streams))
            statement = ledger.statement
        finally:
            ledger.disconnect()
    finally:
        store.close()
    found = SharedHistograms(
        federation,
        name,
        home.signing_key.public_bytes.hex(),
        asked.model,
        asked.first,
        asked.last,
        charge,
        plan.epsilon,
        plan.delta,
        plan.noise_multiplier,
        _by_stream(vector, streams),
    )
    data = found.to_bytes(home.signing_key)
    file = folder / f"drift-{secrets.token_hex(8)}.json"  # a name that says nothing, of no period either
    with fresh_file(file) as stream:
        stream.write(data)
    return Made(file, found, statement.epsilon_spent, statement.epsilon_left)


@dataclass(frozen=True, slots=True)
class _Release:
    home: SiteHome
    store: sqlite3.Connection
    ledger: Ledger
    plan: HistogramPlan
    asked: Asked
    streams: tuple[str, ...]


def _released(one: _Release) -> tuple[Vector, str]:
    """The noised sums, (K,) whole numbers, and the ledger's entry; steps 2 to 4 of the module."""
    run, ledger, plan = RUN + secrets.token_hex(8), one.ledger, one.plan
    ledger.reserve(run, plan)
    try:
        keys = LedgerKeys(one.home.site_key)
        latest = _latest(one.store, one.asked, keys)
        patients = sorted(latest)
        ledger.enrol(run, {ROLE: patients}, keys.digest)

        def counted() -> ClippedSum:
            there = np.flatnonzero(ledger.present(RELEASE, ledger.seats(patients)))
            chosen = [latest[patients[number]] for number in there]
            size = sum(shared_histograms.bins_of(stream) for stream in one.streams)
            return clipped_blocks(_blocks(one, chosen), size, plan.sensitivity, integers=True)

        releases = ChargedReleases(plan.digest, LAW, ledger, OsEntropy())
        noised = releases.release(RELEASE, counted, plan.noise_multiplier)
        return np.rint(noised.vector), noised.release_id
    finally:
        ledger.close(run)  # what was charged stays spent


def _latest(store: sqlite3.Connection, asked: Asked, keys: LedgerKeys) -> dict[str, int]:
    """Ledger key → the row of the patient's latest study in the period. It turns on the patient's own studies alone."""
    begin, end = (
        datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        for day in (asked.first, asked.last + timedelta(days=1))
    )
    found = store.execute(
        "SELECT measure.id, study.patient_id FROM measure JOIN study ON study.key = measure.study"
        " WHERE measure.model = ? AND measure.at >= ? AND measure.at < ? ORDER BY measure.at, measure.id",
        (asked.model, begin, end),
    )
    return {
        keys.of(asked.issuer, row["patient_id"]): row["id"]
        for row in found
        if normalise_id(row["patient_id"])
    }


def _blocks(one: _Release, chosen: Sequence[int]) -> Iterator[Vector]:
    """(U, K) rows of the chosen studies, some at a time."""
    for start in range(0, len(chosen), _AT_ONCE):
        own = [_values(one, measure) for measure in chosen[start : start + _AT_ONCE]]
        yield shared_histograms.rows(own, one.streams)


def _values(one: _Release, measure: int) -> dict[str, Any]:
    """Stream → value of one study; empty where what was stored is not what a watcher writes: no error tells of it."""
    row = one.store.execute(
        "SELECT numbers, (SELECT prediction FROM result WHERE result.study = measure.study AND"
        " result.model = measure.model ORDER BY finished_at DESC, job DESC LIMIT 1) AS prediction"
        " FROM measure WHERE id = ?",
        (measure,),
    ).fetchone()
    numbers = _mapping(row["numbers"])
    said = _mapping(row["prediction"]).get("scores")
    scores = said if isinstance(said, dict) else {}
    found = {stream: numbers.get(stream) for stream in STREAMS if stream != "score"}
    found["score"] = numbers.get("score.logit")
    return found | {FINDING + name: shared_histograms.logit(value) for name, value in scores.items()}


def _mapping(text: object) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _by_stream(vector: Vector, streams: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found, start = {}, 0
    for stream in streams:
        end = start + shared_histograms.bins_of(stream)
        found[stream] = tuple(int(value) for value in vector[start:end])
        start = end
    return found


def _streams(store: sqlite3.Connection, asked: Asked) -> tuple[str, ...]:
    """Those asked for, in the order of their names; all that the model has where none is."""
    row = store.execute("SELECT metadata FROM model WHERE digest = ?", (asked.model,)).fetchone()
    if row is None:
        raise DataError("a model of this watcher", "none of that digest", "fedimg watch models SETTINGS")
    known = (*STREAMS, *(FINDING + name for name in findings(_mapping(row["metadata"]))))
    unknown = sorted(set(asked.streams) - set(known))
    chosen = tuple(sorted(set(asked.streams or known)))
    if unknown or len(chosen) > MOST_STREAMS:
        found = "another" if unknown else f"{len(chosen)} streams"
        raise DataError(
            f"up to {MOST_STREAMS} streams of {', '.join(known)}", found, "name them with --stream"
        )
    return chosen


def findings(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The findings of a model that have a score each; () where its one score says it."""
    own = said["fedimg"] if isinstance(said.get("fedimg"), dict) else said
    classes = tuple(str(name) for name in own.get("classes") or ())
    several = classes if own.get("task") == "multilabel" else classes[1:]
    return several if len(several) > 1 else ()


def _membership(home: SiteHome) -> tuple[str, str]:
    """Id of the federation, and this site's name in it."""
    pinned = Enrolment(home).pinned()
    if pinned is None:
        raise DataError(
            "a site that is member of a federation", "none", "fedimg provision accept HOME BUNDLE"
        )
    own = home.signing_key.public_bytes
    for name, member in pinned.manifest.members.items():
        if member.identity == own:
            return pinned.manifest.id, name
    raise DataError(
        "a federation in which this site is a member", "one without it", "accept its latest bundle"
    )


def _check_period(asked: Asked, today: date) -> None:
    shared_histograms.check_period(asked.first, asked.last)
    if asked.last > today:
        raise DataError("a period of the past", "one that ends after today", "name an earlier last day")
