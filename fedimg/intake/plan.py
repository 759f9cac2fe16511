"""What a run would do to every input, without doing it: nothing is written beside a scratch folder in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedimg.crypto.keys import SiteKey
from fedimg.intake.config import IntakeConfig
from fedimg.intake.decisions import Decisions
from fedimg.intake.folder import FolderInputs, ListedInputs
from fedimg.intake.release import Releaser
from fedimg.intake.station import Progress
from fedimg.intake.survey import survey
from fedimg.intake.task import Outcome, Task
from fedimg.values import Quarantine

_MEMORY = Path("/dev/shm")  # noqa: S108 - a scratch folder of mode 0700 is made in it


@dataclass(frozen=True, slots=True)
class Planned:
    """One input. `reason` None: it would be released. `actions` counts attributes by action."""

    position: int
    reason: Quarantine | None
    detail: str | None
    route: str
    actions: dict[str, int]
    masked: int


def plan(
    items: FolderInputs, site_key: SiteKey, config: IntakeConfig, progress: Progress | None = None
) -> Iterator[Planned]:
    """One entry per input, in order. Pseudonyms do not show, so any key will do."""
    total = len(items)
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch())
        decisions = stack.enter_context(Decisions())
        release = config.release(labelled=False, root=items.root)
        found = survey(items, scratch, follow_links=False)
        releaser = Releaser(site_key, release, scratch, found)
        for position, item in enumerate(ListedInputs(found)):
            yield _planned(releaser.judge(Task(position, 0, item)), decisions)
            if progress is not None:
                progress(position + 1, total)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def _planned(outcome: Outcome, decisions: Decisions) -> Planned:
    reason, output = outcome.reason, str(outcome.output)
    if reason is None:
        if decisions.owned_by_another(outcome.link, outcome.pixel_digest, output):
            reason = Quarantine.DUPLICATE
        else:
            decisions.own(outcome.link, outcome.pixel_digest, output)
    pixels = outcome.evidence.get("pixels", {})
    return Planned(
        outcome.position,
        reason,
        outcome.detail,
        str(pixels.get("route", "")),
        dict(outcome.evidence.get("actions", {})),
        len(pixels.get("masked", ())),
    )
