"""A simulated run after its last round, as plain values: read from the homes of its sites, which are all here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedimg import intake, record, site_report
from fedimg.audit import conformance
from fedimg.client_round import Site, Terms
from fedimg.config import Config
from fedimg.coordination.claims import quorums_of, unit_of
from fedimg.coordination.finished import DataFacts, Finished, Participant
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.rounds import History
from fedimg.crypto.keys import SigningKey
from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record import SiteFacts
from fedimg.report import ComparisonRow, ImagePair, IntakeRow
from fedimg.simulation import budgets, pictures
from fedimg.simulation.coordinator import NAME
from fedimg.simulation.participants import Departed
from fedimg.simulation.references import Compared
from fedimg.simulation.virtual import Federation

_KEY = "coordinator.key"


def finished(
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
) -> Finished:
    """The run's participants with their parts of the record, and what may be said of its data.

    `charged` are the plans behind the releases: the sites' own, or with `client_level` the coordinator's
    alone, and then no client is named.
    """
    return Finished(
        config,
        terms,
        history,
        _participants(config, terms, federation, sites, charged, left),
        _data(config, federation, sites),
        quorums_of(config, federation.roster),
        unit_of(config, federation.unit),
        _coordinator_key(config, folder),
        simulated=True,
        comparison=[
            (
                ComparisonRow(
                    c.reference.arrangement, c.reference.name, c.reference.mode != "none", c.auroc, c.note
                ),
                c.reference.mode,
            )
            for c in comparison
        ],
        note=note,
    )


def homes_of(federation: Federation) -> dict[str, Path]:
    """Of those who are named in the run's record."""
    if federation.coordinator is not None:
        return {NAME: federation.coordinator}
    return {setup.name: Path(setup.root) for setup in federation.setups}


def _participants(
    config: Config,
    terms: Terms,
    federation: Federation,
    sites: Sequence[Site],
    charged: Mapping[str, PrivacyPlan],
    left: Sequence[Departed],
) -> dict[str, Participant]:
    homes, insecure = homes_of(federation), config.insecure_test_mode
    unit = unit_of(config, federation.unit)
    stayed: list[tuple[str, PrivacyPlan | None, str]]
    if federation.coordinator is not None:  # it releases, and who is a client is not told
        receipts = intake.commitment(SiteHome.open(homes[NAME]), terms.run_id)
        stayed = [(NAME, charged[NAME], receipts)]
    else:
        stayed = [(site.name, site.plan, site.receipts) for site in sites]
    plans = {name: plan for name, plan, _ in stayed if plan is not None}
    plans |= {site.name: site.plan for site in left if site.plan is not None}
    ledgers = {row.site: row for row in budgets.rows(homes, plans, terms.run_id)}
    gone = {site.name: site for site in left}
    found = {}
    for name, plan, receipts in [*stayed, *((s.name, s.plan, s.receipts) for s in left)]:
        after = gone[name].after_round if name in gone else None
        facts = SiteFacts(terms.run_id, name, terms.digest, plan, unit, insecure, receipts, after)
        found[name] = Participant(
            plan,
            _part(homes[name], facts),
            receipts if federation.coordinator is None else "",
            conformance.kept(homes[name], terms.run_id) if plan is not None else None,
            gone[name].spent(homes[name], terms.run_id, insecure=insecure) if name in gone else None,
            ledgers.get(name),
        )
    return found


def _part(root: Path, facts: SiteFacts) -> dict[str, Any]:
    """The site's own part; of a site that has left and cannot sign, what it had declared."""
    try:
        return record.signed_part(SiteHome.open(root), facts)
    except FedimgError as fault:
        if facts.left_after_round is None:
            raise
        if root.is_dir():
            tell_operator(root, "signing the release record", fault)
        return record.unsigned_part(facts)


def _coordinator_key(config: Config, folder: RunFolder) -> SigningKey:
    """The simulated coordinator's own key, beside the virtual sites' homes: as long-lived as they are."""
    path = (Path(config.state) if config.state else folder.path / "sites") / _KEY
    return SigningKey.load(path) if path.exists() else SigningKey.create(path)


def _data(config: Config, federation: Federation, sites: Sequence[Site]) -> DataFacts:
    told = federation.intake if federation.coordinator is None else ()  # who is a client is not told
    public, generated = federation.public_data, config.data.name == "cohort"
    return DataFacts(
        federation.cards,
        federation.classes,
        federation.unit,
        public=public,
        generated=generated,
        public_set=federation.public_home is not None,
        intake=tuple(_intake_row(federation, name) for name in told) if public else (),
        kept_intake=() if public else tuple(_kept_row(config, federation, name) for name in told),
        compression=_compression(federation, sites),
        images=_pictures(config, federation, sites) if generated else (),
    )


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


def _pictures(config: Config, federation: Federation, sites: Sequence[Site]) -> tuple[ImagePair, ...]:
    site = next((s for s in sites if s.name in federation.intake and federation.coordinator is None), None)
    if site is None:
        return ()
    inputs = federation.generated.get(site.name, ())
    return pictures.before_and_after(site.home, config.deid, inputs, generated=True)
