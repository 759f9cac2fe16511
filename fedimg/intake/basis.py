"""What every release of a run rests on, as its receipts name it: table, project, key, software."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Self

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.profile import Profile
from fedimg.dicom.receipt import Receipt
from fedimg.errors import ConfigError, ReceiptError
from fedimg.intake.task import Outcome
from fedimg.values import Quarantine, SourceItem

# How links and pixel digests are made: an input named otherwise would be taken for another one.
LINKS = "2"


def key_digest(site_key: SiteKey) -> str:
    """Which key it was, without a way back to it: a custodian finds the right one by this."""
    return site_key.derive("key-digest", project="").hex()[:16]


@dataclass(frozen=True, slots=True)
class Basis:
    """Attributes: profile: name, digest, edition. origin: project, key digest, the way of making links, and
    the pixel layers if some were left out. versions: of software.
    """

    profile: Mapping[str, Any]
    origin: Mapping[str, str]
    versions: Mapping[str, str]

    @classmethod
    def of(cls, profile: Profile, project: str, site_key: SiteKey, layers: str = "all") -> Self:
        return cls(
            {"name": profile.name, "digest": profile.digest, "edition": profile.edition},
            {"project": project, "key": key_digest(site_key), "links": LINKS}
            | ({} if layers == "all" else {"layers": layers}),
            {name: version(name) for name in ("fedimg", "pydicom")},
        )

    def check(self, receipt: Receipt) -> None:
        """Raises ConfigError where a released file is of another profile, project or key than this run.

        One patient under two pseudonyms would be two units of privacy; and files of a wider profile
        would feed a training that allows a narrower one only.
        """
        if receipt.decision == "released" and receipt.origin.get("links") != LINKS:
            raise ConfigError(
                "a folder that this version filled",
                "releases whose inputs another version named in another way",
                "use another folder for new inputs; what was released stays valid",
            )
        earlier = (receipt.profile.get("name"), dict(receipt.origin))
        if receipt.decision == "released" and earlier != (self.profile["name"], dict(self.origin)):
            raise ConfigError(
                "the profile, project and key that this folder was filled under",
                "another profile, project or key",
                "set deid.profile and deid.project as they were, or use another folder",
            )

    def receipt(
        self,
        outcome: Outcome,
        item: SourceItem,
        reason: Quarantine | None,
        detail: str | None = None,
        review: Mapping[str, str] | None = None,
    ) -> Receipt:
        """The line about one outcome; `reason` None: it is released."""
        common: dict[str, Any] = {
            "position": outcome.position,
            "link": outcome.link,
            "profile": self.profile,
            "origin": self.origin,
            "versions": self.versions,
            "review": review or {},
        }
        if reason is not None:
            return Receipt(decision="quarantined", reason=reason.value, detail=detail, **common)
        return Receipt(
            decision="released",
            output=str(outcome.output),
            sha256=outcome.sha256,
            size=outcome.size,
            pixel_digest=outcome.pixel_digest,
            kind="nifti" if item.kind == "nifti" else "dicom",
            modality=outcome.modality,
            keys=outcome.keys,
            evidence=outcome.evidence,
            gate=outcome.gate,
            **common,
        )


def one_basis(receipts: Iterable[Receipt]) -> None:
    """Raises ReceiptError where released files rest on different profiles, projects or keys."""
    found = {
        (receipt.profile.get("name"), receipt.origin.get("project"), receipt.origin.get("key"))
        for receipt in receipts
        if receipt.decision == "released"
    }
    if len(found) > 1:
        raise ReceiptError(
            "released files of one profile, project and key",
            f"{len(found)} kinds",
            "take the files in again into a new home, all in the same way",
        )
