"""Pixel layer L5: what was written is opened again and its pixels are proven, or the file is held back.

Proven is: outside the mask no stored value differs from the input's; the mask is one constant; no
line of text is found in what remains; no more than a stated share is masked. Only then may a
release say BurnedInAnnotation = NO and carry code 113101 (PS3.15 E.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from fedimg.dicom import attributes, masks
from fedimg.dicom.encoder import Element
from fedimg.dicom.reader import parse
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.structure import StoredImage, decode
from fedimg.dicom.text import Box
from fedimg.values import Quarantine

Look = Callable[[StoredImage], Iterable[Box]]
"""Finds the lines of text in an image."""


def reopened(data: bytes) -> StoredImage:
    """The stored values of a written file, by the same path as any input's. Raises Quarantined."""
    dataset = parse(data)
    module = {
        int(element.tag): Element(int(element.tag), element.VR or "UN", attributes.raw_value(element, ()))
        for element in dataset.values()
        if int(element.tag) >> 16 == 0x0028 and element.VR != "SQ"
    }
    return decode(dataset, module)


def hits_left(
    data: bytes, before: StoredImage, areas: Sequence[Box], constant: np.ndarray, look: Look
) -> list[Box]:
    """Lines of text that are found in the written file and do not lie in the mask.

    Args:
        data: the written file. before: the decoded input. areas: what was masked, with `constant`.
        look: asked only where something was masked; else the values are those it has seen already.

    Raises Quarantined (PIXELS_UNPROVEN) where a value outside the mask differs from the input's, or
    one inside it from the constant.
    """
    after = reopened(data)
    same = (after.values.shape, after.values.dtype, after.photometric, after.bits_stored)
    if same != (before.values.shape, before.values.dtype, before.photometric, before.bits_stored):
        raise Quarantined(Quarantine.PIXELS_UNPROVEN, "written pixels of another kind than the input's")
    if not areas:
        if not np.array_equal(after.values, before.values):
            raise Quarantined(Quarantine.PIXELS_UNPROVEN, "written pixels that differ from the input's")
        return []
    cover = masks.Cover(areas, before.values.shape[:3])
    for index in range(len(before.values)):
        masked = cover.frame(index)
        kept = ~masked
        if not np.array_equal(after.values[index][kept], before.values[index][kept]):
            raise Quarantined(Quarantine.PIXELS_UNPROVEN, "pixels that differ outside the mask")
        if not (after.values[index][masked] == constant).all():
            raise Quarantined(Quarantine.PIXELS_UNPROVEN, "a mask that is not one constant")
    return [box for box in look(after) if not cover.holds(box)]


def share(areas: Sequence[Box], shape: tuple[int, int, int], beside: Sequence[Box] = ()) -> float:
    """Of the pixels that are not in `beside` (regions known beforehand), the share that `areas` cover."""
    if not areas:
        return 0.0
    known = masks.Cover(beside, shape)
    total = int(np.prod(shape)) - known.pixels()
    return masks.Cover(areas, shape).pixels(known) / total if total else 0.0
