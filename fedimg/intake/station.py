"""The intake: survey, tasks to the pool, outcomes to the release tree, one receipt per input, in order.

What is written when, so that a kill at any instant leaves a clean release tree, is in `batch`. A
run that is started again signs nothing anew that was signed, and ends like one never broken.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fedimg.dicom import receipts
from fedimg.dicom.receipts import ReceiptLog
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError, DataError
from fedimg.home import ReleaseFolder, SiteHome
from fedimg.intake import batch, index, targets
from fedimg.intake.admission import anchor_of, record_of
from fedimg.intake.config import IntakeConfig
from fedimg.intake.decisions import Decision, Decisions, basis_of, decision_of
from fedimg.intake.folder import FolderInputs, ListedInputs
from fedimg.intake.labels import Label, LabelFile, label_key
from fedimg.intake.pool import ReleasePool, Workplace
from fedimg.intake.release import FULL_DISK, Releaser
from fedimg.intake.report import report_text
from fedimg.intake.survey import survey
from fedimg.intake.task import Outcome, Task, tasks_of
from fedimg.subgroups import UNKNOWN, merged
from fedimg.values import DeidentifiedRecord, Quarantine, SourceItem

Inputs = Sequence[SourceItem] | FolderInputs


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What one run of the intake did.

    Attributes:
        records: of this run's items that are released, in order, those of earlier runs included;
            empty for inputs without labels. released: their number.
        quarantined: counts by reason. positions: the run positions behind them.
        bytes_in: size of all inputs read. bytes_taken, bytes_released: sizes of the inputs that are
            released, and of what was released of them.
        resumed: items whose released file was there already.
    """

    records: tuple[DeidentifiedRecord, ...]
    quarantined: Mapping[Quarantine, int]
    bytes_in: int
    bytes_released: int
    positions: Mapping[Quarantine, tuple[int, ...]] = field(default_factory=dict)
    resumed: int = 0
    released: int = 0
    bytes_taken: int = 0

    def report(self) -> str:
        """For the site's operator: counts, remedies, positions; no patient data."""
        return report_text(self.released, self.positions)


Progress = Callable[[int, int], None]
"""(done, total)."""


def run_intake(
    items: Inputs,
    home: ReleaseFolder,
    config: IntakeConfig | None = None,
    progress: Progress | None = None,
    surveying: Progress | None = None,
) -> IntakeResult:
    """Take every item in: release it or hold it back, with one receipt each.

    Into a `SiteHome` only what has a label is released, unless the items are a folder's. A second
    run with the same items takes up where the first was interrupted.

    Raises DataError for a full disk (receipts and released files stay valid), ConfigError for a
    bad configuration or one that the folder was not filled under, ReceiptError where the receipts
    do not verify.
    """
    config = config or IntakeConfig()
    if config.workers < 0 or config.seconds_per_file < 0 or not config.project:
        raise ConfigError(
            "a number of processes, a time for a file and a project name",
            "a negative number, or no name",
            "set deid.workers, deid.seconds_per_file and deid.project",
        )
    run = _Run(items, home, config)
    try:
        with ReceiptLog(home.receipts, home.signing_key, anchor_of(home)) as log, Decisions() as decisions:
            return run.all_items(log, decisions, progress, surveying)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise _full_disk() from None
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise _full_disk() from None


def _full_disk() -> DataError:
    return DataError(
        "room on the disk of the site's home",
        "a full disk; what was released before is valid",
        "free space and start the intake again: it goes on where it stopped",
    )


