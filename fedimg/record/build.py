"""A whole release record: every site's part, the federation's claim, the model; signed by the coordinator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fedimg import canonical
from fedimg.crypto.keys import SigningKey
from fedimg.models.origin import Origin
from fedimg.privacy.federation import federation_epsilon
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record import code, schema
from fedimg.record.plans import plan_from_json
from fedimg.record.schema import RECORD_FORMAT


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The model as the record names it: configured name, number of parameters, architecture, weights (hex).

    `start`: the file that its first weights came from; None: from a seed.
    """

    name: str
    parameters: int
    architecture: str
    weights: str
    start: Origin | None = None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the coordinator says of the whole run.

    Attributes:
        mode: of privacy. insecure: noise came from a seed; nothing is claimed then.
        terms: digest of what all sites agreed to. rounds: declared.
        secagg: name, c, and (K, t) of each group of sites that is added up; None without secure sums.
        point, points: of a sweep; 1 and 1 for a run by itself.
        audits: results, each {"audit", "verdict": "pass" | "fail", "seconds", …}: of public units and
            generated data only, for the record leaves the sites.
    """

    run: str
    mode: str
    unit: str
    insecure: bool
    simulated: bool
    max_sites_per_patient: int
    terms: str
    rounds: int
    secagg: tuple[str, int, Sequence[tuple[int, int]]] | None
    model: ModelFacts
    point: int = 1
    points: int = 1
    audits: Sequence[Mapping[str, Any]] = ()


def signed_record(facts: RunFacts, parts: Sequence[Mapping[str, Any]], key: SigningKey) -> bytes:
    """The record as bytes of a file. Raises DataError where it would not be read again."""
    record = {
        "run": facts.run,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "simulated": facts.simulated,
        "insecure_test_mode": facts.insecure,
        "terms": facts.terms,
        "rounds": facts.rounds,
        "secagg": _sums(facts),
        "claim": federation_claim(facts, plans_of(parts)),
        "tuning": {"policy": "every_run_charged", "point": facts.point, "points": facts.points},
        "code": code.installed(),
        "model": {
            "name": facts.model.name,
            "parameters": facts.model.parameters,
            "architecture": facts.model.architecture,
            "weights": facts.model.weights,
            "start": facts.model.start.as_json() if facts.model.start is not None else None,
        },
        "sites": sorted(parts, key=lambda signed: str(signed["part"]["site"])),
        "audits": list(facts.audits),
    }
    document = {
        "format": RECORD_FORMAT,
        "record": record,
        "key": key.public_bytes.hex(),
        "signature": canonical.sign(record, key, RECORD_FORMAT),
    }
    written = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    schema.check(canonical.decode(written, "release record"))
    return written


def _sums(facts: RunFacts) -> dict[str, Any] | None:
    if facts.secagg is None:
        return None
    name, colluders, sums = facts.secagg
    found = [{"sites": sites, "threshold": threshold} for sites, threshold in sums]
    return {"name": name, "colluders": colluders, "sums": found}


def plans_of(parts: Sequence[Mapping[str, Any]]) -> list[PrivacyPlan]:
    """Each site's plan. Raises DataError."""
    found = [signed["part"]["plan"] for signed in parts]
    return [plan_from_json(plan) for plan in found if plan is not None]


def federation_claim(facts: RunFacts, plans: Sequence[PrivacyPlan]) -> dict[str, Any]:
    """What is promised to one patient in the whole federation; ε and δ are null where nothing is."""
    private = facts.mode != "none" and not facts.insecure and bool(plans)
    return {
        "mode": facts.mode,
        "private": private,
        "unit": facts.unit,
        "adjacency": f"add_or_remove_one_{facts.unit}",
        "epsilon": federation_epsilon(plans) if private else None,
        "delta": max(plan.delta for plan in plans) if private else None,
        "max_sites_per_patient": facts.max_sites_per_patient,
    }
