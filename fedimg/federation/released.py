"""Which models a federation has released, superseded and withdrawn, signed by its coordinator: for sites that run them.

A site hears of a withdrawal only if it is told, and whoever carries the file might hold it back or bring an old one. So
the list says when it was issued, a later one takes the place of an earlier one and never the other way round, and what
was once withdrawn stays so in every later list (`follows`). Signed with the key that signs release records, under a
domain of its own. It holds names, digests and words of the coordinator's, nothing of a run or a site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from fedimg import canonical
from fedimg.crypto.certificates import CLOCKS_APART
from fedimg.crypto.keys import SigningKey, is_identity
from fedimg.errors import DataError
from fedimg.federation.request import TIME

FORMAT: Final = "fedimg-released-models-1"
STANDINGS: Final = ("released", "superseded", "withdrawn")
MOST_MODELS: Final = 10_000
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_FEDERATION: Final = re.compile(r"[0-9a-f]{32}")
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_WHY: Final = re.compile(r"[^\x00-\x1f\x7f]{0,500}")
_REMEDY: Final = "ask the coordinator for a list as `fedimg server models export` writes it"


@dataclass(frozen=True, slots=True)
class Listed:
    """A model. `digest`: of its bundle's manifest, hex. `since`: when it came to this standing, UTC. `why`: in words."""

    name: str
    version: str
    digest: str
    standing: str
    since: str
    why: str

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS: Final = ("name", "version", "digest", "standing", "since", "why")


@dataclass(frozen=True, slots=True)
class ReleasedModels:
    """Attributes:
    federation: its id. issued: UTC, whole seconds. models: by the bundle's digest.
    """

    federation: str
    issued: datetime
    models: Mapping[str, Listed]

    def signed(self, key: SigningKey) -> bytes:
        """The list as a file. Raises DataError where its readers would refuse it."""
        body = {
            "format": FORMAT,
            "federation": self.federation,
            "issued": self.issued.strftime(TIME),
            "models": [one.to_json() for one in self.models.values()],
        }
        signature = canonical.sign(body, key, FORMAT)
        written = canonical.encode({"list": body, "key": key.public_bytes.hex(), "signature": signature})
        self.read(written, key.public_bytes, self.issued)
        return written + b"\n"

    @classmethod
    def read(cls, data: bytes, key: bytes, now: datetime | None) -> Self:
        """Raises DataError for anything but a list that this key has signed.

        Args:
            key: the coordinator's, 32 bytes, known from elsewhere. now: the list is of the past then; None for what was
                read before, and kept.
        """
        document = canonical.decode(data, "list of models")
        if not isinstance(document, dict) or set(document) != {"list", "key", "signature"}:
            raise DataError("a list of released models", "another document", _REMEDY)
        body, signer, signature = document["list"], document["key"], document["signature"]
        own = isinstance(signer, str) and isinstance(signature, str) and signer == key.hex()
        if not own or not is_identity(key):
            remedy = "compare the key with the coordinator's, by a way that cannot be forged"
            raise DataError("a list that the pinned key has signed", "another key's", remedy)
        if not canonical.signed_by(body, signer, signature, FORMAT):
            raise DataError("a list as the coordinator signed it", "another one", _REMEDY)
        try:
            found = cls(*_read(body))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(f"a list of format {FORMAT}", "another form", _REMEDY) from None
        if now is not None and found.issued > now + CLOCKS_APART:
            raise DataError("a list of the past", "one of the future", "set this machine's clock")
        return found

    def check_follows(self, earlier: Self) -> None:
        """Raises DataError where this list may not take the place of one that was accepted before."""
        if self.federation != earlier.federation:
            raise DataError("a list of the same federation", "another's", _REMEDY)
        if self.issued < earlier.issued:
            raise DataError(
                f"a list issued on {earlier.issued:%Y-%m-%d %H:%M:%S} UTC or later", "an earlier one", _REMEDY
            )
        gone = {digest for digest, one in earlier.models.items() if one.standing == "withdrawn"}
        if any(digest not in self.models or self.models[digest].standing != "withdrawn" for digest in gone):
            raise DataError(
                "a list in which what was withdrawn stays so",
                "one that takes a withdrawal back",
                "ask the coordinator: its registry may have been restored from before the withdrawal",
            )


def _read(body: Any) -> tuple[str, datetime, dict[str, Listed]]:
    """Raises ValueError, TypeError, KeyError or AttributeError for another form."""
    if set(body) != {"format", "federation", "issued", "models"} or body["format"] != FORMAT:
        raise ValueError
    if not isinstance(body["models"], list) or len(body["models"]) > MOST_MODELS:
        raise ValueError
    if not _FEDERATION.fullmatch(body["federation"]):
        raise ValueError
    models = [_listed(one) for one in body["models"]]
    by_digest = {one.digest: one for one in models}
    if len(by_digest) < len(models) or len({(one.name, one.version) for one in models}) < len(models):
        raise ValueError
    return body["federation"], _moment(body["issued"]), by_digest


def _listed(found: Any) -> Listed:
    if set(found) != set(_FIELDS):
        raise ValueError
    one = Listed(**found)
    forms = ((one.name, _TEXT), (one.version, _TEXT), (one.digest, _HEX), (one.why, _WHY))
    if not all(form.fullmatch(value) for value, form in forms) or one.standing not in STANDINGS:
        raise ValueError
    _moment(one.since)
    return one


def _moment(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)
