"""What a finished run says of itself: model and signed record, `report.html`, and last `summary.json`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fedimg import report
from fedimg.audit.empirical import EmpiricalEpsilon
from fedimg.coordination import groups, measured, recording, settings
from fedimg.coordination.claims import privacy_summary
from fedimg.coordination.finished import Finished
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.traffic import cost_of
from fedimg.models.origin import Origin
from fedimg.privacy.client_level import TRUST
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record import code
from fedimg.record.exposures import exposure_rows
from fedimg.report import ComparisonRow, PrivacySummary, ReportData, RoundPoint
from fedimg.training import KEPT
from fedimg.values import EvaluationReport, Interval


def write(run: Finished, folder: RunFolder) -> dict[str, Any]:
    """Write the run's record and return the summary. Sites that have left are in it like any other."""
    config = run.config
    privacy = privacy_summary(
        config,
        run.plans,
        run.unit,
        {name: left["after_round"] for name, left in run.left.items()},
        run.quorums,
        scratch_ledger=run.simulated and config.state is None,
    )
    audited = measured.empirical(config, run.plans)
    content = _content(run, privacy, audited, folder.start)
    if run.history.released is not None:
        audits = [{"audit": "empirical", "site": name, **found.as_dict()} for name, found in audited.items()]
        audits += [
            {**passed, "site": name}
            for name in run.plans
            if (passed := run.participants[name].battery) is not None
        ]
        recording.write(run, run.history.released, audits, folder)
    data = _report_data(run, privacy, audited, folder)
    folder.write("report.html", report.render(data))
    folder.write_json("summary.json", content)  # the last but closing: with it a run counts as finished
    return content


def _content(
    run: Finished, privacy: PrivacySummary, audited: dict[str, EmpiricalEpsilon], origin: Origin | None
) -> dict[str, Any]:
    terms, history, insecure = run.terms, run.history, run.config.insecure_test_mode
    at_sites = history.at_sites.report(run.terms.measure) if history.at_sites is not None else None
    content: dict[str, Any] = {
        "run": terms.run_id,
        "fedimg": code.installed()["fedimg"],
        "simulated": run.simulated,
        "task": terms.model.task,
        "headline": terms.measure.headline,
        "test": _values(history.final),
        "test_intervals": _intervals(history.final),
        "test_absent": _test_absent(run),
        "sites": {
            name: (_site(one.plan, insecure=insecure) if one.plan is not None else {})
            | ({"left": one.left} if one.left is not None else {})
            for name, one in sorted(run.participants.items())
        },
        "privacy": {
            "mode": terms.privacy.mode,
            "private": privacy.protects,
            "insecure_test_mode": insecure,
            "unit": run.unit,
            "secagg": run.config.secagg.name,
            "secure_sum": _secure_sum(privacy.quorum, privacy.groups),
            "epsilon": privacy.federation_epsilon if privacy.protects else None,
            "delta": privacy.federation_delta if privacy.protects else None,
            "empirical": {name: found.as_dict() for name, found in audited.items()},
            "battery": {name: run.participants[name].battery for name in run.plans},
            "release_records": {name: _release_record(run, name) for name in run.plans},
        },
        "site_evaluation": _values(at_sites),
        "site_evaluation_round": history.at_sites.round if history.at_sites is not None else None,
        "subgroups": groups.content(history, terms.measure, private=terms.privacy.mode != "none"),
        "comparison": [
            {
                "arrangement": row.arrangement,
                "name": row.name,
                "privacy": mode,
                "auroc": row.auroc.value if row.auroc else None,
                "note": row.note,
            }
            for row, mode in run.comparison
        ],
        "rounds": terms.rounds,
        "start": origin.as_json() if origin is not None else None,
        "cost": cost_of(history.rows),
        "void_rounds": [r["round"] for r in history.rows if "void" in r],
        "missing": {str(r["round"]): r["missing"] for r in history.rows if r.get("missing")},
    }
    if run.unit == "client":
        content["trust"] = TRUST
    elif run.data.public:
        content["intake"] = {
            row.site: {"inputs": row.inputs, "released": row.released, "quarantined": dict(row.quarantined)}
            for row in run.data.intake
        }
    return content


