"""What a run claims of privacy, from the plans that ledgers have reserved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from fedimg.config import Config
from fedimg.privacy.client_level import MODE
from fedimg.privacy.plan import PrivacyPlan, federation_epsilon
from fedimg.privacy.request import DISTRIBUTED
from fedimg.record.card import site_privacy
from fedimg.report import Mode, PrivacySummary, Unit
from fedimg.secagg.graph import COMPLETE_UP_TO
from fedimg.secagg.groups import grouped
from fedimg.secagg.roster import Roster


def privacy_summary(
    config: Config,
    plans: Mapping[str, PrivacyPlan],
    unit: Unit,
    left: Mapping[str, int],
    quorums: Sequence[tuple[int, int, int]] = (),
    *,
    scratch_ledger: bool = False,
) -> PrivacySummary:
    """The mode and every site's numbers, from the plans that the ledgers reserved."""
    rows = []
    for name, plan in plans.items():
        claim = plan.release_record()
        rows.append(site_privacy(name, plan, claim, claim["accountants"][1]["epsilon"]))
    return PrivacySummary(
        _mode(config),
        tuple(rows),
        insecure=config.insecure_test_mode,
        scratch_ledger=scratch_ledger,
        max_sites_per_patient=config.privacy.max_sites_per_patient,
        secagg=config.secagg.name,
        colluders=config.secagg.colluders if config.privacy.mode == DISTRIBUTED else 0,
        quorum=min(quorums, default=None),
        groups=max(1, len(quorums)),
        server_may_lie=all(sites <= COMPLETE_UP_TO for sites, _, _ in quorums),
        unit=unit,
        left=left,
        composed=_composed(config, plans),
        clients=next(iter(plans.values())).declared_patients if unit == "client" and plans else 0,
    )


def quorums_of(config: Config, roster: Roster | None) -> list[tuple[int, int, int]]:
    """(K, t, c) of the secure sums of each group of sites; empty without any."""
    if roster is None:
        return []
    sizes = [len(group.identities) for group in grouped(roster, config.secagg.groups)]
    return [(sites, config.secagg.threshold_among(sites), config.secagg.colluders) for sites in sizes]


def _composed(config: Config, plans: Mapping[str, PrivacyPlan]) -> tuple[float, float] | None:
    """(ε, δ) of a patient at several sites, where that is declared."""
    if config.privacy.max_sites_per_patient == 1 or not plans or config.privacy.mode == MODE:
        return None
    return federation_epsilon(list(plans.values())), max(plan.delta for plan in plans.values())


def _mode(config: Config) -> Mode:
    modes: dict[str, Mode] = {
        "per_site": "per_site",
        "distributed": "distributed",
        "client_level": "client_level",
    }
    return modes.get(config.privacy.mode, "none")


def unit_of(config: Config, unit: Literal["patient", "image"]) -> Unit:
    """What ε is for: with `client_level` a client, whatever the source knows of patients."""
    return "client" if config.privacy.mode == MODE else unit
