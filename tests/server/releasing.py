"""A finished run of the made-up federation with a real record, weights and key, and bundles of it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, replace

from safetensors.torch import save_file

from fedimg import record
from fedimg.bundle import seal
from fedimg.bundle.contents import Described, contents
from fedimg.crypto.keys import SigningKey
from fedimg.home import SiteHome
from fedimg.intake import commitment
from fedimg.models import ModelConfig, build_model
from fedimg.privacy.plan import make_plan, scratch_ledger
from server.federation_folder import FederationFolder
from server.model_admission import COORDINATOR_KEY, admitted
from tests.bundle.conftest import described
from tests.record.conftest import POLICY, REQUEST, run_facts
from tests.server.conftest import FINISHED, NAMES

RELEASE_KEY = SigningKey.from_bytes(bytes(range(32)))
COORDINATOR = SigningKey.from_bytes(bytes(range(1, 33)))


def signed_part(home, name, run):
    """Of a site whose ledger was charged for a whole run."""
    ledger = scratch_ledger(home.ledger, home.signing_key, REQUEST, POLICY)
    plan = make_plan(REQUEST, POLICY, ledger)
    ledger.reserve(run, plan)
    for kind, count in (("train", 3), ("evaluate", 1)):
        for _ in range(count):
            ledger.charge(plan.digest, kind)
    ledger.disconnect()
    facts = record.SiteFacts(run, name, "ab" * 32, plan, "patient", False, commitment(home, run))
    return record.signed_part(home, facts)


@dataclass
class Run:
    """What a finished run leaves: its record (bytes), weights, and what a bundle of it holds."""

    record: bytes
    tensors: dict
    described: Described

    def bundle(self, folder, key=RELEASE_KEY, carried=None, **said):
        """A bundle in a new folder. `carried`: the record in it, the run's own where none is given, b"": none."""
        own = {"weights": record.weights_digest(self.tensors), "run": FINISHED}
        inside = self.record if carried is None else carried or None
        whole = replace(self.described, said=replace(self.described.said, **own | said), record=inside)
        seal(folder, contents(whole), key)
        return folder

    def put_into(self, root, key=COORDINATOR):
        """Beside the run's other files, in a federation's folder."""
        save_file(self.tensors, root / "runs" / FINISHED / record.MODEL_FILE)
        (root / "runs" / FINISHED / record.FILE).write_bytes(self.record)
        (root / COORDINATOR_KEY).write_bytes(key._secret)
        (root / COORDINATOR_KEY).chmod(0o600)


def made_run(root, names=NAMES[:3]):
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(24, 20)), 3)
    tensors = network.state_dict(network.initial)
    parts = []
    for name in names:
        home = SiteHome.create(root / name, simulated=True)
        parts.append(signed_part(home, name, FINISHED))
    model = record.ModelFacts(
        "cnn", network.number_of_parameters, network.digest, record.weights_digest(tensors)
    )
    facts = run_facts(run=FINISHED, model=model, simulated=False)
    return Run(record.signed_record(facts, parts, COORDINATOR), tensors, described(network))


def admitted_facts(run, net, root):
    """Of version 1.0.0, as it is registered in a copy of `net`."""
    shutil.copytree(net, root / "net")
    run.put_into(root / "net")
    bundle = run.bundle(root / "nodule-1.0.0")
    return admitted(FederationFolder(root / "net"), bundle, [RELEASE_KEY.public_bytes])


def version(facts, text, **changes):
    """The same model under another version, and so with another digest."""
    digest = hashlib.sha256(f"{facts.name} {text}".encode()).hexdigest()
    return replace(facts, version=text, digest=digest, **changes)
