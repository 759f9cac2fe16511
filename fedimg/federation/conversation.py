"""What a coordinator and a site say to each other around a run's rounds, and the envelope of all of it.

    OFFR  the run's terms, and by which program  →  JOIN  where the site stands: its plan, once it has joined
    ROUN  a round's own message, for its run     →  its own answer, or nothing
    ENDS  the run is over                        →  PART  the site's signed part of the release record

magic 4 | version u16 | kind 4 | length u32 | canonical JSON | body

Nothing that depends on a patient is in any of it: a plan follows from declared numbers, a commitment hides what it
commits to. What a site refuses, and why, is for its own operator. Told is only what says nothing of its patients and
what only both ends together can mend: that a person there has still to agree, another program, other members.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast, get_args

from fedimg import canonical
from fedimg.errors import DataError, MessageError

MAGIC, VERSION = b"FLNK", 1
_HEADER = struct.Struct("<4sH4sI")
_MOST_JSON, _MOST_TERMS = 1 << 20, 1 << 16
_MOST_PENDING = 4096
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_HEX = re.compile("[0-9a-f]{64}")
_HEAD = re.compile("[0-9]{1,15}-[0-9a-f]{64}")
_RELEASE = re.compile(r"[0-9A-Za-z.+!-]{1,40}")

State = Literal["joined", "preparing", "approval", "version", "members"]
Unit = Literal["patient", "image"]


@dataclass(frozen=True, slots=True)
class Program:
    """Which program speaks: its version, and the digest of its installed code (`record.code`), hex."""

    version: str
    digest: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A run's terms, as they are offered to one site.

    Attributes:
        terms: of `Terms`, as plain values. digest: theirs. head: the last of this site's ledger that the coordinator
            has seen; "" for none. members: digest of the roster whose secure sums the run has; "" without any.
    """

    run: str
    program: Program
    terms: Mapping[str, Any]
    digest: str
    head: str = ""
    members: str = ""

    def to_bytes(self) -> bytes:
        header = {
            "run": self.run,
            "version": self.program.version,
            "code": self.program.digest,
            "terms": self.terms,
            "digest": self.digest,
            "head": self.head,
            "members": self.members,
        }
        return sealed(b"OFFR", header)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises MessageError."""
        names = "run version code terms digest head members"
        header, _ = opened(b"OFFR", data, set(names.split()), most=_MOST_TERMS)
        if not isinstance(header["terms"], dict):
            raise _refuse("terms of another type")
        return cls(
            run_name(header["run"]),
            _program(header),
            header["terms"],
            _text(header["digest"], _HEX),
            _text(header["head"], _HEAD, empty=True),
            _text(header["members"], _HEX, empty=True),
        )


@dataclass(frozen=True, slots=True)
class Joining:
    """Where a site stands with a run that it was offered.

    Attributes:
        state: "joined"; "preparing": its plan and its data; "approval": a person at the site has to look at it;
            "version": its program is another one; "members": it has pinned others than the run's.
        unit: of its ledger. plan: what its ledger has reserved, as plain values; None with `privacy=none`.
        receipts: its commitment to its receipts, hex. head, reserved: of its ledger, and of the last reservation in
            it; "" and 0 without one. battery: the verdict that its installation began with. pending: entries of its
            ledger behind answers that it has made, and may have to send once more.
    """

    run: str
    state: State
    program: Program
    unit: Unit = "patient"
    plan: Mapping[str, Any] | None = None
    receipts: str = ""
    head: str = ""
    reserved: int = 0
    battery: Mapping[str, Any] | None = None
    pending: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        header = {
            "run": self.run,
            "state": self.state,
            "version": self.program.version,
            "code": self.program.digest,
            "unit": self.unit,
            "plan": self.plan,
            "receipts": self.receipts,
            "head": self.head,
            "reserved": self.reserved,
            "battery": self.battery,
            "pending": list(self.pending),
        }
        return sealed(b"JOIN", header)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises MessageError."""
        names = "run state version code unit plan receipts head reserved battery pending"
        header, _ = opened(b"JOIN", data, set(names.split()))
        state, unit, reserved = header["state"], header["unit"], header["reserved"]
        if state not in get_args(State) or unit not in get_args(Unit):
            raise _refuse("another state or unit")
        if type(reserved) is not int or not 0 <= reserved < 1 << 53:
            raise _refuse("another number of a reservation")
        pending = header["pending"]
        if not isinstance(pending, list) or len(pending) > _MOST_PENDING:
            raise _refuse("pending entries of another form")
        for name in ("plan", "battery"):
            if header[name] is not None and not isinstance(header[name], dict):
                raise _refuse(f"a {name} of another type")
        return cls(
            run_name(header["run"]),
            cast("State", state),
            _program(header),
            cast("Unit", unit),
            header["plan"],
            _text(header["receipts"], _HEX, empty=state != "joined"),
            _text(header["head"], _HEAD, empty=True),
            reserved,
            header["battery"],
            tuple(_text(entry, _HEAD) for entry in pending),
        )


