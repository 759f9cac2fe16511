"""What a finished run says of itself: `summary.json`, ledger extracts, receipts, `report.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fedimg
from fedimg import report, site_report
from fedimg.audit import conformance
from fedimg.client_round import Site, Terms
from fedimg.config import Config
from fedimg.privacy.client_level import TRUST
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record.exposures import exposure_rows
from fedimg.report import (
    ComparisonRow,
    ImagePair,
    IntakeRow,
    PrivacySummary,
    ReportData,
    RoundPoint,
)
from fedimg.simulation import budgets, closing, measured, pictures, recording, settings
from fedimg.simulation.claims import privacy_summary, quorums_of, unit_of
from fedimg.simulation.coordinator import NAME
from fedimg.simulation.folder import RunFolder
from fedimg.simulation.participants import Departed
from fedimg.simulation.references import Compared
from fedimg.simulation.rounds import History
from fedimg.simulation.virtual import Federation
from fedimg.values import EvaluationReport, Interval


def write(
    config: Config,
    terms: Terms,
    federation: Federation,
    sites: Sequence[Site],
    charged: Mapping[str, PrivacyPlan],
    left: Sequence[Departed],
    history: History,
    comparison: Sequence[Compared],
    note: str,
    folder: RunFolder,
) -> dict[str, Any]:
    """Write the run's record and return the summary. Sites that have left are in it like any other.

    `charged` are the plans behind the releases: the sites' own, or with `client_level` the coordinator's
    alone, and then no client is named.
    """
    gone_plans = {site.name: site.plan for site in left if site.plan is not None}
    plans = dict(sorted({**charged, **gone_plans}.items()))
    homes = {setup.name: Path(setup.root) for setup in federation.setups}
    reserved = {site.name for site in sites} | {site.name for site in left}
    if federation.coordinator is not None:
        homes, reserved = {NAME: federation.coordinator}, {NAME}
    insecure = config.insecure_test_mode
    gone = {site.name: site.spent(homes[site.name], terms.run_id, insecure=insecure) for site in left}
    unit = unit_of(config, federation)
    privacy = privacy_summary(
        config, plans, unit, {site.name: site.after_round for site in left}, quorums_of(config, federation)
    )
    audited = measured.empirical(config, plans)
    passed = {name: conformance.kept(homes[name], terms.run_id) for name in plans}
    committed = {site.name: site.receipts for site in sites} | {site.name: site.receipts for site in left}
    at_sites = history.at_sites.report() if history.at_sites is not None else None
    content: dict[str, Any] = {
        "run": folder.run_id,
        "fedimg": fedimg.__version__,
        "simulated": True,
        "test": _values(history.final),
        "test_intervals": _intervals(history.final),
        "test_absent": _test_absent(federation, history),
        "sites": {
            name: (_site(plans[name], config) if name in plans else {})
            | ({"left": gone[name]} if name in gone else {})
            for name in sorted(reserved)
        },
        "privacy": {
            "mode": terms.privacy.mode,
            "private": privacy.protects,
            "insecure_test_mode": insecure,
            "unit": unit,
            "secagg": config.secagg.name,
            "secure_sum": _secure_sum(privacy.quorum, privacy.groups),
            "epsilon": privacy.federation_epsilon if privacy.protects else None,
            "delta": privacy.federation_delta if privacy.protects else None,
            "empirical": {name: found.as_dict() for name, found in audited.items()},
            "battery": passed,
            "release_records": {
                name: plan.release_record(insecure=insecure, unit=federation.unit)
                | ({"receipts_commitment": committed[name]} if name in committed else {})
                | ({"left": gone[name]} if name in gone else {})
                for name, plan in plans.items()
            },
        },
        "site_evaluation": _values(at_sites),
        "site_evaluation_round": history.at_sites.round if history.at_sites is not None else None,
        "comparison": [
            {
                "arrangement": c.reference.arrangement,
                "name": c.reference.name,
                "privacy": c.reference.mode,
                "auroc": c.auroc.value if c.auroc else None,
                "note": c.note,
            }
            for c in comparison
        ],
        "rounds": terms.rounds,
        "void_rounds": [r["round"] for r in history.rows if "void" in r],
        "missing": {str(r["round"]): r["missing"] for r in history.rows if r.get("missing")},
    }
    if federation.coordinator is not None:
        content["trust"] = TRUST
    elif federation.public_data:
        content["intake"] = {name: _intake(federation, name) for name in federation.intake}
    data = report_data(config, terms, federation, sites, history, comparison, note, privacy, at_sites, folder)
    exposed = exposure_rows(plans) if privacy.protects else ()
    spent = budgets.rows(homes, plans, terms.run_id)
    data = replace(
        data,
        empirical=measured.rows(audited),
        exposure=exposed,
        ledgers=spent,
        battery=measured.battery(passed),
    )
    if history.released is not None:
        audits = [{"audit": "empirical", "site": name, **found.as_dict()} for name, found in audited.items()]
        audits += [{"site": name, **found} for name, found in passed.items() if found is not None]
        recording.write(config, terms, federation, sites, plans, left, history.released, audits, folder)
    folder.write("report.html", report.render(data))
    folder.write_json("summary.json", content)  # the last but closing: with it a run counts as finished
    closing.close(
        {name: homes[name] for name in content["sites"]},
        folder,
        public_data=federation.public_data,
        left=tuple(gone),
    )
    return content


def report_data(
    config: Config,
    terms: Terms,
    federation: Federation,
    sites: Sequence[Site],
    history: History,
    comparison: Sequence[Compared],
    note: str,
    privacy: PrivacySummary,
    at_sites: EvaluationReport | None,
    folder: RunFolder,
) -> ReportData:
    """The run as plain values for `fedimg.report`."""
    rows = [ComparisonRow("federation", "federation", terms.privacy.mode != "none", _auroc(history.final))]
    rows += [
        ComparisonRow(c.reference.arrangement, c.reference.name, c.reference.mode != "none", c.auroc, c.note)
        for c in comparison
    ]
    generated = config.data.name == "cohort"
    told = federation.intake if federation.coordinator is None else ()  # who is a client is not told
    return ReportData(
        title=f"Federated training on {config.data.name}",
        run_id=folder.run_id,
        privacy=privacy,
        simulated=True,
        classes=federation.classes,
        config=settings.rows(config, privacy.unit),
        rounds=tuple(_points(history)),
        evaluation=history.final,
        site_evaluation=at_sites,
        test_absent=_test_absent(federation, history),
        comparison=tuple(rows) if comparison or note else (),
        intake=tuple(_intake_row(federation, name) for name in told) if federation.public_data else (),
        kept_intake=()
        if federation.public_data
        else tuple(_kept_row(config, federation, name) for name in told),
        compression=_compression(federation, sites),
        data_card=" ".join(_sentence(text) for text in (*federation.cards, note) if text),
        data_generated=generated,
        images=_pictures(config, federation, sites) if generated else (),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def _pictures(config: Config, federation: Federation, sites: Sequence[Site]) -> tuple[ImagePair, ...]:
    site = next((s for s in sites if s.name in federation.intake and federation.coordinator is None), None)
    if site is None:
        return ()
    inputs = federation.generated.get(site.name, ())
    return pictures.before_and_after(site.home, config.deid, inputs, generated=True)


def _site(plan: PrivacyPlan, config: Config) -> dict[str, Any]:
    claimed = not config.insecure_test_mode
    return {
        "epsilon": plan.epsilon if claimed else None,
        "delta": plan.delta if claimed else None,
        "noise_multiplier": plan.noise_multiplier,
        "sampling_rate": plan.sampling_rate,
        "steps": plan.steps,
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


def _secure_sum(quorum: tuple[int, int, int] | None, groups: int) -> dict[str, int] | None:
    """Who must survive a sum, and how many may collude, in the smallest group; null without secure sums."""
    if quorum is None:
        return None
    found = dict(zip(("sites", "threshold", "colluders"), quorum, strict=True))
    return found | ({"groups": groups} if groups > 1 else {})


def _test_absent(federation: Federation, history: History) -> str:
    """Why there is no measurement on a public test set; "" where there is one."""
    if history.final is not None:
        return ""
    if federation.public_home is None:
        return "the source has no public examples (rows of split=public in its table)"
    return "none of the public examples was usable"


def _points(history: History) -> list[RoundPoint]:
    """Loss, AUROC and each site's ε so far."""
    return [
        RoundPoint(row["round"], row.get("loss"), row.get("auroc"), row.get("epsilon", {}))
        for row in history.rows
    ]


