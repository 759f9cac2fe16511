"""What a folder's receipts say together: the last decision about every input, counted; and which images to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fedimg.dicom import receipts
from fedimg.dicom.masks import areas_of
from fedimg.dicom.receipts import Receipt
from fedimg.home import ReleaseFolder
from fedimg.intake.admission import anchor_of
from fedimg.values import Area, Quarantine


@dataclass(frozen=True, slots=True)
class Example:
    """A released image that shows what was done. `masked`: areas that were filled in it."""

    position: int
    link: str
    output: str
    modality: str
    masked: tuple[Area, ...]


@dataclass
class Tally:
    """Exact counts, for the site itself only.

    Attributes:
        released, bytes_released: files and their size. held: run positions by reason.
        actions: attributes by action of PS3.15 over all released files. private: private attributes removed.
        layers: files by pixel layer that ran. masked: files with filled areas.
        modalities: released files. profile, project: of the releases, "" where there are none.
        examples: of each modality the image with the most filled areas and the first with none.
    """

    released: int = 0
    bytes_released: int = 0
    held: dict[Quarantine, list[int]] = field(default_factory=dict)
    actions: Counter[str] = field(default_factory=Counter)
    private: int = 0
    layers: Counter[str] = field(default_factory=Counter)
    masked: int = 0
    modalities: Counter[str] = field(default_factory=Counter)
    profile: str = ""
    project: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def inputs(self) -> int:
        """Inputs that have a decision."""
        return self.released + sum(len(found) for found in self.held.values())


def tally(folder: ReleaseFolder) -> Tally:
    """Verify the receipts and count the last one about each input. Raises ReceiptError."""
    last = {receipt.link: line for line, receipt in enumerate(_receipts(folder))}
    found = Tally()
    shown: dict[tuple[str, bool], Example] = {}
    for line, receipt in enumerate(_receipts(folder)):
        if last[receipt.link] != line:
            continue
        if receipt.decision == "released":
            _count(found, receipt)
            _choose(shown, receipt)
        else:
            reason = Quarantine(receipt.reason or Quarantine.UNREADABLE)
            found.held.setdefault(reason, []).append(receipt.position)
    found.examples = tuple(shown[key] for key in sorted(shown))
    return found


def _receipts(folder: ReleaseFolder) -> Iterator[Receipt]:
    return receipts.read(folder.receipts, folder.signing_key.public_bytes, anchor_of(folder))


def _count(found: Tally, receipt: Receipt) -> None:
    found.released += 1
    found.bytes_released += receipt.size or 0
    found.actions.update(receipt.evidence.get("actions", {}))
    found.private += receipt.evidence.get("private", 0)
    found.layers.update(receipt.evidence.get("pixels", {}).get("layers", ()))
    found.masked += bool(areas_of(receipt.evidence))
    found.modalities[receipt.modality or "OT"] += 1
    found.profile = str(receipt.profile.get("name", ""))
    found.project = str(receipt.origin.get("project", ""))


def _choose(shown: dict[tuple[str, bool], Example], receipt: Receipt) -> None:
    masked, modality = areas_of(receipt.evidence), receipt.modality or "OT"
    earlier = shown.get((modality, bool(masked)))
    if earlier is None or len(earlier.masked) < len(masked):
        shown[modality, bool(masked)] = Example(
            receipt.position, receipt.link, receipt.output or "", modality, masked
        )
