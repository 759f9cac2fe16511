"""The coordinator's side of one secure sum: it relays, adds up, and opens nothing but the sum.

    keys       advertised keys     →  all of them, to all
    sharing    sealed shares       →  each site's, to it
    survivors  masked inputs       →  whose arrived
    confirmed  confirmations       →  ≥ t signatures over one list
    opened     opened shares       →  the sum, less all masks that are left in it

A step with fewer than t usable answers makes the sum void: nothing is opened. Which answer was refused, and why,
stands in `refused`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from fedimg.crypto.agreement import AgreementKey, derive
from fedimg.crypto.keys import verify
from fedimg.crypto.secret_sharing import corrected
from fedimg.errors import FederationError, MessageError
from fedimg.secagg import statements
from fedimg.secagg.encoding import OpenedSum, centred, word_type
from fedimg.secagg.masking import add_mask
from fedimg.secagg.messages import (
    CONFIRMATIONS,
    COORDINATOR,
    EXCESS,
    KEYS,
    MASK_KEY,
    OPENED,
    SEED,
    SHARES,
    SURVIVORS,
    Row,
    split_excess,
    unpack_input,
)
from fedimg.secagg.plan import SumPlan

Answer = TypeVar("Answer")
Answers = Mapping[str, bytes | None]
# Choices of shares that are tried where too few are over to correct wrong ones.
_MOST_TRIED = 200


class VoidSumError(FederationError):
    """Too few sites were left, or their shares did not open: nothing was."""


class SumCoordinator:
    """One sum, step by step; each takes what the sites answered and gives what they are to be sent next.

    `bound` is what all sites are asked for (`SumSite.masked_input`).
    """

    def __init__(self, plan: SumPlan, label: str, bound: bytes = b"") -> None:
        self._plan, self._context = plan, plan.context(label)
        self._asked = statements.asked_digest(bound)
        self._keys: dict[int, tuple[bytes, bytes, bytes]] = {}  # cipher, mask, commitment
        self._sealed: dict[int, dict[int, bytes]] = {}  # by receiver, then sender
        self._sharing: list[int] = []
        self._inputs: dict[int, tuple[bytes, bytes]] = {}  # digest, signature
        self._total = np.zeros(plan.size, dtype=word_type(plan.word_bits))
        self._messages: dict[str, bytes] = {}  # what all are shown, by step
        self._view = b""  # what sites confirm of it
        self._taken: set[bytes] = set()  # public keys
        self._liars: frozenset[int] = frozenset()  # holders who opened a wrong share
        self.refused: dict[str, str] = {}

    def keys(self, answers: Answers) -> dict[str, bytes]:
        """Advertised keys → all keys, for each site that advertised."""
        rows: list[Row] = []
        for index, data in self._in_order(answers, self._plan.names):
            row = self._checked(index, data, self._one_key)
            if row is not None:
                rows.append(row)
                self._keys[index] = row[1:4]
        self._require(len(rows), "keys")
        return self._to_all("keys", KEYS.pack(self._context, COORDINATOR, rows), self._keys)

    def sharing(self, answers: Answers) -> dict[str, bytes]:
        """Sealed shares → for each site that shared, who did, with the shares meant for it."""
        for index, data in self._in_order(answers, self._names(self._keys)):
            rows = self._checked(index, data, self._shares)
            if rows is not None:
                self._sharing.append(index)
                for other, sealed in rows:
                    self._sealed.setdefault(other, {})[index] = sealed
        self._require(len(self._sharing), "shares")
        nothing = bytes(SHARES.row.size - 2)
        sent = {
            self._plan.names[index]: SHARES.pack(
                self._context,
                COORDINATOR,
                [(other, self._sealed.get(index, {}).get(other, nothing)) for other in self._sharing],
            )
            for index in self._sharing
        }
        self._sealed.clear()
        return sent

    def survivors(self, answers: Answers) -> dict[str, bytes]:
        """Masked inputs → who survived. The vectors are added up as they are read, and not kept."""
        for index, data in self._in_order(answers, self._names(self._sharing)):
            found = self._checked(index, data, self._add_input)
            if found is not None:
                self._inputs[index] = found
        self._require(len(self._inputs), "masked inputs")
        rows = [(index, *self._inputs[index]) for index in sorted(self._inputs)]
        message = SURVIVORS.pack(self._context, COORDINATOR, rows)
        self._view = statements.view_statement(
            self._context, self._messages["keys"], self._sharing, self._asked, message
        )
        return self._to_all("survivors", message, self._inputs)

    def confirmed(self, answers: Answers) -> dict[str, bytes]:
        """Confirmations → the signatures, for each site that confirmed."""
        rows = []
        for index, data in self._in_order(answers, self._names(self._inputs)):
            row = self._checked(index, data, self._one_confirmation)
            if row is not None:
                rows.append(row)
        self._require(len(rows), "confirmations")
        message = CONFIRMATIONS.pack(self._context, COORDINATOR, rows)
        return self._to_all("confirmed", message, [index for index, _ in rows])

    def opened(self, answers: Answers) -> OpenedSum:
        """Opened shares → the sum."""
        shares: dict[int, dict[int, bytes]] = {index: {} for index in self._sharing}  # of a site, by holder
        excess: dict[str, tuple[tuple[int, bytes], ...]] = {}
        answered = 0
        for index, data in self._in_order(answers, self._names(self._inputs)):
            found = self._checked(index, data, self._opened_shares)
            if found is not None:
                answered += 1
                rows, unused = found
                excess[self._plan.names[index]] = unused
                for of, _, share in rows:
                    shares[of][index + 1] = share
        self._require(answered, "opened shares")
        # every secret first: the sum is opened whole or not at all
        secrets = {index: self._secret(index, shares[index]) for index in self._sharing}
        for index, secret in secrets.items():
            if index in self._inputs:
                key = derive(secret, statements.self_purpose(self._context, index))
                add_mask(self._total, key, negative=True)
            else:
                self._take_pairs_off(index, AgreementKey(secret))
        return OpenedSum(centred(self._total), tuple(self._names(sorted(self._inputs))), excess)

    def _one_key(self, index: int, data: bytes) -> Row:
        rows = KEYS.unpack(self._context, index, data, 1)
        if len(rows) != 1 or rows[0][0] != index:
            raise _wrong("one site's keys")
        statement = statements.keys_statement(self._context, *rows[0][:4])
        if not verify(self._plan.identity_of(index), rows[0][4], statement):
            raise _wrong("keys signed by the site")
        # one site's unusable keys, shown to all, would make all the others refuse
        own = set(rows[0][1:3])
        if len(own) < 2 or self._taken & own:
            raise _wrong("keys that no other site has")
        for public in own:
            AgreementKey.fresh().agree(public, b"")
        self._taken |= own
        return rows[0]

    def _shares(self, index: int, data: bytes) -> list[Row]:
        rows = SHARES.unpack(self._context, index, data, self._plan.sites)
        expected = [other for other in self._plan.neighbours_of(index) if other in self._keys]
        if [other for other, _ in rows] != expected:
            raise _wrong("shares for each neighbour")
        return rows

    def _add_input(self, index: int, data: bytes) -> tuple[bytes, bytes]:
        signature, words = unpack_input(self._context, index, data, self._plan.size, self._plan.word_bits)
        digest = statements.input_digest(words.data)
        statement = statements.input_statement(self._context, index, digest)
        if not verify(self._plan.identity_of(index), signature, statement):
            raise _wrong("a masked input signed by the site")
        self._total += words
        return digest, signature

    def _one_confirmation(self, index: int, data: bytes) -> Row:
        rows = CONFIRMATIONS.unpack(self._context, index, data, 1)
        if (
            len(rows) != 1
            or rows[0][0] != index
            or not verify(self._plan.identity_of(index), rows[0][1], self._view)
        ):
            raise _wrong("a signature over what all were shown")
        return rows[0]

    def _opened_shares(self, index: int, data: bytes) -> tuple[list[Row], tuple[tuple[int, bytes], ...]]:
        opened, behind = split_excess(data)
        rows = OPENED.unpack(self._context, index, opened, self._plan.sites)
        excess = EXCESS.unpack(self._context, index, behind, self._plan.sites) if behind else []
        dropped = self._plan.sites - len(self._inputs)
        most = self._plan.sites - self._plan.threshold
        if any(not dropped < number <= most for number, _ in excess):
            raise _wrong("keys of noise that is not needed")
        circle = {*self._plan.neighbours_of(index), index} & set(self._sharing)
        for of, role, _ in rows:
            if of not in circle or role != (SEED if of in self._inputs else MASK_KEY):
                raise _wrong("shares of its neighbours, each in the role that was confirmed")
        return rows, tuple((number, key) for number, key in excess)

    def _secret(self, index: int, shares: Mapping[int, bytes]) -> bytes:
        """The seed or mask key of a site, checked against what it had signed; wrong shares are left out."""
        _cipher, mask, commitment = self._keys[index]
        needed = self._plan.shares_needed

        def right(secret: bytes) -> bool:
            if index in self._inputs:
                return derive(secret, statements.commitment_purpose(self._context, index)) == commitment
            return AgreementKey(secret).public_bytes == mask

        trusted = {holder: share for holder, share in shares.items() if holder not in self._liars}
        for candidates in (trusted, shares):
            try:
                secret, wrong = corrected(candidates, needed)
            except MessageError:
                continue
            if right(secret):
                self._liars |= wrong
                return secret
        # fewer are over than can be corrected, but the check above tells a right choice
        for chosen in itertools.islice(itertools.combinations(sorted(shares), needed), _MOST_TRIED):
            part = {holder: shares[holder] for holder in chosen}
            try:
                secret, _none = corrected(part, needed)
            except MessageError:
                continue
            if right(secret):
                self._liars |= shares.keys() - part.keys()
                return secret
        name = self._plan.names[index]
        raise VoidSumError(
            f"{needed} right shares of the secrets of {name}",
            f"{len(shares)} that do not open one",
            f"leave {name} out if it happens again: it may have shared out what opens to nothing",
        )

    def _take_pairs_off(self, dropped: int, key: AgreementKey) -> None:
        """Survivors put in their masks with a site whose vector never came."""
        for other in self._plan.neighbours_of(dropped):
            if other in self._inputs:
                purpose = statements.pair_purpose(self._context, dropped, other, self._asked)
                mask = key.agree(self._keys[other][1], purpose)
                # the survivor took it off where the dropped one comes before it, and added it otherwise
                add_mask(self._total, mask, negative=other < dropped)

    def _checked(self, index: int, data: bytes, check: Callable[[int, bytes], Answer]) -> Answer | None:
        try:
            return check(index, data)
        except MessageError as refusal:
            self.refused[self._plan.names[index]] = str(refusal)
            return None

    def _in_order(self, answers: Answers, expected: Iterable[str]) -> list[tuple[int, bytes]]:
        asked = set(expected)
        return [
            (index, data)
            for index, name in enumerate(self._plan.names)
            if name in asked and (data := answers.get(name)) is not None
        ]

    def _names(self, indices: Iterable[int]) -> list[str]:
        return [self._plan.names[index] for index in indices]

    def _to_all(self, step: str, message: bytes, indices: Iterable[int]) -> dict[str, bytes]:
        self._messages[step] = message
        return dict.fromkeys(self._names(sorted(indices)), message)

    def _require(self, found: int, what: str) -> None:
        if found < self._plan.threshold:
            raise VoidSumError(
                f"{what} of at least {self._plan.threshold} of {self._plan.sites} sites",
                f"{found}",
                "read the operator's log of each missing site; nothing was opened",
            )


def _wrong(expected: str) -> MessageError:
    return MessageError(expected, "others", "the answer was discarded")
