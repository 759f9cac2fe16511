"""Personal models beside the global one: Ditto, and a head that is fine-tuned when the run is over.

Li et al. 2021, "Ditto: Fair and Robust Federated Learning Through Personalization", arXiv 2012.04221, algorithm 1: a
personal model v follows the site's own loss, drawn to the global model w it was just given,

    v ← v − η (∇F(v) + λ (v − w))

and has no influence on what is sent. `fine_tuned_head` trains the last layer alone, from the last global model, as the
local half of Collins et al. 2021 (FedRep, arXiv 2102.07078) does with its head.

Both are trained on the site's patients without noise and without a charge, under any privacy, because nothing about
them leaves: no update, no histogram, no error (it goes to the operator's log; the answer is what it would have been).
Whoever is given such a model is given something about the patients that no ε covers.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import torch
from safetensors.torch import save

from fedimg import training
from fedimg.durable import write_durably
from fedimg.heterogeneity.states import State, states_of
from fedimg.joined_site import Site
from fedimg.operator_log import tell_operator
from fedimg.privacy.calibration import EVALUATE, TRAIN
from fedimg.site_data import remaining
from fedimg.training.variation import varied_once
from fedimg.values import SiteDataset, Vector

MODEL, MEASURED = "personal.safetensors", "measured.json"


def ditto(site: Site, number: int, state: State, global_model: Vector) -> State:
    """The personal model after another round; as it was, where training fails."""
    start = state.get("personal", global_model)
    config = _own(site, proximal_mu=site.terms.training.algorithm.pull)
    return {"personal": _trained(site, number, (start, global_model), config, None)}


def fine_tuned_head(site: Site, number: int, global_model: Vector) -> Vector:
    """The global model with a head of the site's own."""
    frozen = ~training.head_of(site.network)
    return _trained(site, number, (global_model, global_model), _own(site, proximal_mu=0.0), frozen)


def _own(site: Site, proximal_mu: float) -> training.LocalTraining:
    config = site.terms.training
    own = config.algorithm
    rate = own.personal_learning_rate or config.learning_rate
    return replace(
        config, learning_rate=rate, local_epochs=own.personal_epochs, proximal_mu=proximal_mu, momentum=0.0
    )


def _trained(
    site: Site,
    number: int,
    course: tuple[Vector, Vector],
    config: training.LocalTraining,
    frozen: training.Mask | None,
) -> Vector:
    start, anchor = (torch.from_numpy(vector.astype(np.float32)).to(site.device) for vector in course)
    try:
        entropy = site.terms.entropy(site.name, f"round-{number}", "personal")
        data = _with_classes(remaining(site.data.train, site.roll, TRAIN), site)
        varied = varied_once(data, site.terms.imaging.varied, entropy)
        network = training.Frozen.within(site.network, start, frozen)
        after = training.train_along(
            network, training.Course(start, anchor), varied, config, entropy, site.loss
        )
        found: Vector = after.double().cpu().numpy()
        if not np.isfinite(found).all():
            raise ArithmeticError(
                "a personal model that diverged; lower training.algorithm.personal_learning_rate"
            )
    except Exception as fault:  # noqa: BLE001 - whatever it is, it may not show in what the site answers
        tell_operator(site.home.root, "the personal model, left as it was", fault)
        return course[0]
    return found


def _with_classes(data: SiteDataset, site: Site) -> SiteDataset:
    """Without patients who have a label that is no class: on an accelerator one of them would end the process's work."""
    labels = data.labels
    if labels.is_floating_point():
        return data
    right = ((labels >= 0) & (labels < site.terms.model.classes)).flatten(1 if labels.dim() > 1 else 0)
    fine = (right.all(dim=1) if right.dim() > 1 else right).numpy()
    whole = [u for u in range(data.number_of_patients) if fine[data.images_of(u)].all()]
    return data.of_patients(np.array(whole, dtype=np.int64))


def keep(site: Site, personal: Vector, global_model: Vector) -> None:
    """Write the personal model, and how both do on the site's own held-out patients: for this site alone."""
    folder = states_of(site.home, site.terms.run_id).folder
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        write_durably(folder / MODEL, save(site.network.state_dict(personal)))
        if site.network.task not in ("classification", "segmentation"):
            return  # of numbers and places an accuracy says nothing
        held = remaining(site.data.validation, site.roll, EVALUATE)
        measured = {
            "personal": _accuracy(site, personal, held),
            "global": _accuracy(site, global_model, held),
        }
        write_durably(folder / MEASURED, json.dumps(measured, indent=1) + "\n")
    except Exception as fault:  # noqa: BLE001 - the same
        tell_operator(site.home.root, "keeping the personal model", fault)


def _accuracy(site: Site, vector: Vector, held: SiteDataset) -> dict[str, float | int | None]:
    """Share of images that are called right; None without any."""
    called = site.network.probabilities(vector, held.images, site.device).argmax(axis=1)
    right = called == held.labels.numpy()
    return {"images": len(right), "accuracy": float(right.mean()) if len(right) else None}
