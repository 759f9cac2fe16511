"""The end of a run on paper: the model's weights, the release record, and the privacy card made from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from safetensors.torch import save

from fedimg import record
from fedimg.coordination.finished import Finished
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network
from fedimg.record import ModelFacts, RunFacts
from fedimg.record.card import card_of
from fedimg.report import render_card
from fedimg.values import Vector

CARD = "privacy-card.html"


def write(run: Finished, model: Vector, audits: Sequence[Mapping[str, Any]], folder: RunFolder) -> None:
    """Write `model.safetensors`, `record.json` and the card: before the run counts as finished, and again if it was stopped here.

    `audits` are results that may leave a site; those in the run's `audits/` are added.
    """
    config, terms = run.config, run.terms
    network = own_network(terms)
    tensors = network.state_dict(model)
    folder.write(record.MODEL_FILE, save(tensors))
    facts = RunFacts(
        run=terms.run_id,
        mode=terms.privacy.mode,
        unit=run.unit,
        insecure=config.insecure_test_mode,
        simulated=run.simulated,
        max_sites_per_patient=terms.privacy.max_sites_per_patient,
        terms=terms.digest,
        rounds=terms.rounds,
        secagg=(config.secagg.name, config.secagg.colluders, [quorum[:2] for quorum in run.quorums])
        if run.quorums
        else None,
        model=ModelFacts(
            terms.model.name,
            network.number_of_parameters,
            network.digest,
            record.weights_digest(tensors),
            folder.start,
        ),
        point=folder.sweep.point,
        points=folder.sweep.points,
        audits=(*audits, *_audits(folder)),
    )
    parts = [one.part for one in run.participants.values()]
    written = record.signed_record(facts, parts, run.key)
    folder.write(record.FILE, written)
    folder.write(CARD, render_card(card_of(record.read(written))))


def _audits(folder: RunFolder) -> list[Mapping[str, Any]]:
    """Results that may leave a site, as `audits/NAME.json` in the run's folder."""
    return [json.loads(path.read_text("utf-8")) for path in sorted((folder.path / "audits").glob("*.json"))]
