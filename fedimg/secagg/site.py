"""One hospital's side of one secure sum: five steps, each once, in order.

    advertise_keys   →  fresh keys, signed with the site's identity
    share_keys       keys of all          →  shares of its two secrets, sealed for each neighbour
    masked_input     who shared           →  its vector under all its masks
    confirm          who survived         →  its signature over everything it was shown
    unmask           ≥ t signatures       →  shares: of survivors' seeds, of the others' mask keys

Algorithm: Bonawitz et al. 2017, figure 4, with a coordinator that may lie. Beyond it: what a site confirms
covers the keys and the sharing lists as well, a survivor counts only with its own signature over its masked
input, and seeds are committed to, so that a wrong share shows. All secrets are in memory only and dropped with the
last step, or with the first thing that is wrong: a site that has refused says nothing more in this sum.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedimg.crypto.agreement import AgreementKey, derive, open_once, seal_once
from fedimg.crypto.keys import SigningKey, verify
from fedimg.crypto.secret_sharing import SECRET_BYTES, SHARE_BYTES, split
from fedimg.errors import MessageError, PolicyRefused
from fedimg.secagg import statements
from fedimg.secagg.encoding import word_type
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
    pack_input,
)
from fedimg.secagg.plan import SumPlan
from fedimg.values import Maskable, MaskedUpdate, Words


@dataclass(repr=False)
class SumState:
    """What a site knows within one sum, secrets included; None and empty once they are forgotten."""

    cipher: AgreementKey | None
    mask: AgreementKey | None
    seed: bytes
    keys: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # cipher and mask public keys
    sharing: list[int] = field(default_factory=list)
    shares: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # of others' mask keys and seeds
    input: tuple[bytes, bytes] | None = None  # digest and signature
    survivors: list[int] = field(default_factory=list)
    shown: list[bytes] = field(default_factory=list)  # what the coordinator sent, step by step
    answers: list[bytes] = field(default_factory=list)
    bound: bytes = b""  # digest of what the vector answers
    excess: list[bytes] = field(default_factory=list)  # keys of noise for drop-outs, in order
    over: bool = False

    @classmethod
    def fresh(cls) -> SumState:
        return cls(AgreementKey.fresh(), AgreementKey.fresh(), secrets.token_bytes(SECRET_BYTES))


class SumSite:
    """A site in one sum.

    Args:
        plan: agreed by its digest before the run.
        label: of this sum; a run has no two sums of one label.
        name, identity: whose key stands in the plan.
        state: of a sum that is under way; None begins one.
    """

    def __init__(
        self, plan: SumPlan, label: str, name: str, identity: SigningKey, state: SumState | None = None
    ) -> None:
        if plan.identities.get(name) != identity.public_bytes:
            raise PolicyRefused(
                "this site's own key in the plan of the secure sum",
                "another or none",
                "provision the site again",
            )
        self._plan, self._identity = plan, identity
        self._context, self._index = plan.context(label), plan.names.index(name)
        self._neighbours = frozenset(plan.neighbours_of(self._index))
        self.state = SumState.fresh() if state is None else state

    def advertise_keys(self) -> bytes:
        """Two public keys and a commitment, signed."""
        return self._step(0, b"", lambda _request: self._advertise())

    def share_keys(self, keys: bytes) -> bytes:
        """Judge everybody's keys, and share out the own secrets."""
        return self._step(1, keys, self._share)

    def masked_input(self, sharing: bytes, vector: Callable[[], Maskable], bound: bytes = b"") -> bytes:
        """The own vector, masked.

        Args:
            sharing: who shared, and the shares for this site.
            vector: called once, when the list was found in order: its words are of the plan's size, and are
                overwritten by the masked ones.
            bound: what the vector is an answer to. Sites that were asked for different things have masks that do
                not cancel, and do not confirm each other: else a coordinator could ask one site for its vector and
                the others for zeros (Pasquini et al. 2022, "Eluding Secure Aggregation in Federated Learning").
        """
        return self._step(2, sharing, lambda request: self._masked(request, vector, bound))

    def confirm(self, survivors: bytes) -> bytes:
        """Sign the list of survivors, and with it all that was shown before."""
        return self._step(3, survivors, self._confirm)

    def unmask(self, confirmations: bytes) -> bytes:
        """Open shares, once t sites have signed one and the same list."""
        answer = self._step(4, confirmations, self._unmask)
        self._erase()
        return answer

    def _step(self, number: int, request: bytes, do: Callable[[bytes], bytes]) -> bytes:
        """The answer to a step's request; to the same request again the same answer."""
        if number < len(self.state.answers) and self.state.shown[number] == request:
            return self.state.answers[number]
        if self.state.over or number != len(self.state.answers):
            self._refused()
            raise MessageError(
                "each step of a secure sum once and in order",
                "one that was taken, skipped or refused",
                "the sum is over",
            )
        try:
            answer = do(request)
        except BaseException:
            self._refused()
            raise
        self.state.shown.append(request)
        self.state.answers.append(answer)
        return answer

    def _refused(self) -> None:
        self.state.over = True
        self.state.answers.clear()
        self._erase()

    def _erase(self) -> None:
        """Forget what opens anything; the answers stay for a retransmission."""
        self.state.over = True
        self.state.seed, self.state.cipher, self.state.mask = b"", None, None
        self.state.shares.clear()
        self.state.excess.clear()

    def _advertise(self) -> bytes:
        commitment = derive(self.state.seed, statements.commitment_purpose(self._context, self._index))
        own = (self._own(self.state.cipher).public_bytes, self._own(self.state.mask).public_bytes, commitment)
        signature = self._identity.sign(statements.keys_statement(self._context, self._index, *own))
        return KEYS.pack(self._context, self._index, [(self._index, *own, signature)])

    def _share(self, request: bytes) -> bytes:
        rows = KEYS.unpack(self._context, COORDINATOR, request, self._plan.sites)
        self._require_enough(len(rows), "keys")
        for index, cipher, mask, commitment, signature in rows:
            statement = statements.keys_statement(self._context, index, cipher, mask, commitment)
            if index >= self._plan.sites or not verify(self._plan.identity_of(index), signature, statement):
                raise _lied("keys signed by the sites of the roster", "others")
            self.state.keys[index] = (cipher, mask)
        if self.state.keys.get(self._index) != (
            self._own(self.state.cipher).public_bytes,
            self._own(self.state.mask).public_bytes,
        ):
            raise _lied("this site's own keys among them", "others in its name, or none")
        publics = [key for pair in self.state.keys.values() for key in pair]
        if len(set(publics)) != len(publics):
            raise _lied("keys that are all different", "one twice")
        holders = [index + 1 for index in sorted(self._circle)]
        threshold = self._plan.shares_needed
        if len(holders) < threshold:
            raise _lied(f"at least {threshold} sites to share with", f"{len(holders)}")
        of_key = split(self._own(self.state.mask).private_bytes, threshold, holders)
        of_seed = split(self.state.seed, threshold, holders)
        self.state.shares[self._index] = (of_key[self._index + 1], of_seed[self._index + 1])
        sealed = []
        for other in sorted(self._circle - {self._index}):
            purpose = statements.share_purpose(self._context, self._index, other)
            key = self._own(self.state.cipher).agree(self.state.keys[other][0], purpose)
            sealed.append((other, seal_once(key, of_key[other + 1] + of_seed[other + 1], purpose)))
        return SHARES.pack(self._context, self._index, sealed)

    def _masked(self, request: bytes, vector: Callable[[], Maskable], bound: bytes) -> bytes:
        self.state.bound = statements.asked_digest(bound)
        rows = SHARES.unpack(self._context, COORDINATOR, request, self._plan.sites)
        self.state.sharing = [index for index, _ in rows]
        self._require_enough(len(rows), "sharing sites")
        if not set(self.state.sharing) <= self.state.keys.keys() or self._index not in self.state.sharing:
            raise _lied("sharing sites among those whose keys were shown, this one with them", "others")
        for index, sealed in rows:
            if index in self._circle and index != self._index:
                self._take_shares(index, sealed)
        there = sorted(self._circle & set(self.state.sharing))
        if len(there) < self._plan.shares_needed:
            raise _lied(
                f"at least {self._plan.shares_needed} sites that shared with this one", f"{len(there)}"
            )
        # every key first: a budget is spent by `vector`, and must not be for a sum that cannot be made
        keys = {other: self._pair_key(other) for other in there if other != self._index}
        made = vector()
        masked, self.state.excess = made.mask(lambda words: self._under_masks(words, keys)), [*made.excess]
        digest = statements.input_digest(masked.words.data)
        signature = self._identity.sign(statements.input_statement(self._context, self._index, digest))
        self.state.input = (digest, signature)
        return pack_input(self._context, self._index, signature, masked)

    def _under_masks(self, words: Words, keys: Mapping[int, bytes]) -> MaskedUpdate:
        if words.shape != (self._plan.size,) or words.dtype != word_type(self._plan.word_bits):
            raise PolicyRefused(
                f"{self._plan.size} words of {self._plan.word_bits} bits",
                f"shape {words.shape} of {words.dtype}",
                "correct the plan of the secure sum",
            )
        add_mask(words, derive(self.state.seed, statements.self_purpose(self._context, self._index)))
        for other, key in keys.items():
            add_mask(words, key, negative=other < self._index)
        return MaskedUpdate(words)

    def _pair_key(self, other: int) -> bytes:
        purpose = statements.pair_purpose(self._context, self._index, other, self.state.bound)
        return self._own(self.state.mask).agree(self.state.keys[other][1], purpose)

    def _take_shares(self, sender: int, sealed: bytes) -> None:
        """Shares that do not open are that sender's fault: others' shares must do, or the sum is void."""
        purpose = statements.share_purpose(self._context, sender, self._index)
        try:
            opened = open_once(
                self._own(self.state.cipher).agree(self.state.keys[sender][0], purpose), sealed, purpose
            )
        except MessageError:
            return
        self.state.shares[sender] = (opened[:SHARE_BYTES], opened[SHARE_BYTES:])

    def _confirm(self, request: bytes) -> bytes:
        rows = SURVIVORS.unpack(self._context, COORDINATOR, request, self._plan.sites)
        self.state.survivors = [index for index, _, _ in rows]
        self._require_enough(len(rows), "survivors")
        if not set(self.state.survivors) <= set(self.state.sharing):
            raise _lied("survivors among the sites that shared", "others")
        for index, digest, signature in rows:
            statement = statements.input_statement(self._context, index, digest)
            if not verify(self._plan.identity_of(index), signature, statement):
                raise _lied("every survivor's own signature over its masked input", "another")
            if index == self._index and (digest, signature) != self.state.input:
                raise _lied("this site's own masked input", "another in its name")
        if self._index not in self.state.survivors:
            raise _lied("this site among the survivors, as it answered", "a list without it")
        signature = self._identity.sign(self._view(request))
        return CONFIRMATIONS.pack(self._context, self._index, [(self._index, signature)])

    def _view(self, survivors: bytes) -> bytes:
        return statements.view_statement(
            self._context, self.state.shown[1], self.state.sharing, self.state.bound, survivors
        )

    def _unmask(self, request: bytes) -> bytes:
        rows = CONFIRMATIONS.unpack(self._context, COORDINATOR, request, self._plan.sites)
        self._require_enough(len(rows), "confirmations")
        view = self._view(self.state.shown[3])
        for index, signature in rows:
            if index not in self.state.survivors or not verify(
                self._plan.identity_of(index), signature, view
            ):
                raise _lied("signatures of survivors over the list that this site was shown", "others")
        survivors = set(self.state.survivors)
        opened = [
            (index, SEED if index in survivors else MASK_KEY, shares[index in survivors])
            for index, shares in sorted(self.state.shares.items())
            if index in self.state.sharing
        ]
        answer = OPENED.pack(self._context, self._index, opened)
        # t sites have signed how many there are: noise that was for more drop-outs is not needed
        unused = list(enumerate(self.state.excess, start=1))[self._plan.sites - len(survivors) :]
        return answer + EXCESS.pack(self._context, self._index, unused) if self.state.excess else answer

    @staticmethod
    def _own(key: AgreementKey | None) -> AgreementKey:
        if key is None:
            raise MessageError("a sum that is under way", "one that is over", "the sum is over")
        return key

    @property
    def _circle(self) -> frozenset[int]:
        """The neighbours whose keys were shown, and the site itself."""
        return (self._neighbours & self.state.keys.keys()) | {self._index}

    def _require_enough(self, found: int, what: str) -> None:
        if found < self._plan.threshold:
            raise _lied(f"{what} of at least {self._plan.threshold} sites", f"{found}")


def _lied(expected: str, found: str) -> MessageError:
    return MessageError(expected, found, "this site takes no further part in the secure sum")