def _release_record(run: Finished, name: str) -> dict[str, Any]:
    one, plan = run.participants[name], run.plans[name]
    found = plan.release_record(insecure=run.config.insecure_test_mode, unit=run.data.unit)
    if one.receipts:
        found["receipts_commitment"] = one.receipts
    return found | ({"left": one.left} if one.left is not None else {})


def _report_data(
    run: Finished, privacy: PrivacySummary, audited: dict[str, EmpiricalEpsilon], folder: RunFolder
) -> ReportData:
    """The run as plain values for `fedimg.report`."""
    history, data, origin = run.history, run.data, folder.start
    own = ComparisonRow("federation", "federation", run.terms.privacy.mode != "none", _auroc(history.final))
    return ReportData(
        title=f"Federated training on {run.config.data.name}" if run.simulated else "Federated training",
        run_id=folder.run_id,
        privacy=privacy,
        simulated=run.simulated,
        classes=data.classes,
        config=settings.rows(run.config, privacy.unit, simulated=run.simulated),
        headline=run.terms.measure.headline,
        rounds=tuple(_points(run)),
        evaluation=history.final,
        site_evaluation=history.at_sites.report(run.terms.measure) if history.at_sites is not None else None,
        test_absent=_test_absent(run),
        breakdowns=groups.breakdowns(history, run.terms.measure),
        noise_factors=groups.noise_factors(run.terms.measure, private=run.terms.privacy.mode != "none"),
        comparison=(own, *(row for row, _ in run.comparison))
        if own.auroc and (run.comparison or run.note)
        else (),
        intake=data.intake if data.public else (),
        kept_intake=data.kept_intake,
        compression=data.compression,
        data_card=" ".join(_sentence(text) for text in (*data.cards, run.note) if text),
        data_generated=data.generated,
        images=data.images,
        exposure=exposure_rows(run.plans) if privacy.protects else (),
        empirical=measured.rows(audited),
        ledgers=tuple(row for name in run.plans if (row := run.participants[name].ledger) is not None),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        start=(origin.sentence(), origin.file) if origin is not None else None,
        battery=measured.battery({name: run.participants[name].battery for name in run.plans}),
    )


def _site(plan: PrivacyPlan, *, insecure: bool) -> dict[str, Any]:
    return {
        "epsilon": None if insecure else plan.epsilon,
        "delta": None if insecure else plan.delta,
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


def _test_absent(run: Finished) -> str:
    """Why there is no measurement on a public test set; "" where there is one."""
    if run.history.final is not None:
        return ""
    if run.terms.training.algorithm.name in KEPT:
        return "parameters stay at the sites, and each has a model of its own (docs/heterogeneity.md)"
    if not run.data.public_set:
        if run.simulated:
            return "the source has no public examples (rows of split=public in its table)"
        return "the coordinator has no public examples (`fedimg server public`)"
    return "none of the public examples was usable"


def _points(run: Finished) -> list[RoundPoint]:
    """Loss, headline and each site's ε so far."""
    return [
        RoundPoint(row["round"], row.get("loss"), row.get(run.terms.measure.headline), row.get("epsilon", {}))
        for row in run.history.rows
    ]


def _auroc(found: EvaluationReport | None) -> Interval | None:
    return found.metrics.get("auroc") if found is not None else None


def _values(found: EvaluationReport | None) -> dict[str, float]:
    return {name: interval.value for name, interval in found.metrics.items()} if found else {}


def _intervals(found: EvaluationReport | None) -> dict[str, list[float]]:
    return {name: [i.low, i.high] for name, i in found.metrics.items()} if found else {}
