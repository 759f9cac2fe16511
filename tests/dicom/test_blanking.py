"""Masking: what is outside stays bit for bit, what is inside is one constant, and the receipt can tell both."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.dicom import blanking, masks
from fedimg.dicom.blanking import MOST_AREAS
from fedimg.dicom.evidence import PixelEvidence
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.structure import StoredImage
from fedimg.dicom.text import Box

FRAMES, ROWS, COLUMNS = 3, 24, 30


def _box(frame: int | None, corners: tuple[int, int, int, int]) -> Box:
    x0, y0, x1, y1 = corners
    return Box(frame, min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


columns, rows = st.integers(0, COLUMNS - 1), st.integers(0, ROWS - 1)
boxes = st.builds(
    _box, st.one_of(st.none(), st.integers(0, FRAMES - 1)), st.tuples(columns, rows, columns, rows)
)
areas = st.lists(boxes, max_size=8)


@given(areas)
def test_bounded_areas_cover_the_same_pixels(found):
    shape = (FRAMES, ROWS, COLUMNS)
    kept = blanking.bounded(found, FRAMES)
    assert np.array_equal(blanking.mask(kept, shape), blanking.mask(found, shape))
    assert blanking.bounded(kept, FRAMES) == kept


def test_too_many_areas_go_on_all_frames_and_far_too_many_are_held_back():
    scattered = [Box(frame, 3 * frame % 900, frame, 3 * frame % 900 + 1, frame) for frame in range(300)]
    few = [Box(frame, 0, 0, 5 + frame % 2, 5) for frame in range(300)]
    joined = blanking.bounded(few, 400)
    assert joined == (Box(None, 0, 0, 6, 5),)
    with pytest.raises(Quarantined, match=f"more than {MOST_AREAS} areas of text"):
        blanking.bounded(scattered, 400)


@given(st.lists(st.tuples(columns, rows, columns, rows), max_size=4))
def test_outside_is_what_no_region_covers(corners):
    kept = [_box(None, c)[1:] for c in corners]
    covered = blanking.mask(blanking.outside(kept, ROWS, COLUMNS), (1, ROWS, COLUMNS))[0]
    inside = blanking.mask([Box(None, *k) for k in kept], (1, ROWS, COLUMNS))[0]
    assert np.array_equal(covered, ~inside)
    assert len(blanking.outside(kept, ROWS, COLUMNS)) <= (2 * len(kept) + 1) ** 2


images = st.sampled_from(
    [
        ("MONOCHROME2", "u1", 8, 1),
        ("MONOCHROME1", "u1", 8, 1),
        ("MONOCHROME2", "i2", 16, 1),
        ("MONOCHROME2", "u2", 12, 1),
        ("MONOCHROME1", "u2", 10, 1),
        ("RGB", "u1", 8, 3),
        ("YBR_FULL", "u1", 8, 3),
        ("PALETTE COLOR", "u1", 8, 1),
    ]
)


@given(images, areas, st.integers(0, 99))
def test_outside_of_the_mask_every_bit_stays(kind, found, seed):
    photometric, dtype, bits, samples = kind
    low, high = (-(1 << (bits - 1)), 1 << (bits - 1)) if dtype[0] == "i" else (0, 1 << bits)
    values = np.random.default_rng(seed).integers(low, high, (FRAMES, ROWS, COLUMNS, samples)).astype(dtype)
    image = StoredImage(values, photometric, bits)
    before = values.copy()
    after = blanking.blank(image, found)
    covered = blanking.mask(found, values.shape[:3])
    assert np.array_equal(after.values[~covered], before[~covered])
    assert (after.values[covered] == blanking.black(image)).all()
    assert np.array_equal(values, before)  # the input's array is left alone
    assert (after.photometric, after.bits_stored, after.values.dtype) == (photometric, bits, values.dtype)


@pytest.mark.parametrize(
    ("photometric", "dtype", "bits", "expected"),
    [
        ("MONOCHROME2", "u1", 8, [0]),
        ("MONOCHROME1", "u1", 8, [255]),
        ("MONOCHROME1", "u1", 7, [127]),
        ("MONOCHROME2", "i1", 8, [-128]),
        ("MONOCHROME2", "u2", 12, [7]),  # deeper than eight bits: the extreme that occurs
        ("MONOCHROME1", "u2", 12, [90]),
        ("MONOCHROME2", "i2", 16, [7]),
        ("RGB", "u1", 8, [0, 0, 0]),
        ("YBR_FULL", "u1", 8, [0, 128, 128]),
        ("PALETTE COLOR", "u1", 8, [0]),
    ],
)
def test_black_is_what_is_shown_darkest(photometric, dtype, bits, expected):
    values = np.full((1, 4, 4, len(expected)), 90, dtype)
    values[0, 0, 0] = 7
    assert blanking.black(StoredImage(values, photometric, bits)).tolist() == expected


def test_black_of_a_palette_is_its_darkest_entry():
    red, green, blue = (np.array(entries, np.uint16) for entries in ([9, 3, 0], [9, 0, 0], [9, 0, 4]))
    image = StoredImage(np.zeros((1, 2, 2, 1), np.uint8), "PALETTE COLOR", 8)
    assert blanking.black(image, (red, green, blue, 10)).tolist() == [11]  # 3 + 0 + 0, the first maps to 10


@given(areas)
def test_a_receipt_in_json_gives_the_mask_back(found):
    kept = blanking.bounded(found, FRAMES)
    evidence = {
        "pixels": {"masked": json.loads(json.dumps(PixelEvidence((), "volume", "NO", masked=kept).masked))}
    }
    shape = (FRAMES, ROWS, COLUMNS)
    mask = masks.mask_of(evidence, shape)
    if not kept:
        assert mask is None
    else:
        assert mask is not None
        assert np.array_equal(mask, blanking.mask(found, shape))
    assert masks.mask_of({}, shape) is None


@given(areas, areas, boxes)
def test_the_cover_frame_by_frame_is_the_mask(found, known, box):
    shape = (FRAMES, ROWS, COLUMNS)
    whole, beside = masks.mask(found, shape), masks.mask(known, shape)
    cover = masks.Cover(found, shape)
    assert all(np.array_equal(cover.frame(index), whole[index]) for index in range(FRAMES))
    assert cover.pixels() == whole.sum()
    assert cover.pixels(masks.Cover(known, shape)) == (whole & ~beside).sum()
    assert cover.holds(box) == whole[masks.mask([box], shape)].all()
