"""Pixel layers L0 to L5 in their order, for one object: its stored values in, a proven release out.

L0 structure, L2 known regions, L3 graphics, L4 text, L5 proof. (L1, routing, comes before.) What
the layers find is masked; what they cannot prove is held back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from fedimg.dicom import blanking, display, graphics, head, recheck, recompress, regions, routing, structure
from fedimg.dicom.blanking import Rectangle
from fedimg.dicom.encoder import Element, Encoded
from fedimg.dicom.evidence import HeadEvidence, PixelEvidence
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.subjects import MissingPatient
from fedimg.dicom.text import Box, TextDetector
from fedimg.values import Quarantine

_ROUNDS = 4  # of masking what is found in what was written
_MODALITY, _MANUFACTURER, _MODEL = 0x00080060, 0x00080070, 0x00081090


@dataclass(frozen=True, slots=True)
class DeidConfig:
    """How one site de-identifies.

    Attributes:
        profile: name of a shipped table.
        missing_patient_id: what happens to an object that names no patient; see `subjects`.
        keep_times: times of day stay with moved dates (ps315-research only).
        recompress: lossless codec of the release.
        head: what happens to head CT, MR and PET, whose voxels show a face; None: the profile's
            own default (`allow-local` under `train`, `quarantine` else).
        largest_mask, largest_mask_ultrasound: share of an image's pixels (of ultrasound: of its
            regions) that may be masked before the file is held back.
        vendor_boxes: a site's own table of known regions, beside the shipped one.
        pixel_layers: "L0-L3" leaves detection and its proof out, to measure what the rest costs.
            Such output never says that its pixels were cleaned.
    """

    profile: str = "train"
    missing_patient_id: MissingPatient = "quarantine"
    keep_times: bool = False
    recompress: recompress.Method = "jpeg-ls"
    head: head.Policy | None = None
    largest_mask: float = 0.2
    largest_mask_ultrasound: float = 0.5
    vendor_boxes: Path | None = None
    pixel_layers: Literal["all", "L0-L3"] = "all"


@dataclass(frozen=True, slots=True)
class Source:
    """One object in front of its pixel layers.

    Attributes:
        kept: elements of the release without its pixels. route: of L1. series: graphics that
            its series has in common. reviewed: a person has looked at the pixels and calls what
            holds the object back for text a false alarm. What was found is masked all the same.
    """

    dataset: Dataset
    kept: Mapping[int, Element]
    route: routing.Route
    series: graphics.Graphics | None
    reviewed: bool = False


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Attributes: image: as it is written. written: the file, not sealed yet."""

    image: structure.StoredImage
    written: Encoded
    evidence: PixelEvidence


