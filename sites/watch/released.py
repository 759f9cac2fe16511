"""What a coordinator says today of the models that work here: its signed list, checked and kept.

HOME/released-models.json    the last list that was accepted

The kept list is why an old one is noticed, and a withdrawal is not taken back: a file that is carried by hand, or by
somebody else's server, may be any that was ever signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from fedimg import canonical
from fedimg.crypto.certificates import utc_now
from fedimg.durable import locked, write_durably
from fedimg.errors import DataError
from fedimg.federation.released import ReleasedModels
from sites.watch.store.models import Registered

FILE: Final = "released-models.json"
UNKNOWN: Final = "not listed"
WITHDRAWN: Final = "withdrawn"


@dataclass(frozen=True, slots=True)
class Standing:
    """A model that works here, and how it stands: released, superseded, withdrawn, or not listed.

    `since`, `why`: as the coordinator says it; "" where it is not listed.
    """

    name: str
    version: str
    role: str
    digest: str
    standing: str
    since: str
    why: str


def check(
    home: Path, file: Path, key: bytes, working: Sequence[Registered], now: datetime | None = None
) -> tuple[Standing, ...]:
    """Take a list in, and say how each of the `working` models stands, the withdrawn ones first.

    Args:
        home: the watcher's folder. key: the coordinator's, 32 bytes, pinned here.

    Raises:
        DataError: another's list, a changed one, one of the future; one older than the list that was accepted last, or
            one that takes a withdrawal back. What was accepted before is kept then.
    """
    data = _bytes(file)
    found = ReleasedModels.read(data, key, now or utc_now())
    with locked(home):
        kept = home / FILE
        if kept.exists():
            found.check_follows(_accepted(kept, key))
        write_durably(kept, data)
    standings = [_standing(found, one) for one in working]
    return tuple(sorted(standings, key=lambda one: (one.standing != WITHDRAWN, one.name, one.version)))


def _accepted(kept: Path, key: bytes) -> ReleasedModels:
    """The list that was accepted last. Raises DataError where it is not the pinned key's, or was changed."""
    try:
        return ReleasedModels.read(_bytes(kept), key, None)
    except DataError as fault:
        remedy = f"where coordinator_key was changed on purpose, move {FILE} of the watcher's home away"
        raise DataError(f"{fault.expected}, as the one accepted before", fault.found, remedy) from None


def _standing(found: ReleasedModels, one: Registered) -> Standing:
    """By the digest alone: a name may be anybody's."""
    listed = found.models.get(one.digest)
    if listed is None:
        return Standing(one.name, one.version, one.role, one.digest, UNKNOWN, "", "")
    return Standing(one.name, one.version, one.role, one.digest, listed.standing, listed.since, listed.why)


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(canonical.MOST_BYTES + 1)
    except OSError as error:
        found = error.strerror or "none"
        raise DataError("a readable list of released models", found, "name the file") from None
