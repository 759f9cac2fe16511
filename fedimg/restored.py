"""A home that was restored from a backup: which runs it takes no part in any more.

A backup knows nothing of what was answered after it was made. A run that the home would take up again could be given
a second noise for a round that was answered, or a second input to a secure sum: two such differ by what they hide. So

- every run that was known and had not ended when the backup was made is closed for this home,
- so is every run whose name, which begins with the time at which it was asked for, is not later than the restoring
  (a run that was begun after the backup and before the loss is such a one), with room for clocks that differ,
- and a person agrees to each further run, whatever the policy agrees to beforehand.

    home/restored.json   both times, and the runs that were closed
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from fedimg.durable import write_durably
from fedimg.errors import DataError, PolicyRefused

NAME = "restored.json"
CLOCKS_APART = timedelta(minutes=10)
_TIME = "%Y%m%d-%H%M%S"
_RUN = re.compile(r"(\d{8}-\d{6})-[0-9a-f]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Restored:
    """Attributes: backed_up, restored: UTC, as runs are named. closed: names of runs that had not ended by the backup."""

    backed_up: str
    restored: str
    closed: tuple[str, ...] = ()

    @classmethod
    def at(cls, backed_up: str, restored: datetime, closed: tuple[str, ...]) -> Self:
        """`backed_up` as `time_of` gives it."""
        return cls(backed_up, time_of(restored), closed)

    @classmethod
    def read(cls, root: Path) -> Self | None:
        """Of a home; None for one that was never restored. Raises DataError where it does not parse."""
        try:
            found = json.loads((root / NAME).read_bytes())
            made = cls(str(found["backed_up"]), str(found["restored"]), tuple(map(str, found["closed"])))
            datetime.strptime(made.restored, _TIME).replace(tzinfo=UTC)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                "a note of which runs a restored home takes no part in",
                "one that does not parse",
                "restore the home from its backup again",
            ) from None
        return made

    def write(self, root: Path) -> None:
        """Durable when this returns."""
        write_durably(root / NAME, json.dumps(asdict(self), indent=1) + "\n")

    def is_over(self, run: str) -> bool:
        """Whether this home may have answered in that run before it was restored; by its name alone."""
        named = _RUN.fullmatch(run)
        if run in self.closed or named is None:
            return True
        first = datetime.strptime(self.restored, _TIME).replace(tzinfo=UTC) + CLOCKS_APART
        return named[1] <= time_of(first)


def time_of(moment: datetime) -> str:
    """UTC, as the names of runs begin."""
    return f"{moment.astimezone(UTC):{_TIME}}"


def refusal(root: Path, run: str) -> PolicyRefused | None:
    """Why a home takes no part in a run; None where it may. Raises DataError as `Restored.read`."""
    restored = Restored.read(root)
    if restored is None or not restored.is_over(run):
        return None
    return PolicyRefused(
        "a run that was asked for after this home was restored",
        "one of before: what this site answered in it is not known any more",
        "start a new run, some minutes after the restoring",
    )


def check_run(root: Path, run: str) -> None:
    """Raises PolicyRefused where `refusal` has a reason."""
    if (reason := refusal(root, run)) is not None:
        raise reason
