"""Federations of quadratic losses, whose optimum and FedAvg's bias are known, through the steps of any run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from fedimg import client_round
from fedimg.config import compose
from fedimg.coordination import rounds
from fedimg.coordination.rounds import Carrier
from fedimg.coordination.terms import terms_of
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.models import Layout, Network, build_model
from fedimg.models.centring import half_square
from fedimg.run_sums import sums_of
from fedimg.simulation import engines, provisioning, virtual
from fedimg.site_data import Loaded
from fedimg.terms import Terms
from fedimg.values import SiteDataset

BASE = (
    "compare=false",
    "evaluation.bootstrap=0",
    "audit.battery=false",
    "audit.empirical=false",
    "imaging.image_size=[16,16]",
    "model=cnn",
    "model.width=4",
    "training.batch_size=1000",
    "privacy.delta=1e-3",
    "aggregation=fedavg",
)


class Quadratic(nn.Module):
    """An image is curvatures a and minima b, (1, 2, d); half the square of what is returned is ½ Σ a (θ − b)²."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))

    def forward(self, images):
        return images[:, 0, 0].sqrt() * (self.theta - images[:, 0, 1])


def quadratic_network(size):
    module = Quadratic(size)
    shape = (1, 2, size)
    return Network(
        "quadratic", Layout.of(module), np.zeros(size), shape, shape, None,
        "classification", (0.0, 1.0), (), False, False, 0, "q", module, False,
    )  # fmt: skip


def patients_of(images, labels=None):
    """One image a patient."""
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    names = tuple(f"p{n:04d}" for n in range(len(images)))
    return SiteDataset(images, labels, names, np.arange(len(images) + 1, dtype=np.int64))


def quadratic_site(a, b, patients):
    """Everybody at a site has the same loss, so that its gradient is everybody's."""
    row = torch.tensor(np.stack([a, b]), dtype=torch.float32)[None, None]
    return patients_of(row.repeat(patients, 1, 1, 1))


@dataclass
class Federation:
    """Homes below a folder; `train` runs from the newest checkpoint, as a coordinator that was restarted does."""

    config: object
    terms: object
    network: Network
    sites: dict
    server: object

    def exchange(self, outgoing):
        return engines.in_turn(list(self.sites.values()))(outgoing)

    def train(self, exchange=None, **how):
        names = tuple(self.sites)
        carrier = Carrier(exchange or self.exchange)
        return rounds.run_rounds(self.server, names, carrier, self.config, self.terms, **how)

    def state(self, name, number):
        from fedimg.heterogeneity import states_of

        return states_of(self.sites[name].home, self.terms.run_id).after(number)


@pytest.fixture
def federation(tmp_path, monkeypatch):
    made = []

    def make(parts, *overrides, network=None, loss=None, held=None, folder="homes", run="run", declared=None):
        config = compose([*BASE, f"sites={len(parts)}", *overrides])
        terms = terms_of(config, run)
        if network is not None:
            monkeypatch.setattr(client_round, "build_model", lambda *_: network)
        if loss is not None:
            monkeypatch.setattr(Terms, "loss", lambda *_: loss)
        network = network or build_model(terms.model, terms.seed)
        root = tmp_path / folder
        declared = declared or {name: len(part.labels) for name, part in parts.items()}
        homes = {
            name: virtual.make_scratch_home(root / name, name, declared[name], config, terms.privacy)
            for name in parts
        }
        for home in homes.values():
            text = home.policy.read_text().replace("min_patients: 20", "min_patients: 1")
            home.policy.write_text(text)
        roster = provisioning.provisioned(root, sorted(parts), config)
        sites = {}
        for name, part in parts.items():
            keys = LedgerKeys(homes[name].site_key)
            own = {unit: keys.of_unit(unit) for unit in part.patient_keys}
            apart = held[name] if held else part.of_patients(np.zeros(0, np.int64))
            data = Loaded(part, apart, Counter(), 0.0, own)
            sites[name] = client_round.join(homes[name], name, terms, torch.device("cpu"), data)
        weights = {name: float(declared[name]) for name in parts}
        server = rounds.make_server(config, terms, network, weights, None)
        if config.secagg.name == "pairwise":
            server.sums = sums_of(terms, roster, terms.update_size(network))
        made.extend(sites.values())
        return Federation(config, terms, network, sites, server)

    yield make
    for site in made:
        if site.ledger is not None:
            site.ledger.disconnect()


@pytest.fixture
def quadratics(federation):
    """(a, b) by site, a row a coordinate; weights are numbers of patients."""

    def make(a, b, weights, *overrides, **how):
        names = [f"site-{k}" for k in range(len(a))]
        parts = {n: quadratic_site(a[k], b[k], weights[k]) for k, n in enumerate(names)}
        network = quadratic_network(len(a[0]))
        return federation(
            parts, "privacy=none", "secagg=none", *overrides, network=network, loss=half_square, **how
        )

    return make


__all__ = ["replace"]
