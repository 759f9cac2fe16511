"""Drift histograms of the sites: taken in, verified, compared, and kept beside the federation.

FOLDER/drift/          0700
  files/DIGEST.json    what sites have sent, byte for byte, under its SHA-256
  rounds/NAME.json     what was found of one model in one period; made of the files anew whenever one comes

A round is a model and a period. A site has one file in it: a second one, the same one again, another federation's,
or one that no member signed is refused, and with it all that came in the same call. Nothing of a patient is in any of
it but what the noise lets through, so what is done with it here costs nothing further.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from fedimg.durable import locked, sync_folder, write_durably
from fedimg.errors import DataError
from fedimg.federation import Manifest
from fedimg.monitoring.across_sites import LEVEL, Compared, Noised, compare, shares
from fedimg.monitoring.shared_histograms import MOST_BYTES, SharedHistograms, edges_of
from fedimg.privacy.chain import head_of
from server.federation_folder import FederationFolder

DRIFT: Final = "drift"
_FORMAT: Final = "fedimg drift round 1"
_REMEDY = "nothing of this call was taken in: leave that file out"


@dataclass(frozen=True, slots=True)
class Round:
    """What was found of one model in one period.

    Attributes:
        name: of its file. model: the bundle's digest. first, last: days. level: over all tests of the round.
        sites: name → patients' ε, δ and the noise's standard deviation, of its file. compared: of each stream and site.
        shares: stream → site → share of its patients in each bin, of 0 or more; a site that does not stand out of its
        noise is left out.
    """

    name: str
    model: str
    first: str
    last: str
    level: float
    sites: Mapping[str, Mapping[str, float]]
    compared: tuple[Compared, ...]
    shares: Mapping[str, Mapping[str, Sequence[float]]]

    @property
    def flagged(self) -> tuple[Compared, ...]:
        """The clearest first."""
        return tuple(
            sorted((one for one in self.compared if one.flagged), key=lambda one: (one.p, -one.distance))
        )

    def to_json(self) -> dict[str, Any]:
        """A distance that was not told is null."""
        rows = [asdict(one) for one in self.compared]
        told = [row | {"distance": row["distance"] if row["told"] else None} for row in rows]
        return {"format": _FORMAT, **asdict(self), "compared": told}


def take_in(folder: FederationFolder, files: Sequence[Path], level: float = LEVEL) -> list[Round]:
    """Verify files, keep them, and compare the rounds that they belong to. All of them, or none.

    Without files: what a kill has left undone.

    Raises DataError for the first file that is refused.
    """
    manifest = _members(folder)
    root = folder.root / DRIFT
    for part in (root, root / "files", root / "rounds"):
        part.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.root)
    with locked(root):
        known = _kept(root)
        taken: dict[str, tuple[bytes, SharedHistograms]] = {}
        for place, file in enumerate(files, start=1):
            data = _bounded(file, place)
            found = _verified(data, manifest, place)
            before = [*known.values(), *(one for _, one in taken.values())]
            _refuse_known(found, before, place)
            taken[hashlib.sha256(data).hexdigest()] = data, found
        everything = [*known.values(), *(one for _, one in taken.values())]
        touched = {_name(one) for _, one in taken.values()} | _unfinished(root, everything)
        made = [_compared(name, _of_round(name, everything, manifest), level) for name in sorted(touched)]
        for name in touched:  # one that a kill leaves without its file is made anew by the next call
            (root / "rounds" / f"{name}.json").unlink(missing_ok=True)
        sync_folder(root / "rounds")
        for digest, (data, _) in taken.items():
            write_durably(root / "files" / f"{digest}.json", data)
        for one in made:
            text = json.dumps(one.to_json(), indent=1, sort_keys=True, allow_nan=False)
            write_durably(root / "rounds" / f"{one.name}.json", text + "\n")
    return made


def rounds(folder: FederationFolder) -> list[Round]:
    """All of them, the latest period first. Raises DataError for one that does not parse."""
    found = [_read(file) for file in (folder.root / DRIFT / "rounds").glob("*.json")]
    return sorted(found, key=lambda one: (one.last, one.first, one.name), reverse=True)


def _members(folder: FederationFolder) -> Manifest:
    last = folder.last()
    if last is None:
        raise DataError("a federation with a bundle", "one without", "fedimg provision bundle FOLDER")
    return last.manifest


def _bounded(file: Path, place: int) -> bytes:
    """No more of a file than it may have. The error names it by its place: a name may say more than it should."""
    try:
        with file.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except OSError as fault:
        why = fault.strerror or "an error"
        raise DataError(f"a file {place} that can be read", why, _REMEDY) from None


def _verified(data: bytes, manifest: Manifest, place: int) -> SharedHistograms:
    try:
        found = SharedHistograms.read(data)
    except DataError as fault:
        raise DataError(f"{fault.expected} (file {place})", fault.found, _REMEDY) from None
    if found.federation != manifest.id:
        raise DataError("files of this federation", f"another's (file {place})", _REMEDY)
    member = manifest.members.get(found.site)
    if member is None or member.identity.hex() != found.identity:
        raise DataError("files that members have signed", f"another's (file {place})", _REMEDY)
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    if found.last > tomorrow:
        raise DataError("a period of the past", f"one of the future (file {place})", _REMEDY)
    return found


def _refuse_known(found: SharedHistograms, known: Iterable[SharedHistograms], place: int) -> None:
    """One file of a site in a round; and one entry of a ledger is one release."""
    number = head_of(found.release).sequence
    for other in known:
        if other.identity != found.identity:
            continue
        if _name(other) == _name(found) or head_of(other.release).sequence == number:
            here = f"one that {found.site} has given already, or a second one of it (file {place})"
            raise DataError(
                "one file of a site for a model and period, each of its own charge", here, _REMEDY
            )


def _kept(root: Path) -> dict[str, SharedHistograms]:
    """Digest → file, of those that were taken in. Raises DataError where one was changed since."""
    found = {}
    for file in sorted((root / "files").glob("*.json")):
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != file.stem:
            raise DataError(
                "drift histograms as they were taken in", "a changed file", "restore the folder's backup"
            )
        found[file.stem] = SharedHistograms.read(data)
    return found


def _name(one: SharedHistograms) -> str:
    return f"{one.model}-{one.first}-{one.last}"


def _unfinished(root: Path, everything: Iterable[SharedHistograms]) -> set[str]:
    """Rounds that have files, and nothing that was found of them."""
    return {name for name in map(_name, everything) if not (root / "rounds" / f"{name}.json").exists()}


def _of_round(
    name: str, everything: Iterable[SharedHistograms], manifest: Manifest
) -> list[SharedHistograms]:
    """Its files, of those who are members now."""
    identities = {name: member.identity.hex() for name, member in manifest.members.items()}
    return [one for one in everything if _name(one) == name and identities.get(one.site) == one.identity]


def _compared(name: str, files: Sequence[SharedHistograms], level: float) -> Round:
    streams: dict[str, dict[str, Noised]] = {}
    for one in sorted(files, key=lambda one: one.site):
        for stream, counts in one.counts.items():
            streams.setdefault(stream, {})[one.site] = Noised(counts, one.noise_std)
    several = {stream: own for stream, own in streams.items() if len(own) > 1}
    shown = {
        stream: {
            site: [float(share) for share in shares(noised)]
            for site, noised in own.items()
            if noised.stands_out
        }
        for stream, own in streams.items()
    }
    sites = {
        one.site: {"epsilon": one.epsilon, "delta": one.delta, "noise_std": one.noise_std} for one in files
    }
    model, first, last = name[:64], name[65:75], name[76:]
    return Round(name, model, first, last, level, sites, compare(several, level), shown)


def _read(file: Path) -> Round:
    try:
        found = json.loads(file.read_bytes())
        if found.pop("format") != _FORMAT:
            raise ValueError
        rows = [
            row
            | {
                "distance": math.nan if row["distance"] is None else row["distance"],
                "but_for": tuple(row["but_for"]),
            }
            for row in found["compared"]
        ]
        made = Round(**(found | {"compared": tuple(Compared(**row) for row in rows)}))
        for stream in made.shares:
            edges_of(stream)
        for day in (made.first, made.last):
            date.fromisoformat(day)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DataError):
        raise DataError(
            "what was found of a round", "a file that does not parse", "take its files in again"
        ) from None
    return made
