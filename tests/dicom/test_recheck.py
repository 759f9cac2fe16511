"""L5: each thing that could be wrong with written pixels is found; what is right passes."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest

from fedimg.dicom import blanking, recheck
from fedimg.dicom.authoring import build_image, encoded
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.structure import StoredImage
from fedimg.dicom.text import Box
from fedimg.values import Quarantine

ENHANCED = {"BitsStored": 12, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}
AREA = Box(0, 4, 4, 11, 9)
VALUES = np.random.default_rng(0).integers(0, 4096, (2, 20, 24, 1)).astype(np.uint16)
BEFORE = StoredImage(VALUES, "MONOCHROME2", 12)


def written(image: StoredImage, **attributes: object) -> bytes:
    dataset = build_image(modality="CT", pixels=image.values[..., 0], attributes=ENHANCED | attributes)
    return encoded(dataset)


def nothing(_: StoredImage) -> list[Box]:
    return []


def hits_left(data: bytes, areas: tuple[Box, ...] = (AREA,), look=nothing) -> list[Box]:
    return recheck.hits_left(data, BEFORE, areas, blanking.black(BEFORE), look)


def masked() -> StoredImage:
    return blanking.blank(BEFORE, [AREA])


def test_what_is_masked_and_nothing_else_passes():
    assert hits_left(written(masked())) == []
    assert hits_left(written(BEFORE), ()) == []


@pytest.mark.parametrize("place", [(0, 0, 0), (1, 5, 5), (0, 4, 12), (1, 19, 23)])
def test_one_bit_outside_the_mask_is_seen(place):
    image = masked()
    image.values[place] ^= 1
    with pytest.raises(Quarantined, match="differ outside the mask") as refusal:
        hits_left(written(image))
    assert refusal.value.reason is Quarantine.PIXELS_UNPROVEN


def test_one_bit_without_a_mask_is_seen():
    values = VALUES.copy()
    values[1, 2, 3] ^= 8
    with pytest.raises(Quarantined, match="written pixels that differ"):
        hits_left(written(StoredImage(values, "MONOCHROME2", 12)), ())


def test_a_mask_with_something_left_in_it_is_seen():
    image = masked()
    image.values[0, 6, 6] += 1
    with pytest.raises(Quarantined, match="not one constant"):
        hits_left(written(image))


@pytest.mark.parametrize(
    "change",
    [{"BitsStored": 16}, {"PhotometricInterpretation": "MONOCHROME1"}, {"PixelRepresentation": 1}],
    ids=lambda change: next(iter(change)),
)
def test_pixels_that_now_mean_something_else_are_seen(change):
    dataset = pydicom.dcmread(io.BytesIO(written(masked())))
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    with pytest.raises(Quarantined, match="of another kind"):
        hits_left(encoded(dataset))


def test_text_beside_the_mask_is_a_hit_and_text_within_it_is_none():
    within, across, beside = Box(0, 5, 5, 8, 8), Box(0, 8, 5, 15, 8), Box(1, 5, 5, 8, 8)
    assert hits_left(written(masked()), look=lambda _: [within, across, beside]) == [across, beside]


def test_what_was_looked_at_already_is_not_looked_at_again():
    def fail(_: StoredImage) -> list[Box]:
        raise AssertionError("looked")

    assert hits_left(written(BEFORE), (), fail) == []


def test_the_share_counts_every_pixel_once_and_leaves_known_regions_out():
    shape = (2, 10, 10)
    everywhere = Box(None, 0, 0, 9, 4)
    assert recheck.share([], shape) == 0.0
    assert recheck.share([everywhere, everywhere], shape) == 0.5
    assert recheck.share([Box(1, 0, 0, 9, 9), everywhere], shape) == 0.75
    assert recheck.share([everywhere], shape, [everywhere]) == 0.0
    assert recheck.share([everywhere, Box(None, 0, 5, 9, 5)], shape, [everywhere]) == 0.2
    assert recheck.share([everywhere], shape, [Box(None, 0, 0, 9, 9)]) == 0.0