def _auroc(found: EvaluationReport | None) -> Interval | None:
    return found.metrics.get("auroc") if found is not None else None


def _values(found: EvaluationReport | None) -> dict[str, float]:
    return {name: interval.value for name, interval in found.metrics.items()} if found else {}


def _intervals(found: EvaluationReport | None) -> dict[str, list[float]]:
    return {name: [i.low, i.high] for name, i in found.metrics.items()} if found else {}


def _intake(federation: Federation, name: str) -> dict[str, Any]:
    row = _intake_row(federation, name)
    return {"inputs": row.inputs, "released": row.released, "quarantined": dict(row.quarantined)}


def _intake_row(federation: Federation, name: str) -> IntakeRow:
    """Exact counts: only ever called for generated or declared public data."""
    result = federation.intake[name]
    quarantined = {reason.value: count for reason, count in result.quarantined.items() if count}
    inputs = len(result.records) + sum(quarantined.values())
    return IntakeRow(name, inputs, len(result.records), quarantined, result.bytes_in, result.bytes_released)


def _kept_row(config: Config, federation: Federation, name: str) -> tuple[str, int, str]:
    """For data of patients: the declared size and where the counts are, since a count depends on patients."""
    home = f"<this run>/sites/{name}" if config.state is None else f"<state>/{name}"
    return name, federation.declared[name], f"{home}/{site_report.NAME}, and fedimg site log {home}"


def _compression(federation: Federation, sites: Sequence[Site]) -> tuple[tuple[str, float], ...]:
    if not federation.public_data or federation.coordinator is not None:
        return ()  # file sizes depend on patients
    before = sum(result.bytes_taken for result in federation.intake.values())
    after = sum(result.bytes_released for result in federation.intake.values())
    rows = [("released files", before / after)] if after else []
    ratios = [site.data.cache_ratio for site in sites if len(site.data.train.labels)]
    if federation.intake and after and ratios:
        rows.append(("cache of decoded volumes", sum(ratios) / len(ratios)))
    return tuple(rows)
