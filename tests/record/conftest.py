"""Two small sites that have run to their end, and the record of it: no images, real ledgers and keys."""

import json
from dataclasses import dataclass, field

import pytest
import torch
from safetensors.torch import save_file

from fedimg import canonical, record
from fedimg.crypto.keys import SigningKey
from fedimg.home import SiteHome
from fedimg.intake import commitment
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import PrivacyRequest, make_plan, scratch_ledger
from fedimg.privacy.policy import SitePolicy
from fedimg.record.schema import PART_FORMAT, RECORD_FORMAT

RUN, TERMS = "20260131-1", "ab" * 32
REQUEST = PrivacyRequest(
    epsilon=3.0, delta=1e-4, sampling_rate=1.0, rounds=3, evaluations=1, max_sites_per_patient=2
)
POLICY = SitePolicy(100, max_sites_per_patient=2)


@dataclass
class Finished:
    """A run's end: homes, the record, ledgers and a model file. `sign` signs a changed record again."""

    root: object
    homes: dict
    coordinator: SigningKey
    data: bytes
    parts: list
    ledgers: dict = field(default_factory=dict)

    @property
    def model(self):
        return self.root / "model.safetensors"

    @property
    def document(self):
        return json.loads(self.data)

    def sign(self, document, sites=True):
        """The document as all its signers would have signed it: a lie that everybody joined in."""
        for signed in document["record"]["sites"] if sites else ():
            home = self.homes[signed["part"]["site"]]
            signed["signature"] = canonical.sign(signed["part"], home.signing_key, PART_FORMAT)
        document["signature"] = canonical.sign(document["record"], self.coordinator, RECORD_FORMAT)
        return json.dumps(document).encode()

    def evidence(self, **changes):
        return record.Evidence(**({"ledgers": self.ledgers, "model": self.model} | changes))


def tensors():
    return {"b": torch.arange(3, dtype=torch.float32), "a.weight": torch.ones(2, 2)}


@pytest.fixture(scope="session")
def site_at(tmp_path_factory):
    """A home whose ledger was charged for a whole run."""

    def make(name):
        home = SiteHome.create(tmp_path_factory.mktemp(name) / name, simulated=True)
        ledger = scratch_ledger(home.ledger, home.signing_key, REQUEST, POLICY)
        plan = make_plan(REQUEST, POLICY, ledger)
        ledger.reserve(RUN, plan)
        for release, count in (("train", 3), ("evaluate", 1)):
            for _ in range(count):
                ledger.charge(plan.digest, release)
        ledger.disconnect()
        return home, plan

    return make


def facts(name, home, plan, **changes):
    values = {
        "run": RUN,
        "site": name,
        "terms": TERMS,
        "plan": plan,
        "unit": "patient",
        "insecure": False,
        "receipts": commitment(home, RUN),
    }
    return record.SiteFacts(**(values | changes))


def run_facts(**changes):
    model = record.ModelFacts("cnn", 7, "cd" * 32, record.weights_digest(tensors()))
    values = {
        "run": RUN,
        "mode": "per_site",
        "unit": "patient",
        "insecure": False,
        "simulated": True,
        "max_sites_per_patient": 2,
        "terms": TERMS,
        "rounds": 3,
        "secagg": None,
        "model": model,
        "audits": ({"audit": "battery", "verdict": "pass", "seconds": 1.5, "bounds": [0.1, 2]},),
    }
    return record.RunFacts(**(values | changes))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, site_at):
    root = tmp_path_factory.mktemp("run")
    coordinator = SigningKey.create(root / "coordinator.key")
    sites = {name: site_at(name) for name in ("alder", "birch")}
    parts = [record.signed_part(home, facts(name, home, plan)) for name, (home, plan) in sites.items()]
    save_file(tensors(), root / "model.safetensors")
    data = record.signed_record(run_facts(), parts, coordinator)
    made = Finished(root, {name: home for name, (home, _) in sites.items()}, coordinator, data, parts)
    for name, home in made.homes.items():
        ledger = Ledger.open(home.ledger, home.signing_key)
        ledger.close(RUN)
        made.ledgers[name] = ledger.extract()
        ledger.disconnect()
    return made
