"""The intake: tasks to the pool, outcomes to the release tree, one receipt per input, in order.

Order of writing, so that a kill at any instant leaves a clean release tree: file in quarantine →
gate → rename into the tree → label → receipt → signed checkpoint. What is in the tree
without a signed receipt is de-identified, not admitted, and replaced by the same bytes next time.
"""

from __future__ import annotations

import errno
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any, Literal

from fedimg.dicom import receipts
from fedimg.dicom.profile import load_profile
from fedimg.dicom.receipts import Receipt, ReceiptLog
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.intake.admission import record_of
from fedimg.intake.labels import LabelFile, label_key
from fedimg.intake.pool import ReleasePool
from fedimg.intake.release import Outcome, ReleaseConfig, Releaser, Task
from fedimg.intake.report import report_text
from fedimg.values import DeidentifiedRecord, Quarantine, SourceItem

_CHECKPOINT_EVERY = 256


@dataclass(frozen=True, slots=True)
class IntakeConfig:
    """Attributes: as `ReleaseConfig`; workers: processes (1: this one)."""

    profile: str = "train"
    project: str = "fedimg"
    workers: int = 1
    recompress: Literal["jpeg-ls", "none"] = "jpeg-ls"
    allow_secondary_capture: bool = True


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What one run of the intake did.

    Attributes:
        records: of this run's items that are released, in order, those of earlier runs included.
        quarantined: counts by reason. positions: the run positions behind them.
        bytes_in, bytes_released: sizes of the inputs read and of the released files.
        resumed: items whose released file was there already.
    """

    records: tuple[DeidentifiedRecord, ...]
    quarantined: Mapping[Quarantine, int]
    bytes_in: int
    bytes_released: int
    positions: Mapping[Quarantine, tuple[int, ...]] = field(default_factory=dict)
    resumed: int = 0

    def report(self) -> str:
        """For the site's operator: counts, remedies, positions; no patient data."""
        return report_text(len(self.records), self.positions)


def run_intake(
    items: Sequence[SourceItem],
    home: SiteHome,
    config: IntakeConfig | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IntakeResult:
    """Take every item in: release it or hold it back, with one receipt each.

    A second run with the same items takes up where the first was interrupted. `progress` is
    called as (done, total).

    Raises DataError for a full disk (receipts and released files stay valid), ConfigError for a
    bad configuration, ReceiptError where the home's receipts do not verify.
    """
    config = config or IntakeConfig()
    if config.workers < 1 or not config.project:
        raise ConfigError(
            "at least one worker and a project name", "neither or none", "set intake.workers ≥ 1"
        )
    run = _Run(home, config)
    try:
        with ReceiptLog(home.receipts, home.signing_key) as log, LabelFile(home.labels) as labels:
            _clear(home)  # of a run that was killed; the log's lock says that none is at work
            try:
                return run.all_items(items, log, labels, progress)
            finally:
                _clear(home)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            "room on the disk of the site's home",
            "a full disk; what was released before is valid",
            "free space and start the intake again: it goes on where it stopped",
        ) from None


def _clear(home: SiteHome) -> None:
    for leftover in (*home.quarantine.glob("*.part"), *home.quarantine.glob("*.capture")):
        leftover.unlink()


