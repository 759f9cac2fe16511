"""Boxes hold what the heat map shows, and little else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedimg.dicom.text.boxes import CHOSEN, Rectangle, lines_of, outermost, pieces

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 25), st.integers(1, 25)))


@given(masks)
def test_pieces_hold_every_cell_and_none_outside(mask):
    held = np.zeros_like(mask)
    for top, left, bottom, right in pieces(mask, 0, 0):
        assert 0 <= top < bottom <= mask.shape[0]
        assert 0 <= left < right <= mask.shape[1]
        held[top:bottom, left:right] = True
    assert (held >= mask).all()


def test_an_aslant_line_is_cut_into_pieces():
    mask = np.eye(40, dtype=np.bool_)
    area = sum((bottom - top) * (right - left) for top, left, bottom, right in pieces(mask, 0, 0))
    assert area < mask.size / 4


@given(
    st.lists(
        st.tuples(*[st.integers(0, 9)] * 4).map(lambda c: Rectangle(c[0], c[1], c[0] + c[2], c[1] + c[3]))
    )
)
def test_outermost_covers_the_same(rectangles):
    kept = outermost(rectangles)
    assert set(kept) <= set(rectangles)
    assert all(any(other.holds(rectangle) for other in kept) for rectangle in rectangles)


def test_weak_and_small_places_are_no_lines():
    heat = np.zeros((30, 30), np.float32)
    heat[5:7, 5:15] = 0.5
    heat[20, 20:22] = 1.0
    assert lines_of(heat, 4, 120, 120) == []
    heat[5:7, 6:11] = 0.99
    (line,) = lines_of(heat, 4, 120, 120)
    assert line.holds(Rectangle(20, 20, 59, 27))
    assert line.x1 - line.x0 < 70


def test_boxes_end_where_the_image_does():
    heat = np.ones((5, 8), np.float32)
    assert lines_of(heat, 4, 18, 30) == [Rectangle(0, 0, 29, 17)]


@given(
    arrays.arrays(np.float32, (12, 20), elements=st.floats(0, 1, width=32)),
    st.sampled_from([{"sure": 0.99}, {"fewest": 9}]),
)
def test_a_stricter_decision_finds_nothing_more(heat, stricter):
    lenient = CHOSEN._replace(sure=0.6, fewest=3)
    found = set(lines_of(heat, 4, 48, 80, lenient))
    assert set(lines_of(heat, 4, 48, 80, lenient._replace(**stricter))) <= found
