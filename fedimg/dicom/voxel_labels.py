"""A class for every voxel of an image, from whatever a site has drawn it in: SEG, NIfTI, pictures or boxes.

What comes out is numbers alone: no header, no name and no pixel of a mask's file goes on, so a mask crosses
the identity boundary as the least that training needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from fedimg.dicom.foreign import decode_picture
from fedimg.dicom.nifti import is_nifti, read_nifti
from fedimg.dicom.pixels import decode_nifti, decoded_array
from fedimg.dicom.reader import DEFAULT_LIMITS, parse, pixel_shape, read_capped
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.dicom.segmentation import SEGMENTATIONS
from fedimg.values import Box, Drawn, Quarantine

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
FIRST_BOX = 128
"""Values below are classes. Boxes of class 1 are numbered from 255 downwards to this one, those of class k the same
from 256·(k − 1) + 255."""
MOST_FINDINGS = 256 - FIRST_BOX
_MOST_NUMBERS = 15.0


def voxel_labels(image: Path, drawn: Drawn) -> Labels:
    """(F, H, W): the class of every stored voxel, 0 where nothing is drawn; in a NIfTI (D, H, W) as it decodes.

    Several masks are laid over each other, the highest class counts. Of two classes, whatever is drawn is
    class 1: anything above zero where values are at most 15, else from half the highest value on, so that
    the soft edge of a JPEG does not count. Of more, values are classes, and of a SEG segment numbers are.
    A mask of one value that is no class says only where: it means the image's own class (`Drawn.label`).
    Boxes number the findings from `FIRST_BOX` on and go with no mask: they are findings, not outlines.

    Raises Quarantined: a file that cannot be read, another size than the image's, a value that is no class.
    """
    data = _bytes(image)
    if is_nifti(data):
        shape, instance = decode_nifti(read_nifti(data, DEFAULT_LIMITS)).pixels_DHW.shape, ""
    elif (dataset := _dataset(data)) is not None:
        sizes = pixel_shape(dataset)
        shape, instance = (sizes.frames, sizes.rows, sizes.columns), str(dataset.get("SOPInstanceUID") or "")
    else:
        shape, instance = _framed(decode_picture(data)).shape, ""
    if drawn.boxes:
        return _boxed(drawn, (shape[0], shape[1], shape[2]))
    labels = np.zeros(shape, np.uint8)
    for mask in drawn.masks:
        found = _drawn(_bytes(mask), instance, shape, drawn)
        if found.shape != shape:
            raise Quarantined(Quarantine.WRONG_SHAPE, f"a mask {found.shape} of an image {shape}")
        np.maximum(labels, found, out=labels)
    return labels


def _bytes(path: Path) -> bytes:
    try:
        return read_capped(path, DEFAULT_LIMITS.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None


def _dataset(data: bytes) -> Dataset | None:
    """None for bytes that are no DICOM. Raises Quarantined for a bad one."""
    try:
        return parse(data)
    except Quarantined as refusal:
        if refusal.reason is Quarantine.NOT_AN_IMAGE:
            return None
        raise


def _boxed(drawn: Drawn, shape: tuple[int, int, int]) -> Labels:
    """Each box filled with its class and number; smaller ones above larger ones. One that is covered is no finding
    any more, and holds its image back.
    """
    kinds = drawn.kinds or (0,) * len(drawn.boxes)
    found = {
        (_whole(box, shape[0]), _class(kind, drawn)) for box, kind in zip(drawn.boxes, kinds, strict=True)
    }
    if len(found) > MOST_FINDINGS:
        raise Quarantined(Quarantine.WRONG_SHAPE, f"more than {MOST_FINDINGS} findings in one image")
    several = any(kind > 1 for _, kind in found)
    labels = np.zeros(shape, np.uint16 if several else np.uint8)
    values = []
    for number, (box, kind) in enumerate(sorted(found, key=lambda one: (-_extent(one[0]), one)), start=1):
        (x0, y0, z0), (x1, y1, z1) = box[:3], box[3:]
        if not (0 <= x0 < x1 <= shape[2] and 0 <= y0 < y1 <= shape[1] and 0 <= z0 < z1 <= shape[0]):
            raise Quarantined(Quarantine.WRONG_SHAPE, "a box that is empty or leaves its image")
        values.append(256 * kind - number)
        labels[z0:z1, y0:y1, x0:x1] = values[-1]
    if not np.isin(values, labels).all():
        raise Quarantined(Quarantine.WRONG_SHAPE, "a box that others cover")
    return labels


def _whole(box: Box, depth: int) -> Box:
    """With z; a box of the plane is one in every frame."""
    return box if len(box) == 6 else (*box[:2], 0, *box[2:], depth)


def _class(kind: int, drawn: Drawn) -> int:
    """A box's own class, else the image's, else the only one there is."""
    named = kind or drawn.label or (1 if drawn.classes == 2 else 0)
    if not 0 < named < max(2, drawn.classes):
        raise Quarantined(
            Quarantine.NO_LABEL, f"a box that is of none of the classes 1 to {drawn.classes - 1}"
        )
    return named


def _extent(box: Box) -> int:
    return (box[3] - box[0]) * (box[4] - box[1]) * (box[5] - box[2])


def _drawn(data: bytes, instance: str, shape: tuple[int, ...], drawn: Drawn) -> Labels:
    if is_nifti(data):
        return _classes(decode_nifti(read_nifti(data, DEFAULT_LIMITS)).pixels_DHW, drawn)
    dataset = _dataset(data)
    if dataset is None:
        return _classes(_framed(decode_picture(data)), drawn)
    return _segmented(dataset, instance, (shape[0], shape[1], shape[2]), drawn.classes)


def _framed(picture: tuple[npt.NDArray[Any], str]) -> npt.NDArray[Any]:
    """(F, H, W) of a picture; of a coloured one the strongest channel."""
    pixels, kind = picture
    grey = pixels.max(axis=-1) if kind == "RGB" else pixels
    return grey if grey.ndim == 3 else grey[None]


def _classes(values: npt.NDArray[Any], drawn: Drawn) -> Labels:
    """Values of a mask as classes. Raises Quarantined for a value that is none."""
    top = float(values.max(initial=0))
    if drawn.classes == 2:
        return (values >= _least_drawn(top)).astype(np.uint8)
    if top >= drawn.classes and drawn.label and not ((values > 0) & (values < top)).any():
        return ((values > 0) * drawn.label).astype(np.uint8)
    found = values.astype(np.uint8)
    if top >= drawn.classes or (found != values).any():
        expected = f"a mask with values other than the classes 0 to {drawn.classes - 1}"
        raise Quarantined(Quarantine.NO_LABEL, expected)
    return found


def _least_drawn(top: float) -> float:
    """From where on a value counts as drawn: few values are numbers, many are shades, one is a share."""
    return top / 2 if top > _MOST_NUMBERS else 0.5 if top >= 1 else max(top / 2, 1e-30)


def _segmented(dataset: Dataset, instance: str, shape: tuple[int, int, int], classes: int) -> Labels:
    """The frames of a segmentation that lie over the image of this SOPInstanceUID (PS3.3 A.51, C.7.6.16)."""
    try:
        with contained():
            if dataset.get("SOPClassUID") not in SEGMENTATIONS:
                raise Quarantined(Quarantine.OBJECT_TYPE, "a mask that is no segmentation")
            values = decoded_array(dataset, raw=True)[0]
            planes = values.reshape(-1, dataset.Rows, dataset.Columns)
            return _over(dataset, planes, instance, shape, classes)
    except Quarantined:
        raise
    # A decoder meets whatever the file holds; each exception means the same here, and its text may quote it.
    except Exception as error:  # noqa: BLE001
        found = f"a segmentation that does not decode ({type(error).__name__})"
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found) from None


def _over(
    dataset: Dataset, planes: npt.NDArray[Any], instance: str, shape: tuple[int, int, int], classes: int
) -> Labels:
    groups = dataset.PerFrameFunctionalGroupsSequence
    if len(groups) != len(planes):
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, "a segmentation whose frames and groups differ")
    kind = str(dataset.get("SegmentationType") or "BINARY")
    least = int(dataset.get("MaximumFractionalValue") or 1) / 2 if kind == "FRACTIONAL" else 1
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    labels = np.zeros(shape, np.uint8)
    sources = [group.DerivationImageSequence[0].SourceImageSequence[0] for group in groups]
    named = [str(source.ReferencedSOPInstanceUID) for source in sources]
    if not _refers_to(dataset, named, instance):
        raise Quarantined(Quarantine.NO_LABEL, "a segmentation of other images")
    for group, source, whose, plane in zip(groups, sources, named, planes, strict=True):
        if whose != instance:
            continue
        if plane.shape != shape[1:]:
            raise Quarantined(Quarantine.WRONG_SHAPE, f"a mask {plane.shape} of an image {shape[1:]}")
        number = 1 if kind == "LABELMAP" else _segment(group, shared[0])
        drawn = plane if kind == "LABELMAP" else (plane >= least) * number
        for frame in _frames(source, shape[0]):
            np.maximum(labels[frame - 1], _numbered(drawn, classes), out=labels[frame - 1])
    return labels


def _frames(source: Dataset, count: int) -> list[int]:
    """ReferencedFrameNumber (PS3.3 table 10-3), all of them where it is absent. Raises Quarantined."""
    named = source.get("ReferencedFrameNumber")
    if named is None:
        return list(range(1, count + 1))
    frames = [int(named)] if isinstance(named, int | str) else [int(one) for one in named]
    if not all(1 <= frame <= count for frame in frames):
        raise Quarantined(Quarantine.WRONG_SHAPE, f"a mask of a frame that an image of {count} has not")
    return frames


def _refers_to(dataset: Dataset, sources: Sequence[str], instance: str) -> bool:
    """Whether an object is about this image: by a frame over it, or by its list of referenced instances."""
    listed = (
        str(one.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for one in series.get("ReferencedInstanceSequence") or ()
    )
    return instance in sources or instance in listed


def _numbered(drawn: npt.NDArray[Any], classes: int) -> Labels:
    if classes == 2:
        return (drawn > 0).astype(np.uint8)
    if int(drawn.max(initial=0)) >= classes:
        raise Quarantined(Quarantine.WRONG_SHAPE, f"a segment beyond the classes 0 to {classes - 1}")
    return drawn.astype(np.uint8)


def _segment(group: Dataset, shared: Dataset) -> int:
    """ReferencedSegmentNumber of a frame, its own or shared by all (C.8.20.3.1)."""
    own = group.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(own[0].ReferencedSegmentNumber)
