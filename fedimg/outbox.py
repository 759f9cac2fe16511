"""Released bytes, durable before they are sent.

"Charge before release" leaves one gap: a crash after the release and before the
send. With the bytes on disk the site answers the repeated question with the same
bytes and charges nothing; without them the step is void and is done and charged
again (privacy design §4). Only released values come here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedimg.durable import write_durably


@dataclass(frozen=True)
class Outbox:
    """One run's answers at one site: a 0700 folder, one file a round and task."""

    folder: Path

    def get(self, round_number: int, task: str, question: str) -> bytes | None:
        """The bytes already released in answer to this very question (its SHA-256, hex), if any."""
        path = self.folder / _name(round_number, task, question)
        return path.read_bytes() if path.is_file() else None

    def last(self) -> list[bytes]:
        """The answers that may have to be sent once more: of the last rounds, whatever was asked."""
        return [path.read_bytes() for path in sorted(self.folder.glob("*.bin"))]

    def put(self, round_number: int, task: str, question: str, released: bytes) -> None:
        """Durable when this returns. Answers two rounds old are dropped: the run has moved on."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self.folder / _name(round_number, task, question), released)
        for old in self.folder.glob("*.bin"):
            if int(old.name.partition("-")[0]) < round_number - 1:
                old.unlink()


def _name(round_number: int, task: str, question: str) -> str:
    return f"{round_number:06d}-{task}-{question[:32]}.bin"