class _Run:
    """State of one run; the pool works, this decides."""

    def __init__(self, home: SiteHome, config: IntakeConfig) -> None:
        self._home, self._config = home, config
        self._release = ReleaseConfig(
            config.project, config.profile, config.recompress, config.allow_secondary_capture
        )
        profile = load_profile(config.profile)
        self._profile = {"name": profile.name, "digest": profile.digest, "edition": profile.edition}
        self._versions = {name: version(name) for name in ("fedimg", "pydicom")}
        # Of earlier runs: link → receipt without evidence; pixel digest → link; output → link.
        self._earlier: dict[str, Receipt] = {}
        self._pixels: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        self._records: list[DeidentifiedRecord] = []
        self._positions: dict[Quarantine, list[int]] = {}
        self._bytes_in = self._bytes_out = self._resumed = 0

    def all_items(
        self,
        items: Sequence[SourceItem],
        log: ReceiptLog,
        labels: LabelFile,
        progress: Callable[[int, int], None] | None,
    ) -> IntakeResult:
        if len(log):
            self._load_earlier()
        with ReleasePool(
            self._home.site_key, self._release, self._home.quarantine, self._config.workers
        ) as pool:
            for outcome in pool.outcomes(self._pending(items, labels)):
                self._settle(outcome, items[outcome.position], log, labels)
                if log.unsigned >= _CHECKPOINT_EVERY:
                    labels.flush()
                    log.checkpoint()
                if progress is not None:
                    progress(outcome.position + 1, len(items))
        labels.flush()
        log.checkpoint()
        positions = {reason: tuple(found) for reason, found in sorted(self._positions.items())}
        return IntakeResult(
            tuple(self._records),
            {reason: len(found) for reason, found in positions.items()},
            self._bytes_in,
            self._bytes_out,
            positions,
            self._resumed,
        )

    def _load_earlier(self) -> None:
        for receipt in receipts.read(self._home.receipts, self._home.signing_key.public_bytes):
            profile = self._profile if receipt.profile == self._profile else {}
            # Without what is not asked again: memory stays small over many receipts.
            slim = replace(receipt, evidence={}, gate={}, versions={}, profile=profile)
            self._earlier[receipt.link] = slim
            if receipt.decision == "released":
                self._pixels[receipt.pixel_digest or ""] = receipt.link
                self._outputs[receipt.output or ""] = receipt.link

    def _pending(self, items: Sequence[SourceItem], labels: LabelFile) -> Iterator[Task]:
        """The items that are not settled by an earlier run."""
        seen: Counter[str] = Counter()
        releaser = (
            Releaser(self._home.site_key, self._release, self._home.quarantine) if self._earlier else None
        )
        for position, item in enumerate(items):
            path = str(item.path.absolute())
            task = Task(position, seen[path], item)
            seen[path] += 1
            earlier = self._earlier.get(releaser.link_of(task)) if releaser is not None else None
            if earlier is None or not self._stands(earlier, item):
                yield task
                continue
            if item.label is not None:
                labels.put(label_key(earlier.keys), item.label, item.split)
                self._records.append(record_of(earlier, (item.label, item.split)))
            self._bytes_out += earlier.size or 0
            self._resumed += 1

    def _stands(self, receipt: Receipt, item: SourceItem) -> bool:
        """Whether an earlier release is still there, byte for byte, under the same profile and with a label."""
        if receipt.decision != "released" or item.label is None or receipt.profile != self._profile:
            return False
        try:
            data = (self._home.released / (receipt.output or "")).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == receipt.sha256

    def _settle(self, outcome: Outcome, item: SourceItem, log: ReceiptLog, labels: LabelFile) -> None:
        self._bytes_in += outcome.size_in
        reason = outcome.reason or self._duplicate(outcome)
        receipt = self._receipt(outcome, item, reason)
        if reason is not None or item.label is None or outcome.temporary is None:
            self._discard(outcome)
            self._positions.setdefault(reason or Quarantine.NO_LABEL, []).append(outcome.position)
        else:
            self._move(outcome)
            labels.put(label_key(outcome.keys), item.label, item.split)
            self._records.append(record_of(receipt, (item.label, item.split)))
            self._bytes_out += outcome.size
            self._pixels[outcome.pixel_digest] = self._outputs[str(outcome.output)] = outcome.link
        earlier = self._earlier.get(outcome.link)
        if (
            earlier is None
            or (earlier.decision, earlier.reason) != (receipt.decision, receipt.reason)
            or reason is None
        ):
            log.append(receipt)

    def _duplicate(self, outcome: Outcome) -> Quarantine | None:
        """The same pixels of the same patient, or the same instance number, under another link."""
        owners = (self._pixels.get(outcome.pixel_digest), self._outputs.get(str(outcome.output)))
        return Quarantine.DUPLICATE if any(owner not in (None, outcome.link) for owner in owners) else None

    def _receipt(self, outcome: Outcome, item: SourceItem, reason: Quarantine | None) -> Receipt:
        common: dict[str, Any] = {
            "position": outcome.position,
            "link": outcome.link,
            "profile": self._profile,
            "versions": self._versions,
        }
        if reason is not None:
            return Receipt(decision="quarantined", reason=reason.value, **common)
        return Receipt(
            decision="released",
            output=str(outcome.output),
            sha256=outcome.sha256,
            size=outcome.size,
            pixel_digest=outcome.pixel_digest,
            kind="nifti" if item.kind == "nifti" else "dicom",
            modality=outcome.modality,
            keys=outcome.keys,
            evidence=outcome.evidence,
            gate=outcome.gate,
            **common,
        )

    def _discard(self, outcome: Outcome) -> None:
        if outcome.temporary is not None:
            with suppress(FileNotFoundError):
                (self._home.quarantine / outcome.temporary).unlink()

    def _move(self, outcome: Outcome) -> None:
        target = self._home.released / str(outcome.output)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._home.quarantine / (outcome.temporary or "")).replace(target)