class _Run:
    """State of one run; the pool works, this decides."""

    def __init__(self, items: Inputs, home: ReleaseFolder, config: IntakeConfig) -> None:
        self._items, self._home, self._workers = items, home, config.workers
        self._seconds = config.seconds_per_file
        root = items.root if isinstance(items, FolderInputs) else None
        self._release = config.release(labelled=root is None, root=root)
        self._labelled = root is None and isinstance(home, SiteHome)
        self._basis = config.basis(home.site_key)
        self._digest = basis_of(self._basis.profile, self._basis.origin)
        self._records: list[DeidentifiedRecord] = []
        self._positions: dict[Quarantine, list[int]] = {}
        self._bytes_in = self._bytes_taken = self._bytes_out = self._resumed = self._released = 0

    def all_items(
        self, log: ReceiptLog, decisions: Decisions, progress: Progress | None, surveying: Progress | None
    ) -> IntakeResult:
        self._load_earlier(decisions)
        batch.finish(self._home, decisions)
        total = len(self._items)
        report = None if surveying is None else (lambda done: surveying(done, total))
        quarantine, found = self._home.quarantine, self._home.quarantine / index.NAME
        place = Workplace(self._home.site_key, self._release, quarantine, found, self._seconds)
        try:
            with ReleasePool(place, self._workers) as pool:
                pool.start()
                survey(self._items, quarantine, report, follow_links=self._release.follow_links)
                releaser = place.releaser() if len(log) else None
                if self._labelled and isinstance(self._home, SiteHome):
                    with LabelFile(self._home.labels) as labels:
                        self._take_in(pool, releaser, log, decisions, labels, progress)
                    targets.prune(self._home.root, labels.targets)
                else:
                    self._take_in(pool, releaser, log, decisions, None, progress)
        finally:
            index.remove(self._home.quarantine)
            batch.clear(self._home)
        positions = {reason: tuple(found) for reason, found in sorted(self._positions.items())}
        return IntakeResult(
            tuple(self._records),
            {reason: len(found) for reason, found in positions.items()},
            self._bytes_in,
            self._bytes_out,
            positions,
            self._resumed,
            self._released,
            self._bytes_taken,
        )

    def _load_earlier(self, decisions: Decisions) -> None:
        """Take up what was decided. Raises ConfigError for files of another profile, project or key."""
        for receipt in receipts.read(self._home.receipts, self._home.signing_key.public_bytes):
            self._basis.check(receipt)
            decisions.note(receipt)

    def _take_in(
        self,
        pool: ReleasePool,
        releaser: Releaser | None,
        log: ReceiptLog,
        decisions: Decisions,
        labels: LabelFile | None,
        progress: Progress | None,
    ) -> None:
        found, total = self._home.quarantine / index.NAME, len(self._items)
        listed = ListedInputs(found) if isinstance(self._items, FolderInputs) else None
        tasks = self._pending(listed or self._items, releaser, decisions, labels)
        with batch.Batch(self._home, log, labels) as releases:
            try:
                for task, outcome in pool.outcomes(tasks):
                    self._settle(task, outcome, decisions, releases, labels)
                    if progress is not None:
                        progress(task.position + 1, total)
            except BaseException:
                with suppress(OSError):  # the first fault is told; what is not signed is taken in again
                    releases.commit()
                raise
            releases.commit()

    def _pending(
        self,
        items: Iterable[SourceItem],
        releaser: Releaser | None,
        decisions: Decisions,
        labels: LabelFile | None,
    ) -> Iterator[Task]:
        """The items that are not settled by an earlier run."""
        for task in tasks_of(items, distinct=isinstance(self._items, FolderInputs)):
            item = task.item
            earlier = decisions.get(releaser.link_of(task)) if releaser is not None else None
            if earlier is None or not self._stands(earlier, item):
                yield task
                continue
            if labels is not None and item.label is not None:
                known = labels.get(label_key(earlier.keys))
                kept = self._kept_target(item, known)
                if kept is None:
                    yield task
                    continue
                groups = merged(item.groups, known.groups if known is not None else UNKNOWN)
                self._note(labels, earlier, Label.of(item, *kept, groups))
            size = _size_of(item.path)
            self._bytes_in += size
            self._bytes_taken += size
            self._bytes_out += earlier.size
            self._resumed += 1
            self._released += 1

    def _note(self, labels: LabelFile, decision: Decision, label: Label) -> None:
        labels.put(label_key(decision.keys), label)
        self._records.append(record_of(decision, label))

    def _kept_target(self, item: SourceItem, known: Label | None) -> tuple[str, str] | None:
        """Target and drawing of an item whose release stands; None where they have to be made (again)."""
        try:
            drawn = targets.drawn_digest(item, targets.key_of(self._home.site_key))
        except Quarantined:
            return None
        if not drawn:
            return "", ""
        if known is None or known.drawn != drawn:
            return None
        return (known.target, drawn) if targets.whole(self._home.root, known.target) else None

    def _stands(self, earlier: Decision, item: SourceItem) -> bool:
        """Whether an earlier release is still there, byte for byte, under the same profile and with a label."""
        if earlier.decision != "released" or earlier.basis != self._digest:
            return False
        if self._release.labelled and item.label is None:
            return False
        return batch.sha256_of(self._home.released / (earlier.output or "")) == earlier.sha256

    def _settle(
        self,
        task: Task,
        outcome: Outcome,
        decisions: Decisions,
        releases: batch.Batch,
        labels: LabelFile | None,
    ) -> None:
        self._bytes_in += outcome.size_in
        output, reason, detail = str(outcome.output), outcome.reason, outcome.detail
        # The same pixels of the same patient, or the same instance number, under another link.
        if reason is None and decisions.owned_by_another(outcome.link, outcome.pixel_digest, output):
            reason, detail = Quarantine.DUPLICATE, None
        receipt = self._basis.receipt(outcome, task.item, reason, detail)
        made, earlier = decision_of(receipt), decisions.get(outcome.link)
        line = None if earlier is not None and earlier.same_as(made) else receipt
        if reason is not None or outcome.temporary is None:
            if outcome.temporary is not None:
                (self._home.quarantine / outcome.temporary).unlink()
            self._positions.setdefault(reason or Quarantine.NO_LABEL, []).append(outcome.position)
            releases.hold_back(line, earlier.output if earlier is not None else None)
            return
        item = task.item
        if labels is not None and item.label is not None:
            kept = ("", "")
            if outcome.voxels is not None:
                kept = targets.store(self._home.root, outcome.voxels), outcome.voxels.drawn
            groups = merged(item.groups, outcome.groups)
            self._note(labels, made, Label.of(item, *kept, groups))
        self._bytes_taken += outcome.size_in
        self._bytes_out += outcome.size
        self._released += 1
        decisions.own(outcome.link, outcome.pixel_digest, output)
        releases.release(line, outcome)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was read a moment ago; its size is for the report only
        return 0
