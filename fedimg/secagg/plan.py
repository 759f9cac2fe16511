"""What everybody agrees to before the first secure sum; every key, signature and mask is bound to it.

With K sites, t of which must survive and c of which may collude with the coordinator:

    t ≥ ⌊2K/3⌋ + 1      one sum can be opened, not two of different survivors
    c ≤ 2t − K − 1      two groups of t that were shown different lists would share an honest site
    t − c ≥ 2           what is opened holds at least two honest sites' values
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fedimg.crypto.keys import framed
from fedimg.errors import ConfigError
from fedimg.secagg.encoding import WORD_BITS
from fedimg.secagg.graph import least_shares, neighbours

LEAST_SITES, MOST_SITES, LEAST_HONEST = 3, 10_000, 2
KEY_BYTES = 32
_VERSION = b"fedimg secure sum 1"


def usual_threshold(sites: int) -> int:
    """t = ⌊2K/3⌋ + 1."""
    return 2 * sites // 3 + 1


@dataclass(frozen=True)
class SumPlan:
    """The public terms of a run's secure sums.

    Attributes:
        run_id: of the federation's run.
        identities: each site's name → the Ed25519 public key (32 bytes) that it was provisioned with.
        threshold: t. colluders: c.
        size: P, words in a vector. word_bits: k.
        terms: digest of everything else that was agreed: encoding, noise, clip norm.
        degree: how many others a site exchanges keys with; 0 for everybody (up to about 50 sites).
        share_threshold: how many of those neighbours' shares open a secret; with everybody it is t.
    """

    run_id: str
    identities: Mapping[str, bytes]
    threshold: int
    colluders: int
    size: int
    word_bits: int
    terms: str
    degree: int = 0
    share_threshold: int = 0
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(sorted(self.identities)))
        sites, t, c = self.sites, self.threshold, self.colluders
        _require(LEAST_SITES <= sites <= MOST_SITES, f"{LEAST_SITES} to {MOST_SITES} sites", sites)
        _require(
            all(len(key) == KEY_BYTES for key in self.identities.values()),
            "public keys of 32 bytes",
            "others",
        )
        _require(
            len(set(self.identities.values())) == sites, "a key of its own for each site", "one key twice"
        )
        _require(
            usual_threshold(sites) <= t <= sites, f"a threshold from {usual_threshold(sites)} to {sites}", t
        )
        _require(1 <= c <= 2 * t - sites - 1, f"1 to {2 * t - sites - 1} colluders", c)
        _require(t - c >= LEAST_HONEST, "a threshold of at least two more than the colluders", f"{t} and {c}")
        _require(self.word_bits in WORD_BITS, "words of 32 or 64 bits", self.word_bits)
        _require(self.size >= 1, "at least one word", self.size)
        if not self.degree:
            _require(
                self.share_threshold == 0, "no threshold of shares among everybody", self.share_threshold
            )
            return
        _require(
            self.degree % 2 == 0 and 4 <= self.degree < sites,
            f"an even degree from 4 to {sites - 1}",
            self.degree,
        )
        least = least_shares(sites, c, self.degree)
        _require(
            least <= self.share_threshold <= self.degree,
            f"a threshold of shares from {least} on",
            self.share_threshold,
        )

    @property
    def sites(self) -> int:
        """K."""
        return len(self.identities)

    @property
    def honest(self) -> int:
        """h = t − c: how many honest sites' noise is in whatever is opened."""
        return self.threshold - self.colluders

    @cached_property
    def roster_digest(self) -> bytes:
        parts = [part for name in self.names for part in (name.encode(), self.identities[name])]
        return hashlib.sha256(framed([_VERSION, b"roster", *parts])).digest()

    @cached_property
    def digest(self) -> bytes:
        """32 bytes that stand for all of it."""
        numbers = (
            self.threshold,
            self.colluders,
            self.size,
            self.word_bits,
            self.degree,
            self.share_threshold,
        )
        parts = [_VERSION, b"plan", self.run_id.encode(), self.roster_digest, struct.pack("<6Q", *numbers)]
        return hashlib.sha256(framed([*parts, self.terms.encode()])).digest()

    def context(self, label: str) -> bytes:
        """32 bytes for one sum of the run: version, run, roster, plan, and its label."""
        return hashlib.sha256(framed([_VERSION, b"sum", self.digest, label.encode()])).digest()

    @property
    def shares_needed(self) -> int:
        """How many shares open a secret."""
        return self.share_threshold or self.threshold

    @cached_property
    def _sparse(self) -> tuple[tuple[int, ...], ...]:
        return neighbours(self.sites, self.degree, self.digest)

    def identity_of(self, index: int) -> bytes:
        """A site's public key, by its place among the sorted names; b"", which verifies nothing, beyond them."""
        return self.identities[self.names[index]] if index < self.sites else b""

    def neighbours_of(self, index: int) -> tuple[int, ...]:
        """The sites, by their place among the sorted names, that share masks with this one; ascending."""
        if self.degree:
            return self._sparse[index]
        return tuple(other for other in range(self.sites) if other != index)


def _require(holds: bool, expected: str, found: object) -> None:
    if not holds:
        raise ConfigError(
            f"a secure sum with {expected}", str(found), "correct secagg in the run's configuration"
        )
