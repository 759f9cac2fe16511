"""A bundle → what is registered of it, once it was found to be of this coordinator's own run.

In this order, and the first that fails refuses: the signature, with a key that a person has named; every file by its
digest; what the bundle says; that the run is one of this federation's and finished; the run's release record, with the
coordinator's own key, and the weights beside it; that the bundle carries that very record; that the network in the bundle
has the record's weights, and gives the floats that it was released with.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedimg import record
from fedimg.bundle import Metadata, Opened, open_sealed, read_metadata
from fedimg.bundle.contents import RECORD
from fedimg.bundle.running import released_network
from fedimg.crypto.keys import SigningKey
from fedimg.errors import DataError
from fedimg.record import Evidence, weights_digest
from fedimg.record.model import weights_of_file
from server.federation_folder import RUNS, FederationFolder
from server.model_facts import ModelFacts, facts_of
from server.registry import FILE as RUNS_FILE
from server.registry import Registry, Stage

COORDINATOR_KEY = "coordinator.key"
_REMEDY = "register the bundle that `fedimg bundle make` made of this federation's run"
_PREFIX = "network."  # of the trained parameters' names in a bundle's graph: `models.deployed`


def admitted(folder: FederationFolder, bundle: Path, trusted: Collection[bytes]) -> ModelFacts:
    """Raises DataError for a bundle that is not to be registered here, and says why."""
    opened = open_sealed(bundle, trusted)
    said = read_metadata(opened)
    path = _finished(folder, said.run)
    signed = _own_record(path, coordinator_key(folder.root))
    stated = record.read(signed)["record"]
    if stated["run"] != said.run:
        raise DataError("the record of the bundle's run", "another run's", _REMEDY)
    remarks = (*_carried(opened, signed), *_own_words(stated))
    _agree(opened, said, stated["model"], path / record.MODEL_FILE)
    return facts_of(said, opened.digest, opened.signer, stated, remarks)


def coordinator_key(root: Path) -> SigningKey:
    """That signs release records and lists of models. Raises DataError where there is none yet."""
    path = root / COORDINATOR_KEY
    if not path.exists():
        remedy = "it is made when the server starts for the first time; restore it where it was lost"
        raise DataError("the coordinator's key", "none", remedy)
    return SigningKey.load(path)


def _finished(folder: FederationFolder, run: str) -> Path:
    """The run's folder. Raises DataError for one that is none of this federation's, or has not finished."""
    if not (folder.root / RUNS_FILE).exists():
        raise DataError("a run of this federation", "one of another, or none", _REMEDY)
    with Registry(folder.root) as registry:
        found = {entry.run: entry.stage for entry in registry.all()}
    if run not in found:
        raise DataError("a run of this federation", "one of another, or none", _REMEDY)
    if found[run] is not Stage.FINISHED:
        raise DataError("a run that is finished", f"one that is {found[run]}", _REMEDY)
    return folder.root / RUNS / run


def _own_record(path: Path, key: SigningKey) -> bytes:
    """The run's release record, verified, as bytes. Raises DataError."""
    model = path / record.MODEL_FILE
    try:
        data = (path / record.FILE).read_bytes()
    except OSError as fault:
        found = fault.strerror or "an unreadable file"
        remedy = "a run without one was made by another release of fedimg"
        raise DataError(f"a run with its {record.FILE}", found, remedy) from None
    evidence = Evidence({"coordinator": key.public_bytes.hex()}, model=model if model.is_file() else None)
    checked = record.verify(data, evidence)
    if not checked.passed:
        failed = ", ".join(check.name for check in checked.failures)
        expected = "a run whose release record holds together"
        raise DataError(expected, f"one that fails {failed}", "see `fedimg verify` of the run's folder")
    return data


def _carried(opened: Opened, signed: bytes) -> tuple[str, ...]:
    """What is to be remarked on the record that the bundle carries. Raises DataError for another than the run's."""
    if RECORD not in opened.files:
        return ("the bundle carries no release record; it was compared with the run's own",)
    if opened.files[RECORD] != signed:
        raise DataError("a bundle that carries its run's release record", "another record", _REMEDY)
    return ()


def _own_words(stated: Mapping[str, Any]) -> Iterator[str]:
    """What a record says of itself that whoever decides on a release has to know."""
    if stated["simulated"]:
        yield "the run was simulated: the keys of all its sites were in one hand"
    if stated["insecure_test_mode"]:
        yield "the run was in the insecure test mode: its noise came from a seed"


def _agree(opened: Opened, said: Metadata, stated: Mapping[str, Any], file: Path) -> None:
    """Raises DataError unless metadata and network have the weights and architecture that the record names."""
    if (said.weights, said.architecture) != (stated["weights"], stated["architecture"]):
        raise DataError("weights and network that the release record names", "others", _REMEDY)
    names = weights_of_file(file)[0].keys()
    state = released_network(opened).module.state_dict()
    trained = {name: state[_PREFIX + name] for name in names if _PREFIX + name in state}
    if weights_digest(trained) != stated["weights"]:
        raise DataError("a network with the weights that the release record names", "other weights", _REMEDY)