class PixelLayers:
    """The layers under one configuration. Raises ConfigError for a head policy or a table it cannot keep."""

    def __init__(self, config: DeidConfig) -> None:
        self._config = config
        self._policy = head.policy_of(config.profile, config.head)
        self._boxes = regions.load_boxes(config.vendor_boxes)
        self._detector = TextDetector() if self.proves else None

    @property
    def proves(self) -> bool:
        """Whether L4 and L5 run: only then a release says that its pixels are clean."""
        return self._config.pixel_layers == "all"

    def clean(self, source: Source, write: Callable[[structure.StoredImage], Encoded]) -> Cleaned:
        """Mask what may not stay, write it, and prove what was written.

        Raises Quarantined: RECOGNISABLE_FACE, BURNED_IN_TEXT, PIXELS_UNPROVEN, PIXELS_UNDECODABLE,
        OBJECT_TYPE, UNSAFE_STRUCTURE.
        """
        heads = self._head(source)
        before = structure.decode(source.dataset, source.kept)
        known, kept_regions, layers = self._known(source, before)
        drawn = self._drawn(source, before)
        frames = len(before.values)
        areas = blanking.bounded((*known, *drawn), frames)
        palette = display.palette(before, source.kept)
        if before.photometric == "PALETTE COLOR" and palette is None:
            # Nobody could say what such an image shows.
            found = "a palette image without plain tables of its colours"
            raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found)
        masked = blanking.blank(before, areas, palette)
        if not self.proves:
            written = write(masked)
        else:
            # Looked at without what is known already: its letters would join others into large boxes.
            areas = blanking.bounded((*areas, *self._look(masked, source)), frames)
            masked, written, areas = self._proven(source, before, areas, palette, write)
        share = recheck.share(areas, before.values.shape[:3], known)
        self._accept(source, areas, share)
        evidence = PixelEvidence(
            (*layers, "L3", *(("L4", "L5") if self.proves else ())),
            source.route,
            routing.burned_in(source.dataset),
            kept_regions,
            tuple(tuple(area) for area in areas),  # type: ignore[misc]  # a Box is an Area
            round(share, 6),
            self._detector.version if self._detector is not None else "",
            self._boxes.digest,
            HeadEvidence(heads, self._policy),
        )
        return Cleaned(masked, written, evidence)

    def _head(self, source: Source) -> tuple[str, ...]:
        found = head.signs(source.dataset, source.kept)
        if found and self._policy == "quarantine":
            raise Quarantined(Quarantine.RECOGNISABLE_FACE, f"a head, by its {' and '.join(found)}")
        return found

    def _known(
        self, source: Source, image: structure.StoredImage
    ) -> tuple[tuple[Box, ...], tuple[Rectangle, ...], tuple[str, ...]]:
        """L2: what lies outside of ultrasound regions, and what this device is known to draw."""
        rows, columns = image.values.shape[1:3]
        modality, manufacturer, model = (
            routing.first_text(source.dataset, tag) for tag in (_MODALITY, _MANUFACTURER, _MODEL)
        )
        boxes = self._boxes.matching(modality, manufacturer, model, rows, columns)
        areas = tuple(Box(None, *box) for box in boxes)
        if source.route != "ultrasound":
            return areas, (), ("L0", "L1", "L2")
        kept = regions.ultrasound(source.kept, rows, columns)
        if not kept and source.reviewed:
            return areas, (), ("L0", "L1", "L2")
        if not kept:
            raise Quarantined(Quarantine.BURNED_IN_TEXT, "ultrasound without SequenceOfUltrasoundRegions")
        return (*areas, *blanking.outside(kept, rows, columns)), tuple(kept), ("L0", "L1", "L2")

    def _drawn(self, source: Source, image: structure.StoredImage) -> list[Box]:
        """L3: of the object's own frames, and what is known of its series."""
        found = [graphics.of_frames(image, display.palette(image, source.kept)), source.series]
        size = image.values.shape[1:3]
        return [
            Box(None, *rectangle)
            for drawn in found
            if drawn is not None and (drawn.rows, drawn.columns) == size
            for rectangle in drawn.rectangles
        ]

    def _look(self, image: structure.StoredImage, source: Source) -> list[Box]:
        if self._detector is None:
            return []
        return self._detector.find(display.frames(image, source.dataset, source.kept))

    def _proven(
        self,
        source: Source,
        before: structure.StoredImage,
        areas: tuple[Box, ...],
        palette: blanking.Palette | None,
        write: Callable[[structure.StoredImage], Encoded],
    ) -> tuple[structure.StoredImage, Encoded, tuple[Box, ...]]:
        """L5; text that only shows once other text is masked is masked too."""
        constant = blanking.black(before, palette)
        for turn in range(_ROUNDS + 1):
            masked = blanking.blank(before, areas, palette)
            written = write(masked)
            # A person has looked at what the detector goes on finding: its values are proven all the same.
            looks = turn < _ROUNDS or not source.reviewed
            left = recheck.hits_left(
                written.data,
                before,
                areas,
                constant,
                lambda image, looks=looks: self._look(image, source) if looks else [],  # type: ignore[misc]
            )
            if not left:
                return masked, written, areas
            areas = blanking.bounded((*areas, *left), len(before.values))
        raise Quarantined(Quarantine.BURNED_IN_TEXT, "text that is found again however much is masked")

    def _accept(self, source: Source, areas: tuple[Box, ...], share: float) -> None:
        if source.reviewed:
            return
        if routing.burned_in(source.dataset) == "YES" and not areas:
            raise Quarantined(Quarantine.BURNED_IN_TEXT, "BurnedInAnnotation = YES, and no text found")
        ultrasound = source.route == "ultrasound"
        limit = self._config.largest_mask_ultrasound if ultrasound else self._config.largest_mask
        if share > limit:
            found = f"{share:.0%} of the pixels to mask, limit {limit:.0%}"
            raise Quarantined(Quarantine.BURNED_IN_TEXT, found)
