"""A privacy card from a release record alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedimg.models.origin import Origin
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.request import DISTRIBUTED
from fedimg.record.exposures import exposure_rows
from fedimg.record.plans import plan_from_json
from fedimg.report import CardData, PrivacySummary, ReportData, SitePrivacy
from fedimg.secagg.graph import COMPLETE_UP_TO


def card_of(document: Mapping[str, Any]) -> CardData:
    """What a card shows of a document that `read` or `verify` let pass. Raises DataError for a plan that is none."""
    record = document["record"]
    plans = {
        signed["part"]["site"]: plan_from_json(signed["part"]["plan"])
        for signed in record["sites"]
        if signed["part"]["plan"] is not None
    }
    claim = record["claim"]
    shared = ReportData(
        title=f"Privacy card: {record['model']['name']}",
        run_id=record["run"],
        privacy=_privacy(record, plans),
        simulated=record["simulated"],
        exposure=exposure_rows(plans) if claim["private"] else (),
        start=_start(record["model"]["start"]),
        created=record["created"].replace("T", " ").replace("+00:00", " UTC"),
    )
    return CardData(shared, _tuning(record), tuple(map(_audit, record["audits"])), _facts(document))


def _start(stated: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """For a page: what a file of weights says of itself, and its digest."""
    return (Origin(**stated).sentence(), stated["file"]) if stated is not None else None


def site_privacy(
    name: str, plan: PrivacyPlan, claim: Mapping[str, Any], second_epsilon: float | None
) -> SitePrivacy:
    """A site's numbers for a page. `claim`: its part of a release record, which names both accountants."""
    first, second = claim["accountants"][:2]
    return SitePrivacy(
        name,
        plan.epsilon,
        plan.delta,
        plan.noise_multiplier,
        plan.sampling_rate,
        plan.steps,
        plan.l2_clip_norm,
        str(first["name"]),
        str(second["name"]),
        second_epsilon,
    )


def _privacy(record: Mapping[str, Any], plans: Mapping[str, PrivacyPlan]) -> PrivacySummary:
    claim = record["claim"]
    stated = {signed["part"]["site"]: signed["part"]["claim"] for signed in record["sites"]}
    sites = []
    for name, plan in plans.items():
        again = plan.epsilon_second if math.isfinite(plan.epsilon_second) else None
        sites.append(site_privacy(name, plan, stated[name], again))
    parts = [signed["part"] for signed in record["sites"]]
    sums = record["secagg"]
    quorums = [(one["sites"], one["threshold"], sums["colluders"]) for one in sums["sums"]] if sums else []
    return PrivacySummary(
        claim["mode"],
        tuple(sites),
        insecure=record["insecure_test_mode"],
        scratch_ledger=any(part["ledger"] is not None and part["ledger"]["scratch"] for part in parts),
        max_sites_per_patient=claim["max_sites_per_patient"],
        secagg="none" if sums is None else sums["name"],
        quorum=min(quorums, default=None),
        groups=max(1, len(quorums)),
        server_may_lie=all(sites <= COMPLETE_UP_TO for sites, _, _ in quorums),
        colluders=0 if sums is None or claim["mode"] != DISTRIBUTED else sums["colluders"],
        unit=claim["unit"],
        left={
            part["site"]: part["left_after_round"] for part in parts if part["left_after_round"] is not None
        },
        composed=(claim["epsilon"], claim["delta"]) if claim["private"] else None,
    )


def _tuning(record: Mapping[str, Any]) -> tuple[str, ...]:
    if not record["claim"]["private"]:
        return ("Nothing is promised, so no cost of choosing settings is counted.",)
    said = [
        (
            "Every run is charged to the ledger of each site, runs of a sweep and discarded ones too, because the "
            "server sees them all. ε above is of this run alone."
        )
    ]
    point, points = record["tuning"]["point"], record["tuning"]["points"]
    if points > 1:
        said.append(
            f"This is run {point} of a sweep of {points}: whoever sees them all sees all their releases."
        )
    ledgers = [signed["part"]["ledger"] for signed in record["sites"] if signed["part"]["ledger"] is not None]
    if any(ledger["scratch"] for ledger in ledgers):
        said.append(
            "A simulation's ledgers know only the runs on the same state folder: other runs on these data are not "
            "in them."
        )
    if ledgers:
        earlier = max(ledger["earlier_runs"] for ledger in ledgers)
        most = max(ledger["epsilon_max"] for ledger in ledgers)
        delta = max(ledger["delta"] for ledger in ledgers)
        said.append(
            f"Earlier runs in the fullest ledger: {earlier}. Over all runs together, however they are chosen, the "
            f"ledgers promise at most ε = {most:g} at δ = {delta:g} to one {record['claim']['unit']} at one site, "
            f"added or removed."
        )
    return tuple(said)


def _audit(audit: Mapping[str, Any]) -> tuple[str, str, str]:
    name = " of ".join(str(audit[key]) for key in ("audit", "site") if audit.get(key))
    found = []
    estimate, interval = audit.get("estimate"), audit.get("interval")
    if isinstance(estimate, float) and isinstance(interval, list):
        ends = ", ".join("∞" if end is None else f"{end:.3g}" for end in interval)
        found.append(f"estimated ε {estimate:.3g} [{ends}]")
    for key, text in (
        ("claim", "claimed for what it measured"),
        ("delta", "at δ ="),
        ("canaries", "canaries"),
    ):
        if isinstance(audit.get(key), int | float):
            found.append(f"{text} {audit[key]:.4g}")
    found.append(f"{audit['seconds']:.3g} s")
    return name, str(audit["verdict"]), ", ".join(found)


def _facts(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    record, model = document["record"], document["record"]["model"]
    left = sum(1 for signed in record["sites"] if signed["signature"] is None)
    return (
        ("run", record["run"]),
        ("model", f"{model['name']}, {model['parameters']:,} parameters"),
        ("digest of the weights", model["weights"]),
        ("digest of the architecture", model["architecture"]),
        ("code", f"fedimg {record['code']['fedimg']}, {record['code']['digest']}"),
        ("signed by the coordinator", document["key"]),
        ("signed by", f"{len(record['sites']) - left} of {len(record['sites'])} sites"),
        ("record made", record["created"]),
    )
