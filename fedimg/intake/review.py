"""The way out of quarantine: a person looks at one file, and releases it or lets it go.

What may be overridden is a false alarm of a search: words in the written bytes that are not the
patient's, or text seen in pixels. Never what breaks the profile: a structure that the table does not
name, a missing patient number, an object that is not released, pixels that could not be proven.
Everything else of the way is gone through again, the survey of the subject's other files included.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fedimg.crypto.keys import write_secret
from fedimg.dicom import receipts
from fedimg.dicom.receipts import Receipt, ReceiptLog
from fedimg.errors import ConfigError, DataError
from fedimg.home import ReleaseFolder
from fedimg.intake import batch, index, preview
from fedimg.intake.admission import anchor_of
from fedimg.intake.basis import Basis
from fedimg.intake.config import IntakeConfig
from fedimg.intake.decisions import Decisions
from fedimg.intake.folder import FolderInputs, ListedInputs
from fedimg.intake.release import Releaser
from fedimg.intake.survey import survey
from fedimg.intake.task import Outcome, Task
from fedimg.values import Quarantine

OVERRIDABLE: Final = frozenset({Quarantine.RESIDUAL_IDENTIFIER, Quarantine.BURNED_IN_TEXT})
REASONS: Final[Mapping[str, str]] = {
    "no-text": "there is no text in the pixels",
    "technical-text": "the text in the pixels names no person, place, number or date",
    "coincidence": "the word or number that was found is not the patient's",
}
_REVIEWER = re.compile(r"[\w .,@+-]{1,64}")
_FOLDER = "previews"


@dataclass(frozen=True, slots=True)
class Held:
    """One input in quarantine. `reviewed`: what a person decided, empty if nobody has."""

    position: int
    reason: str
    detail: str
    link: str
    overridable: bool
    reviewed: Mapping[str, str]


def held_back(folder: ReleaseFolder) -> list[Held]:
    """What is in quarantine, by run position. Raises ReceiptError."""
    last: dict[str, Receipt] = {}
    for receipt in receipts.read(folder.receipts, folder.signing_key.public_bytes, anchor_of(folder)):
        if receipt.decision == "quarantined":
            last[receipt.link] = replace(receipt, evidence={}, profile={}, versions={})
        else:
            last.pop(receipt.link, None)
    found = [
        Held(r.position, r.reason or "", r.detail or "", r.link, r.reason in OVERRIDABLE, r.review)
        for r in last.values()
    ]
    return sorted(found, key=lambda held: held.position)


class Review:
    """Decisions on single inputs of a folder.

    Args:
        folder: what the run filled. inputs: what it was filled from; originals are kept nowhere else.
        config: of that run. Another profile or project than its receipts name is refused.
    """

    def __init__(self, folder: ReleaseFolder, inputs: FolderInputs, config: IntakeConfig) -> None:
        self._folder, self._inputs, self._config = folder, inputs, config
        self._basis = config.basis(folder.site_key)

    def preview(self, position: int, picture: Path, frame: int = 0) -> Mapping[str, Any]:
        """Write a picture of what was held back, and beside it what was found; both confidential.

        Returns what was found. Raises ConfigError where the picture's folder is not of mode 0700.
        """
        if not picture.parent.is_dir() or stat.S_IMODE(picture.parent.stat().st_mode) & 0o077:
            remedy = "make one with `mkdir -m 700`: the picture may show who the patient is"
            raise ConfigError("a folder of mode 0700 for the preview", "another, or none", remedy)
        held = _held(self._folder, position)
        with _locked(self._folder, self._basis), self._releaser() as releaser:
            task = self._task(releaser, held)
            found = preview.of(releaser, task, frame)
        write_secret(picture, found.png)
        noted = {"position": position, "reason": held.reason, **found.notes}
        seen = _seen(self._folder, held)
        seen.parent.mkdir(mode=0o700, exist_ok=True)
        seen.unlink(missing_ok=True)
        write_secret(seen, json.dumps(noted, indent=1, ensure_ascii=True).encode())
        return noted

    def release(self, position: int, reason: str, reviewer: str) -> Outcome:
        """Release what was held back as a false alarm.

        Raises ConfigError for a reason code or finding that nobody may override, or where nobody has
        looked at the preview; DataError where the input does not pass all the same.
        """
        if reason not in REASONS:
            raise ConfigError(f"a reason among {', '.join(REASONS)}", "another one", "choose what you saw")
        held = _held(self._folder, position)
        if not held.overridable:
            allowed = ", ".join(sorted(OVERRIDABLE))
            raise ConfigError(
                f"a finding that may be a false alarm: {allowed}", held.reason, "repair the input"
            )
        if not _seen(self._folder, held).exists():
            remedy = f"look at it first: fedimg deidentify review … preview {position} FILE.png"
            raise ConfigError("a preview of this input that was looked at", "none", remedy)
        with _locked(self._folder, self._basis) as (log, decisions), self._releaser() as releaser:
            task = replace(self._task(releaser, held), accepted=frozenset({Quarantine(held.reason)}))
            outcome = releaser.take(task)
            refused = outcome.reason
            if refused is None and decisions.owned_by_another(
                outcome.link, outcome.pixel_digest, str(outcome.output)
            ):
                refused = Quarantine.DUPLICATE
            if refused is not None or outcome.temporary is None:
                batch.clear(self._folder)
                remedy = "only the finding that was looked at is overridden; repair the input for the other"
                raise DataError("an input that passes everything else", str(refused), remedy)
            signed = _signed("release", reviewer, reason)
            line = self._basis.receipt(outcome, task.item, None, review=signed | {"finding": held.reason})
            with batch.Batch(self._folder, log, None) as releases:
                releases.release(line, outcome)
                releases.commit()
        _seen(self._folder, held).unlink()
        return outcome

    @contextmanager
    def _releaser(self) -> Iterator[Releaser]:
        """With the survey of all inputs, as in the run."""
        folder = self._folder
        try:
            found = survey(self._inputs, folder.quarantine, follow_links=False)
            release = self._config.release(labelled=False, root=self._inputs.root)
            yield Releaser(folder.site_key, release, folder.quarantine, found)
        finally:
            index.remove(folder.quarantine)

    def _task(self, releaser: Releaser, held: Held) -> Task:
        """The input behind a receipt: at its run position, else by its keyed link."""
        listed = ListedInputs(self._folder.quarantine / index.NAME)
        moved: list[Task] = []
        for position, item in enumerate(listed):
            task = Task(position, 0, item)
            if position == held.position:
                if releaser.link_of(task) == held.link:
                    return task
            else:
                moved.append(task)
        for task in moved:
            if releaser.link_of(task) == held.link:
                return task
        remedy = "name the folder of that run, with the input unchanged"
        raise DataError(f"the input of run position {held.position}", "another one, or none", remedy)


def discard(folder: ReleaseFolder, config: IntakeConfig, position: int, reviewer: str) -> None:
    """Note that an input stays where it is, for good: it is not listed as open any more."""
    held, basis = _held(folder, position), config.basis(folder.site_key)
    line = Receipt(
        held.position,
        held.link,
        "quarantined",
        held.reason,
        held.detail or None,
        profile=basis.profile,
        origin=basis.origin,
        versions=basis.versions,
        review=_signed("discard", reviewer, ""),
    )
    with _locked(folder, basis) as (log, _):
        log.append(line)
        log.checkpoint()
    _seen(folder, held).unlink(missing_ok=True)


def _signed(action: str, reviewer: str, reason: str) -> dict[str, str]:
    if not _REVIEWER.fullmatch(reviewer):
        raise ConfigError(
            "the reviewer's name or number", "none, or one with odd characters", "give --reviewer"
        )
    time = datetime.now(UTC).isoformat(timespec="seconds")
    signed = {"action": action, "reviewer": reviewer, "time": time}
    return signed | ({"reason": reason} if reason else {})


def _held(folder: ReleaseFolder, position: int) -> Held:
    for held in held_back(folder):
        if held.position == position:
            return held
    raise DataError(f"an input in quarantine at position {position}", "none", "see `review OUT list`")


def _seen(folder: ReleaseFolder, held: Held) -> Path:
    return folder.quarantine / _FOLDER / f"{held.link}.json"


@contextmanager
def _locked(folder: ReleaseFolder, basis: Basis) -> Iterator[tuple[ReceiptLog, Decisions]]:
    with ReceiptLog(folder.receipts, folder.signing_key, anchor_of(folder)) as log, Decisions() as decisions:
        for receipt in receipts.read(folder.receipts, folder.signing_key.public_bytes):
            basis.check(receipt)
            decisions.note(receipt)
        batch.finish(folder, decisions)
        yield log, decisions
