"""What is kept of a released model: what its bundle says, and what its run's signed record promises, site by site."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedimg.bundle import Finding, Metadata, Point
from fedimg.config import strict
from fedimg.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class SitePrivacy:
    """A site's part of the record.

    Attributes:
        epsilon, delta: what this run may cost one of its patients; None where nothing is promised.
        allowed, allowed_delta: what its ledger allows all runs ever; None where the site has not said.
        earlier_runs: that its ledger held before this one. signed: by the site itself.
    """

    site: str
    epsilon: float | None
    delta: float | None
    allowed: float | None
    allowed_delta: float | None
    earlier_runs: int | None
    signed: bool


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The promise to one patient of the federation.

    Attributes:
        sites: at how many a patient may be, at most. epsilon, delta: over all of them; None where nothing is promised.
    """

    mode: str
    unit: str
    sites: int
    epsilon: float | None
    delta: float | None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A released model.

    Attributes:
        digest: SHA-256 of the bundle's manifest. signer: public key of who sealed the bundle, hex.
        run: that it comes from. trained: when that run's record was made, as the record writes it.
        findings: what a call says, in codes. point: what the threshold promises; None where nothing.
        weights, architecture: digests, as in the release record.
        remarks: what could not be checked when it was registered.
    """

    name: str
    version: str
    digest: str
    signer: str
    run: str
    trained: str
    description: str
    task: str
    kind: str
    findings: tuple[Finding, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    threshold: float | None
    point: Point | None
    guarantee: Guarantee
    sites: tuple[SitePrivacy, ...]
    weights: str
    architecture: str
    remarks: tuple[str, ...] = ()

    def to_text(self) -> str:
        return json.dumps(asdict(self), allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> ModelFacts:
        """Raises DataError for what `to_text` has not written."""
        try:
            found = json.loads(text)
            return strict.build(cls, found)
        except (ConfigError, DataError, ValueError, TypeError, RecursionError):
            remedy = "restore the registry of models from its backup"
            raise DataError("a model as it was registered", "another form", remedy) from None


def facts_of(
    said: Metadata, digest: str, signer: bytes, record: Mapping[str, Any], remarks: tuple[str, ...]
) -> ModelFacts:
    """Of a bundle and a release record that were verified, and agree."""
    claim = record["claim"]
    promised = claim["private"]
    return ModelFacts(
        name=said.name,
        version=said.version,
        digest=digest,
        signer=signer.hex(),
        run=said.run,
        trained=record["created"],
        description=said.description,
        task=said.task,
        kind=said.kind,
        findings=said.findings,
        modalities=said.modalities,
        body_parts=said.body_parts,
        threshold=said.threshold,
        point=said.operating_point,
        guarantee=Guarantee(
            claim["mode"],
            claim["unit"],
            claim["max_sites_per_patient"],
            claim["epsilon"] if promised else None,
            claim["delta"] if promised else None,
        ),
        sites=tuple(_site(signed) for signed in record["sites"]),
        weights=said.weights,
        architecture=said.architecture,
        remarks=remarks,
    )


def _site(signed: Mapping[str, Any]) -> SitePrivacy:
    part = signed["part"]
    claim, ledger = part["claim"], part["ledger"]
    promised = claim["private"]
    return SitePrivacy(
        part["site"],
        claim["epsilon"] if promised else None,
        claim["delta"] if promised else None,
        None if ledger is None else ledger["epsilon_max"],
        None if ledger is None else ledger["delta"],
        None if ledger is None else ledger["earlier_runs"],
        signed["signature"] is not None,
    )
