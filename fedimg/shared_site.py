"""Several homes of one site: a home for each study, with one identity and one ledger.

A patient's budget is the site's, for good; a home is filled for one project. So the home of a second study
refers to the first one's keys and ledger and has none of its own. The reference is the folder's real path and
its public key, and nothing else is followed: no link, and no home that refers further.

The user's state folder notes which site this is, so that a second ledger is not opened for the same patients
by oversight. A note that is lost loses that warning, not the ledger.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fedimg.crypto.keys import write_secret
from fedimg.durable import locked, write_durably
from fedimg.errors import DataError

FIELD = "site"  # of home.json


@dataclass(frozen=True)
class FirstHome:
    """The home that holds a site's keys and ledger: its absolute path and its public key, hex."""

    home: str
    key: str

    @classmethod
    def of(cls, root: Path, public_key: bytes) -> Self:
        return cls(str(root.resolve()), public_key.hex())

    @classmethod
    def read(cls, marker: Mapping[str, Any]) -> Self | None:
        """From a home.json; None for a first home. Raises DataError where it does not parse."""
        if FIELD not in marker:
            return None
        try:
            named = marker[FIELD]
            return cls(str(named["home"]), bytes.fromhex(named["key"]).hex())
        except (KeyError, TypeError, ValueError):
            raise _changed("one that does not parse") from None

    @property
    def root(self) -> Path:
        """Raises DataError unless it is a folder at that very path, and this user's."""
        path = Path(self.home)
        try:
            real, owner = path.resolve(strict=True), path.stat().st_uid
        except OSError:
            raise _changed("none there") from None
        if real != path or not path.is_dir():
            raise _changed("a link, or no folder")
        if owner != os.geteuid():
            raise _changed("a folder of another user")
        return path

    def check(self, public_key: bytes) -> None:
        """Raises DataError where another site's keys are there now."""
        if public_key.hex() != self.key:
            raise _changed("one with another key")

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def _changed(found: str) -> DataError:
    remedy = "put the site's first home back where it was; its ledger counts for this one too"
    return DataError("the first home of this site, as home.json names it", found, remedy)


def state_folder() -> Path:
    """What this machine's user notes apart from all folders."""
    own, xdg = os.environ.get("FEDIMG_STATE_DIR"), os.environ.get("XDG_STATE_HOME")
    return Path(own) if own else (Path(xdg) if xdg else Path.home() / ".local" / "state") / "fedimg"


def first_homes(state: Path) -> tuple[FirstHome, ...]:
    """The sites that this user has made on this machine, as `state` notes them."""
    found = []
    for file in sorted((state / "sites").glob("*.json")):
        try:
            entry = json.loads(file.read_bytes())
            found.append(FirstHome(str(entry["home"]), str(entry["key"])))
        except (OSError, ValueError, KeyError, TypeError):
            raise DataError(
                "the notes of the sites that were made here", "one that does not parse", f"look at {file}"
            ) from None
    return tuple(found)


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Nobody else makes a site meanwhile. Raises DataError where nothing may be noted."""
    folder = state / "sites"
    lock = ExitStack()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.enter_context(locked(folder))
    except OSError as error:
        raise DataError(
            "a folder in which this machine notes its sites",
            error.strerror or "an error",
            "set FEDIMG_STATE_DIR to one that can be written",
        ) from None
    with lock:
        yield


def check_only(state: Path, root: Path) -> None:
    """Refuse a fresh ledger beside one that this machine knows.

    Raises:
        DataError: a site was made here, at another place than `root`; or the home and ledger at `root` are gone.
    """
    for known in first_homes(state):
        here = Path(known.home) == root.resolve()
        if here and (root / "signing.key").exists():
            continue  # a making that was interrupted goes on; whatever else is there is refused by the home
        raise DataError(
            "no site on this machine yet: its patients have one ledger, for good",
            "one whose home is gone" if here else f"the site with its first home at {known.home}",
            "restore it; or, if no patient can be of both sites, add --another-site"
            if here
            else f"add --site {known.home}: both studies then share keys and ledger. Only if no patient can be of both "
            "sites: --another-site",
        )


def note(state: Path, first: FirstHome) -> None:
    """Keep that this site was made here. Before its ledger is: no ledger is without its note."""
    file = state / "sites" / f"{first.key[:32]}.json"
    if not file.exists():
        write_secret(file, json.dumps(first.as_json()).encode())


def check_lost(state: Path, key: str) -> None:
    """Refuse a second home under a site's keys beside the one that is there. Raises DataError.

    Two ledgers under one key would each spend the same patients' budget.
    """
    for known in first_homes(state):
        if known.key == key and (Path(known.home) / "signing.key").exists():
            raise DataError(
                "a site whose home was lost",
                f"its home at {known.home}",
                "go on with that one; or, if it is damaged, move it away before you restore",
            )


def note_moved(state: Path, first: FirstHome) -> None:
    """The same as `note` for a home that was restored, maybe at another place than before."""
    write_durably(state / "sites" / f"{first.key[:32]}.json", json.dumps(first.as_json()))
