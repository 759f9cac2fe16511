"""Which bundles are registered: those of this coordinator's own finished runs, whole, and no others."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from fedimg import canonical, record
from fedimg.crypto.keys import SigningKey
from fedimg.errors import DataError
from fedimg.record.schema import RECORD_FORMAT
from server.federation_folder import FederationFolder
from server.model_admission import admitted
from server.registry import Registry, Stage
from tests.bundle.conftest import POINT, described
from tests.server.conftest import FINISHED, NAMES, RUNNING
from tests.server.releasing import COORDINATOR, RELEASE_KEY

KEYS = [RELEASE_KEY.public_bytes]


@pytest.fixture
def net(made, run_once):
    run_once.put_into(made.root)
    return FederationFolder(made.root)


@pytest.fixture
def parsed(monkeypatch):
    """What was parsed as JSON."""
    seen = []
    plain = canonical.decode
    monkeypatch.setattr(canonical, "decode", lambda data, what: seen.append(what) or plain(data, what))
    return seen


def test_a_bundle_of_an_own_run_is_admitted_with_what_it_and_the_record_say(net, run_once, tmp_path):
    facts = admitted(net, run_once.bundle(tmp_path / "b"), KEYS)
    assert (facts.name, facts.version, facts.run) == ("nodule", "1.0.0", FINISHED)
    assert facts.signer == RELEASE_KEY.public_bytes.hex()
    assert (facts.threshold, facts.point) == (0.25, POINT)
    assert [one.code.meaning for one in facts.findings] == ["Nodule"]
    assert facts.weights == record.weights_digest(run_once.tensors)
    assert facts.remarks == ()
    claim = json.loads(run_once.record)["record"]["claim"]
    assert (facts.guarantee.epsilon, facts.guarantee.delta) == (claim["epsilon"], claim["delta"])
    assert [one.site for one in facts.sites] == sorted(NAMES[:3])
    for one in facts.sites:
        assert one.signed
        assert 0 < one.epsilon <= 3.0
        assert one.epsilon <= one.allowed  # a ledger has room for what it was charged
        assert one.earlier_runs == 0


def test_a_bundle_without_a_record_is_compared_with_the_runs_own_and_says_so(net, run_once, tmp_path):
    facts = admitted(net, run_once.bundle(tmp_path / "b", carried=b""), KEYS)
    assert facts.remarks == ("the bundle carries no release record; it was compared with the run's own",)


def test_a_simulated_run_is_remarked_on(net, run_once, tmp_path):
    """Its record is sound, and its coordinator's own; what it is worth is for people to say."""
    document = json.loads(run_once.record)
    document["record"]["simulated"] = True
    document["signature"] = canonical.sign(document["record"], COORDINATOR, RECORD_FORMAT)
    simulated = replace(run_once, record=json.dumps(document).encode())
    simulated.put_into(net.root)
    facts = admitted(net, simulated.bundle(tmp_path / "b"), KEYS)
    assert facts.remarks == ("the run was simulated: the keys of all its sites were in one hand",)


def test_another_signer_is_refused_before_anything_is_parsed(net, run_once, tmp_path, parsed):
    bundle = run_once.bundle(tmp_path / "b", key=SigningKey.from_bytes(os.urandom(32)))
    parsed.clear()
    with pytest.raises(DataError, match="a key that is trusted here"):
        admitted(net, bundle, KEYS)
    assert parsed == []


@pytest.mark.parametrize(
    "file", ["configs/metadata.json", "models/model.pt2", "docs/record.json", "configs/inference.json"]
)
def test_a_file_that_was_tampered_with_is_refused(net, run_once, tmp_path, file, parsed):
    bundle = run_once.bundle(tmp_path / "b")
    data = bytearray((bundle / file).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / file).write_bytes(data)
    parsed.clear()
    with pytest.raises(DataError, match="every file as it was signed"):
        admitted(net, bundle, KEYS)
    assert parsed == ["bundle's manifest"]


@pytest.mark.parametrize("run", ["20990101-000000-ffff", "../..", RUNNING])
def test_another_run_is_refused(net, run_once, tmp_path, run):
    """None of this federation's, a name that would leave the folder, or one that has not finished."""
    expected = "a run that is finished" if run == RUNNING else "a run of this federation"
    with pytest.raises(DataError, match=expected):
        admitted(net, run_once.bundle(tmp_path / "b", run=run), KEYS)


