"""What carries a secure sum's messages: the coordinator's question, and a site's answer.

magic 4 | version u16 | step u8 | round u32 | task u8 | length u32 | message | the rest
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from fedimg.errors import MessageError

MAGIC, VERSION = b"FSRQ", 1
_HEADER = struct.Struct("<4sHBIBI")
_ANSWER = struct.Struct("<4sI")
_ANSWER_MAGIC = b"FSAN"
TASKS = ("train", "evaluate")
INPUT_STEP, STEPS = 2, 5
# Bytes of the names of ledger entries in an answer: some ten thousand.
_MOST_NAMES = 1 << 20


@dataclass(frozen=True, slots=True)
class SumRequest:
    """One of the five questions of a sum.

    `instructions` stand beside the third: the global model, and what to do with it.
    """

    round: int
    task: str
    step: int
    message: bytes
    instructions: bytes = b""

    @property
    def label(self) -> str:
        """A run has one sum of a round and task."""
        return f"{self.task} {self.round}"

    def to_bytes(self) -> bytes:
        task = TASKS.index(self.task)
        header = _HEADER.pack(MAGIC, VERSION, self.step, self.round, task, len(self.message))
        return header + self.message + self.instructions

    @classmethod
    def from_bytes(cls, data: bytes) -> SumRequest:
        """Raises MessageError."""
        if len(data) < _HEADER.size:
            raise _refuse(f"{len(data)} bytes")
        magic, version, step, number, task, length = _HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION or step >= STEPS or task >= len(TASKS):
            raise _refuse("another kind, version or step")
        body = data[_HEADER.size :]
        if length > len(body) or (step != INPUT_STEP and length != len(body)):
            raise _refuse("a message of another length")
        return cls(number, TASKS[task], step, body[:length], body[length:])


def is_request(data: bytes) -> bool:
    return data[:4] == MAGIC


def pack_answer(message: bytes, releases: tuple[str, ...] = ()) -> bytes:
    """A site's answer, and the names of the ledger entries that paid for it."""
    names = json.dumps(list(releases)).encode() if releases else b""
    if len(names) > _MOST_NAMES:
        raise _refuse("more releases than an answer may name: ask for fewer local steps")
    return b"".join((_ANSWER.pack(_ANSWER_MAGIC, len(names)), names, message))


def unpack_answer(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Inverse of `pack_answer`. Raises MessageError."""
    if len(data) < _ANSWER.size or data[:4] != _ANSWER_MAGIC:
        raise _refuse("an answer of another kind")
    _, length = _ANSWER.unpack_from(data)
    if length > min(len(data) - _ANSWER.size, _MOST_NAMES):
        raise _refuse("an answer of another length")
    try:
        names = json.loads(data[_ANSWER.size : _ANSWER.size + length]) if length else []
    except (ValueError, RecursionError):
        raise _refuse("names that are not JSON") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _refuse("names of another type")
    return data[_ANSWER.size + length :], tuple(names)


def _refuse(found: str) -> MessageError:
    return MessageError(
        f"a request or answer of version {VERSION} of a secure sum", found, "the message was discarded"
    )
