"""Who may be in a secure sum, as each site has pinned it: names, identities, public weights.

The file lies in the site's home and is written when the site is provisioned, never by a coordinator. Its digest is
part of every plan, so that sites which have pinned others do not add up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedimg.crypto.keys import is_identity
from fedimg.durable import write_durably
from fedimg.errors import ConfigError, PolicyRefused
from fedimg.federation.manifest import Member

_FIELDS = {"identity", "weight"}


@dataclass(frozen=True, slots=True)
class Roster:
    """`identities`: name → Ed25519 public key. `weights`: name → the site's public weight in a mean, positive."""

    identities: Mapping[str, bytes]
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        sound = all(w > 0 for w in self.weights.values()) and all(map(is_identity, self.identities.values()))
        if set(self.identities) != set(self.weights) or not sound:
            raise ConfigError(
                "a roster with a key and a positive weight for each site",
                "another",
                "provision the sites again",
            )

    @classmethod
    def of(cls, members: Mapping[str, Member]) -> Roster:
        """The members of a federation, each with its declared number of patients."""
        return cls(
            {name: member.identity for name, member in members.items()},
            {name: float(member.weight) for name, member in members.items()},
        )

    def share(self, name: str) -> float:
        """The site's weight over the largest one: in (0, 1]."""
        return self.weights[name] / max(self.weights.values())

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, hex: sites and coordinators with one digest mean the same sums."""
        return hashlib.sha256(self._text().encode()).hexdigest()

    def _text(self) -> str:
        entries = {
            name: {"identity": self.identities[name].hex(), "weight": self.weights[name]}
            for name in sorted(self.identities)
        }
        return json.dumps(entries, indent=1) + "\n"

    def save(self, path: Path) -> None:
        write_durably(path, self._text())

    @classmethod
    def load(cls, path: Path) -> Roster:
        """Raises PolicyRefused where there is none, or none that can be read."""
        try:
            entries = json.loads(path.read_text("utf-8"))
            if not all(set(entry) == _FIELDS for entry in entries.values()):
                raise ValueError
            identities = {str(name): bytes.fromhex(entry["identity"]) for name, entry in entries.items()}
            weights = {str(name): float(entry["weight"]) for name, entry in entries.items()}
            return cls(identities, weights)
        except (OSError, ValueError, TypeError, AttributeError, ConfigError):
            raise PolicyRefused(
                "a roster of the federation's sites in this site's home",
                "none that can be read",
                "provision the site, or ask for secagg=none",
            ) from None
