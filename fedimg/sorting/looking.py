"""One file → its answer: what the header says, and where it is silent, what the image looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedimg.dicom.asked import AskedHeader
from fedimg.dicom.image_file import ImageFile, open_image
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError
from fedimg.imaging.thumbnails import axial_frame, central_frame
from fedimg.sorting import classifier, header
from fedimg.sorting.answer import UNKNOWN, Answer, Because, By, Said
from fedimg.sorting.classifier import Shown, ViewClassifier
from fedimg.values import DecodedImage, Quarantine

_CROSS_SECTIONS = frozenset(("CT", "MR", "PT"))
_RADIOGRAPHS = frozenset(("CR", "DX", "RG"))
_THICK = 1.5  # a volume whose voxels are so much longer one way was taken in slices that way


@dataclass(frozen=True)
class Sorter:
    """Sorts files one at a time; nothing is learnt from them.

    Attributes:
        threshold: least probability of what the image decides. look: ask images at all.
        of_weights: where the classifier comes from, opened when it is first needed.
    """

    threshold: float = classifier.THRESHOLD
    look: bool = True
    of_weights: Callable[[], ViewClassifier] = classifier.shipped

    def __post_init__(self) -> None:
        if not 0.5 <= self.threshold <= 1:
            raise ConfigError("a threshold in [0.5, 1]", str(self.threshold), "change --threshold")

    def sort(self, path: Path) -> Answer:
        """The answer for one file; of one that cannot be sorted its reason is a code of `Quarantine`. Never raises."""
        try:
            file = open_image(path)
            asked = file.header
            if asked is None:
                return self._of_image(file, Answer(), asked=True)
            return self._of_dicom(file, asked)
        except Quarantined as refusal:
            return Answer(reason=str(refusal.reason))
        # A strange file may make a library fail in ways of its own: it has a reason then, and the others go on.
        except Exception:  # noqa: BLE001
            return Answer(reason=str(Quarantine.UNSAFE_STRUCTURE))

    def _of_dicom(self, file: ImageFile, asked: AskedHeader) -> Answer:
        said = header.ask(asked)
        answer = Answer(said.modality, said.body_part, said.view)
        if not asked.has_pixels():
            return replace(answer, reason=str(Quarantine.NOT_AN_IMAGE))
        if said.modality.value in _NO_PICTURES:
            return replace(answer, reason=str(Quarantine.OBJECT_TYPE))
        silent = not (said.modality.known and said.body_part.known)
        answered = self._of_image(file, answer, asked=silent)
        return answered.because(said.told) if said.told else answered

    def _of_image(self, file: ImageFile, answer: Answer, *, asked: bool) -> Answer:
        """Fill what is unknown by a look at the image, and say why it is as it is. Raises Quarantined."""
        if not (self.look and asked):
            return answer.because()
        image = file.decode()
        if file.kind == "nifti":
            answer = replace(answer, view=_plane_of(image))
        modalities = _possible(answer.modality)
        if answer.modality.known and not modalities:
            return answer.because()  # of a modality that the classifier has never seen
        frame = axial_frame(image) if file.kind == "nifti" else central_frame(image)
        shown, probability = self.of_weights().look(frame, modalities)
        if shown.modality == UNKNOWN:
            return answer.because(str(Because.NOT_LEARNT))
        if probability < self.threshold:
            return answer.because(str(Because.BELOW_THRESHOLD))
        return _filled(answer, shown, probability)


_NO_PICTURES = frozenset(
    ("ANN", "AU", "DOC", "ECG", "FID", "KO", "PLAN", "PR", "REG", "RESP", "RTDOSE", "RTINTENT", "RTPLAN",
     "RTRECORD", "RTSTRUCT", "RWV", "SEG", "SMR", "SR", "STAIN")
)  # fmt: skip


def _possible(modality: Said) -> frozenset[str]:
    """Classes that the stated modality leaves: empty where it is not stated, and where none is of it."""
    if not modality.known:
        return frozenset()
    stated = "CR" if modality.value in _RADIOGRAPHS else modality.value
    return frozenset((stated,)) & {shown.modality for shown in classifier.CLASSES}


def _filled(answer: Answer, shown: Shown, probability: float) -> Answer:
    def said(known: Said, seen: str) -> Said:
        return known if known.known or seen == UNKNOWN else Said(seen, By.IMAGE)

    # A plane or projection that contradicts what the header says of it is not what the classifier has learnt.
    if (
        answer.view.known
        and shown.view not in (UNKNOWN, answer.view.value)
        and shown.modality in _CROSS_SECTIONS
    ):
        return answer.because(str(Because.NOT_LEARNT))
    filled = Answer(
        said(answer.modality, shown.modality),
        said(answer.body_part, shown.body_part),
        said(answer.view, shown.view),
        round(probability, 4),
    )
    return filled.because()


def _plane_of(image: DecodedImage) -> Said:
    """The plane that a volume was taken in, by its longest voxel side; unknown where voxels are cubes."""
    spacing = np.asarray(image.spacing_mm)
    if spacing.max() < _THICK * np.sort(spacing)[1] and len(image.pixels_DHW) > 1:
        return Said()
    column = (
        np.asarray(image.affine_lps_mm)[:3, 2 - int(spacing.argmax())] if len(image.pixels_DHW) > 1 else None
    )
    if column is None:
        column = np.asarray(image.affine_lps_mm)[:3, 2]
    plane = ("sagittal", "coronal", "axial")[int(np.abs(column).argmax())]
    return Said(plane, By.HEADER)