def test_a_run_of_another_name_with_this_ones_record_is_refused(net, run_once, tmp_path):
    other = "20260130-120000-77ff"
    shutil.copytree(net.root / "runs" / FINISHED, net.root / "runs" / other)
    with Registry(net.root) as registry:
        registry.add(other, 40)
        registry.move(other, Stage.FINISHED, "", 40)
    with pytest.raises(DataError, match="the record of the bundle's run"):
        admitted(net, run_once.bundle(tmp_path / "b", run=other), KEYS)


def test_another_federations_run_of_the_same_name_is_refused(net, run_once, tmp_path):
    """Its coordinator signed another record: here it is not believed, whoever sealed the bundle."""
    document = json.loads(run_once.record)
    stranger = SigningKey.from_bytes(os.urandom(32))
    document["key"] = stranger.public_bytes.hex()
    document["signature"] = canonical.sign(document["record"], stranger, RECORD_FORMAT)
    foreign = json.dumps(document).encode()
    with pytest.raises(DataError, match="a bundle that carries its run's release record"):
        admitted(net, run_once.bundle(tmp_path / "b", carried=foreign), KEYS)
    # and where somebody has put that record into this folder, too
    (net.root / "runs" / FINISHED / record.FILE).write_bytes(foreign)
    with pytest.raises(DataError, match="one that fails coordinator: key"):
        admitted(net, run_once.bundle(tmp_path / "c", carried=foreign), KEYS)


def test_a_federation_that_was_never_asked_for_a_run_has_none(made, run_once, tmp_path):
    run_once.put_into(made.root)
    for file in made.root.glob("runs.sqlite*"):
        file.unlink()
    with pytest.raises(DataError, match="a run of this federation"):
        admitted(FederationFolder(made.root), run_once.bundle(tmp_path / "b"), KEYS)
    assert not (made.root / "runs.sqlite").exists()


def test_weights_that_only_say_they_are_the_runs_are_refused(net, run_once, tmp_path):
    """The metadata names the record's digest; the network in the bundle is another one."""
    from fedimg.models import ModelConfig, build_model

    network = build_model(ModelConfig(name="cnn", width=4, image_size=(24, 20)), 4)
    liar = replace(run_once, described=described(network, vector=network.initial + 0.1))
    with pytest.raises(DataError, match="a network with the weights that the release record names"):
        admitted(net, liar.bundle(tmp_path / "b"), KEYS)


@pytest.mark.parametrize("said", [{"weights": "00" * 32}, {"architecture": "00" * 32}])
def test_metadata_that_names_others_is_refused(net, run_once, tmp_path, said):
    with pytest.raises(DataError, match="weights and network that the release record names"):
        admitted(net, run_once.bundle(tmp_path / "b", **said), KEYS)


def test_a_run_whose_weights_or_record_were_changed_is_refused(net, run_once, tmp_path):
    bundle, path = run_once.bundle(tmp_path / "b"), net.root / "runs" / FINISHED
    save_file(
        {name: torch.zeros_like(one) for name, one in run_once.tensors.items()}, path / record.MODEL_FILE
    )
    with pytest.raises(DataError, match="one that fails model"):
        admitted(net, bundle, KEYS)
    (path / record.MODEL_FILE).unlink()
    with pytest.raises(DataError, match="a model as a safetensors file"):
        admitted(net, bundle, KEYS)
    run_once.put_into(net.root)
    (path / record.FILE).write_bytes(run_once.record.replace(b'"rounds": 3', b'"rounds": 4'))
    with pytest.raises(DataError, match="one that fails coordinator's signature"):
        admitted(net, bundle, KEYS)
    (path / record.FILE).unlink()
    with pytest.raises(DataError, match=r"a run with its record\.json"):
        admitted(net, bundle, KEYS)


def test_without_the_coordinators_key_nothing_is_vouched_for(net, run_once, tmp_path):
    (net.root / "coordinator.key").unlink()
    with pytest.raises(DataError, match="the coordinator's key"):
        admitted(net, run_once.bundle(tmp_path / "b"), KEYS)
    assert not (net.root / "coordinator.key").exists()


def test_what_is_no_bundle_is_refused(net, tmp_path):
    with pytest.raises(DataError):
        admitted(net, tmp_path, KEYS)
