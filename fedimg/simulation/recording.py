"""The end of a run on paper: the model's weights, the release record, and the privacy card made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save

from fedimg import intake, record
from fedimg.client_round import Site, Terms
from fedimg.config import Config
from fedimg.crypto.keys import SigningKey
from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.privacy.plan import PrivacyPlan
from fedimg.record import ModelFacts, RunFacts, SiteFacts
from fedimg.record.card import card_of
from fedimg.report import render_card
from fedimg.simulation.claims import quorums_of
from fedimg.simulation.coordinator import NAME
from fedimg.simulation.folder import RunFolder
from fedimg.simulation.participants import Departed
from fedimg.simulation.virtual import Federation, own_network
from fedimg.values import Vector

CARD = "privacy-card.html"
_KEY = "coordinator.key"


def write(
    config: Config,
    terms: Terms,
    federation: Federation,
    sites: Sequence[Site],
    charged: Mapping[str, PrivacyPlan],
    left: Sequence[Departed],
    model: Vector,
    audits: Sequence[Mapping[str, Any]],
    folder: RunFolder,
) -> None:
    """Write `model.safetensors`, `record.json` and the card: before the run counts as finished, and again if it was stopped here.

    `charged` are the plans behind the releases, with `client_level` the coordinator's alone. `audits` are results that may leave a site; those in the run's `audits/` are added.
    """
    network = own_network(terms)
    tensors = network.state_dict(model)
    folder.write(record.MODEL_FILE, save(tensors))
    homes = {setup.name: Path(setup.root) for setup in federation.setups}
    unit: Literal["patient", "image", "client"] = federation.unit
    stayed = [(site.name, site.plan, site.receipts, None) for site in sites]
    if (own := federation.coordinator) is not None:  # it releases, and who is a client is not told
        homes, unit = {NAME: own}, "client"
        receipts = intake.commitment(SiteHome.open(own), terms.run_id)
        stayed = [(NAME, charged[NAME], receipts, None)]
    gone = [(site.name, site.plan, site.receipts, site.after_round) for site in left]
    parts = [
        _part(
            homes[name],
            SiteFacts(
                terms.run_id,
                name,
                terms.digest,
                plan,
                unit,
                config.insecure_test_mode,
                receipts,
                after,
            ),
        )
        for name, plan, receipts, after in [*stayed, *gone]
    ]
    quorums = quorums_of(config, federation)
    facts = RunFacts(
        run=terms.run_id,
        mode=terms.privacy.mode,
        unit=unit,
        insecure=config.insecure_test_mode,
        simulated=True,
        max_sites_per_patient=terms.privacy.max_sites_per_patient,
        terms=terms.digest,
        rounds=terms.rounds,
        secagg=(config.secagg.name, config.secagg.colluders, [quorum[:2] for quorum in quorums])
        if quorums
        else None,
        model=ModelFacts(
            terms.model.name, network.number_of_parameters, network.digest, record.weights_digest(tensors)
        ),
        point=folder.sweep.point,
        points=folder.sweep.points,
        audits=(*audits, *_audits(folder)),
    )
    written = record.signed_record(facts, parts, _coordinator_key(config, folder))
    folder.write(record.FILE, written)
    folder.write(CARD, render_card(card_of(record.read(written))))


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


def _audits(folder: RunFolder) -> list[Mapping[str, Any]]:
    """Results that may leave a site, as `audits/NAME.json` in the run's folder."""
    return [json.loads(path.read_text("utf-8")) for path in sorted((folder.path / "audits").glob("*.json"))]


def _coordinator_key(config: Config, folder: RunFolder) -> SigningKey:
    """The simulated coordinator's own key, beside the virtual sites' homes: as long-lived as they are."""
    path = (Path(config.state) if config.state else folder.path / "sites") / _KEY
    return SigningKey.load(path) if path.exists() else SigningKey.create(path)
