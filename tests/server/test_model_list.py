"""The list that sites are given: what the registry says, with the coordinator's own key."""

from datetime import UTC, datetime

import pytest

from fedimg.errors import DataError
from fedimg.federation.released import ReleasedModels
from server.federation_folder import FederationFolder
from server.model_list import signed_list
from server.model_registry import ModelRegistry
from tests.server.releasing import COORDINATOR, version

NOW = datetime(2026, 2, 1, 12, 0, 5, tzinfo=UTC)


def test_candidates_are_nobodys_yet_and_all_others_stand_in_it(made, run_once, facts_once):
    run_once.put_into(made.root)
    known = [version(facts_once, str(number)) for number in range(4)]
    with ModelRegistry(made.root) as registry:
        for facts in known:
            registry.add(facts, "ada")
        for facts in known[:3]:
            registry.release(facts.digest, "ada")
        registry.withdraw(known[0].digest, "ada", "why")
        data = signed_list(FederationFolder(made.root), registry, NOW)
    found = ReleasedModels.read(data, COORDINATOR.public_bytes, NOW)
    assert (found.federation, found.issued) == (made.federation.state().id, NOW)
    said = {one.version: (one.standing, one.why) for one in found.models.values()}
    assert said == {
        "0": ("withdrawn", "why"),
        "1": ("superseded", "version 2 was released"),
        "2": ("released", ""),
    }
    assert set(found.models) == {facts.digest for facts in known[:3]}


def test_without_the_coordinators_key_there_is_none(made):
    with ModelRegistry(made.root) as registry, pytest.raises(DataError, match="the coordinator's key"):
        signed_list(FederationFolder(made.root), registry)
