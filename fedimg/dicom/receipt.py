"""One line of the receipts: what happened to one input, in counts, keyed digests and closed codes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, Self

from fedimg.dicom.chain import REMEDY
from fedimg.errors import ReceiptError

_MAPPINGS = ("keys", "profile", "origin", "versions", "evidence", "gate", "review")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What happened to one input.

    Attributes:
        position: of the input in its run, from 0. link: keyed digest of path and content.
        decision, reason: a `Quarantine` code, or None where it was released. detail: what was
            found, in sizes, keywords and codes of the standard.
        output: keyed path below the released folder; sha256 and size of its bytes.
        pixel_digest: keyed; equal for copies of one image of one patient.
        keys: patient, study, series and instance pseudonyms of a released file.
        profile: name, digest, edition of the table. origin: project, and the key's own digest.
        versions: of software.
        evidence: counts per action, tag paths, pixel decisions. gate: needles searched, hits.
        review: of a person's decision: action, reviewer, reason code, time; else empty.
    """

    position: int
    link: str
    decision: Literal["released", "quarantined"]
    reason: str | None = None
    detail: str | None = None
    output: str | None = None
    sha256: str | None = None
    size: int | None = None
    pixel_digest: str | None = None
    kind: str | None = None
    modality: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    review: Mapping[str, str] = field(default_factory=dict)

    def to_mapping(self) -> dict[str, Any]:
        """Its fields by name; not copied."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Checked. Raises ReceiptError for fields or types that are not a receipt's."""
        optional = ("reason", "detail", "output", "sha256", "pixel_digest", "kind", "modality")
        sound = (
            set(data) == set(cls.__dataclass_fields__)
            and type(data["position"]) is int
            and isinstance(data["link"], str)
            and data["decision"] in ("released", "quarantined")
            and all(data[name] is None or isinstance(data[name], str) for name in optional)
            and all(isinstance(data[name], dict) for name in _MAPPINGS)
            and (data["decision"] == "quarantined" or _names_a_file(data))
        )
        if not sound:
            raise ReceiptError("a receipt of this format", "other fields or types", REMEDY)
        return cls(**data)


def _names_a_file(data: Mapping[str, Any]) -> bool:
    output = data["output"]
    if not isinstance(output, str) or not isinstance(data["sha256"], str):
        return False
    path = PurePosixPath(output)
    keys = data["keys"]
    return (
        not path.is_absolute()
        and ".." not in path.parts
        and _HEX.fullmatch(data["sha256"]) is not None
        and all(isinstance(keys.get(name), str) for name in ("patient", "study", "series", "instance"))
    )
