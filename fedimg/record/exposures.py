"""What patients are exposed to at most, from the plans of a run."""

from __future__ import annotations

from collections.abc import Mapping

from fedimg.privacy.federation import federation_epsilon, federation_exposures
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.tradeoff import Exposure, exposure, exposure_of_epsilon
from fedimg.report.data import ExposureRow

_NAMED = 3


def exposure_rows(plans: Mapping[str, PrivacyPlan]) -> tuple[ExposureRow, ...]:
    """One row for all sites whose releases are alike, and one for a patient at several sites where that is declared.

    The bounds are from the trade-off curve of all declared releases; only where sites differ in too many ways to
    compose them are they from (ε, δ) alone, which is wider. Empty where some site promises nothing.
    """
    if not plans or any(plan.mode == "none" for plan in plans.values()):
        return ()
    alike: dict[object, list[str]] = {}
    for name, plan in sorted(plans.items()):
        alike.setdefault((plan.roles, plan.delta), []).append(name)
    rows = []
    for names in alike.values():
        plan = plans[names[0]]
        found = exposure(plan.roles)
        if found is None:
            return ()
        rows.append(_row(_together(names), plan.epsilon, plan.delta, found))
    several = max(plan.request.max_sites_per_patient for plan in plans.values())
    if several > 1 and len(plans) > 1:
        rows.append(_at_several(list(plans.values()), min(several, len(plans))))
    return tuple(sorted(rows, key=lambda row: -row.true_positives))


def _at_several(plans: list[PrivacyPlan], several: int) -> ExposureRow:
    epsilon, delta = federation_epsilon(plans), max(plan.delta for plan in plans)
    exposures = federation_exposures(plans)
    found = exposure(exposures) if exposures is not None else None
    return _row(f"a patient at {several} sites", epsilon, delta, found or exposure_of_epsilon(epsilon, delta))


def _row(name: str, epsilon: float, delta: float, found: Exposure) -> ExposureRow:
    return ExposureRow(
        name, epsilon, delta, found.true_positives, found.advantage, found.reconstruction, found.curve
    )


def _together(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} sites, all alike"
