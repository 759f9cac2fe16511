"""The list of released models that sites are given: what the registry says now, signed with the coordinator's key."""

from __future__ import annotations

from datetime import datetime

from fedimg.crypto.certificates import utc_now
from fedimg.federation.released import Listed, ReleasedModels
from server.federation_folder import FederationFolder
from server.model_admission import coordinator_key
from server.model_registry import ModelRegistry, ModelState, RegisteredModel


def signed_list(folder: FederationFolder, registry: ModelRegistry, now: datetime | None = None) -> bytes:
    """Candidates are left out: they are nobody's yet. Raises DataError where the coordinator has no key."""
    issued = (now or utc_now()).replace(microsecond=0)
    models = [_listed(one) for one in registry.all() if one.state is not ModelState.CANDIDATE]
    found = ReleasedModels(folder.state().id, issued, {one.digest: one for one in models})
    return found.signed(coordinator_key(folder.root))


def _listed(one: RegisteredModel) -> Listed:
    last = one.history[-1]
    return Listed(one.facts.name, one.facts.version, one.facts.digest, last.state.value, last.at, last.why)