@dataclass(frozen=True, slots=True)
class RoundMessage:
    """What `server_round` asks, for the run it belongs to; the answer comes back without an envelope."""

    run: str
    body: bytes

    def to_bytes(self) -> bytes:
        return sealed(b"ROUN", {"run": self.run}, self.body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises MessageError."""
        header, body = opened(b"ROUN", data, {"run"}, body=True)
        return cls(run_name(header["run"]), body)


@dataclass(frozen=True, slots=True)
class Ending:
    """The run is over: the site closes it in its ledger, and what was set aside and not spent is free again."""

    run: str

    def to_bytes(self) -> bytes:
        return sealed(b"ENDS", {"run": self.run})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises MessageError."""
        return cls(run_name(opened(b"ENDS", data, {"run"})[0]["run"]))


@dataclass(frozen=True, slots=True)
class Ended:
    """A site's signed part of the release record, as `record.signed_part` makes it; empty of one that took no part."""

    run: str
    part: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        return sealed(b"PART", {"run": self.run, "part": self.part})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises MessageError; what is in the part is checked with the record."""
        header, _ = opened(b"PART", data, {"run", "part"})
        if not isinstance(header["part"], dict):
            raise _refuse("a part of another type")
        return cls(run_name(header["run"]), header["part"])


def kind_of(data: bytes) -> bytes:
    """The kind that an envelope names; empty where there is none."""
    return data[6:10] if data[:4] == MAGIC else b""


def sealed(kind: bytes, header: Mapping[str, Any], body: bytes = b"") -> bytes:
    text = canonical.encode(header)
    return _HEADER.pack(MAGIC, VERSION, kind, len(text)) + text + body


def opened(
    kind: bytes, data: bytes, fields: set[str], *, body: bool = False, most: int = _MOST_JSON
) -> tuple[dict[str, Any], bytes]:
    """Inverse of `sealed`, of a header of at most so many bytes. Raises MessageError."""
    if len(data) < _HEADER.size:
        raise _refuse(f"{len(data)} bytes")
    magic, version, found, length = _HEADER.unpack_from(data)
    if (magic, version, found) != (MAGIC, VERSION, kind):
        raise _refuse("another kind or version")
    if length > min(len(data) - _HEADER.size, most):
        raise _refuse("a header longer than the message, or than such a message may have")
    end = _HEADER.size + length
    try:
        header = canonical.decode_canonical(data[_HEADER.size : end], "message")
    except DataError as fault:
        raise _refuse(fault.found) from None
    if not isinstance(header, dict) or set(header) != fields:
        raise _refuse("other fields")
    if len(data) > end and not body:
        raise _refuse("bytes behind its end")
    return header, data[end:]


def run_name(value: object) -> str:
    """It becomes a folder's name. Raises MessageError for one that could not."""
    return _text(value, _RUN)


def _program(header: Mapping[str, Any]) -> Program:
    return Program(_text(header["version"], _RELEASE), _text(header["code"], _HEX))


def _text(value: object, pattern: re.Pattern[str], *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (pattern.fullmatch(value) or (empty and not value)):
        raise _refuse("a field of another form")
    return value


def _refuse(found: str) -> MessageError:
    return MessageError(f"a message of version {VERSION} of the link", found, "it was discarded")
