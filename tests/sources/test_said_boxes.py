"""Boxes as a table says them: in the plane or with a depth, with a class or without."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.sources.config import DataConfig
from fedimg.sources.said import said_of

CLASSES = ("nothing", "small nodule", "mass")
CONFIG = DataConfig(name="images", voxels="boxes", classes=CLASSES)
BOX = st.sampled_from([4, 6]).flatmap(lambda n: st.tuples(*[st.integers(0, 999_999)] * n))


@given(
    st.lists(st.tuples(BOX, st.sampled_from(["", "1", "2", "mass", "small nodule"])), min_size=1, max_size=5)
)
def test_boxes_come_back_with_their_classes(boxes):
    cell = " ; ".join(" ".join(map(str, box)) + f" {kind}".rstrip() for box, kind in boxes)
    drawn = said_of(Path(), {"boxes": cell, "label": "mass"}, 2, CONFIG).drawn
    known = {"": 0, "1": 1, "2": 2, "mass": 2, "small nodule": 1}
    # a plane's box with a class by its number is one number more, never a depth
    assert drawn.boxes == tuple(box for box, _ in boxes)
    kinds = tuple(known[kind] for _, kind in boxes)
    assert drawn.kinds == (kinds if any(kinds) else ())
    assert (drawn.label, drawn.classes) == (2, 3)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("1 2 3", "boxes as x0 y0 x1 y1 or"),
        ("1 2 3 x", "boxes as"),
        ("-1 2 3 4", "boxes as"),
        ("1.5 2 3 4", "boxes as"),
        ("1 2 3 4 5 6 7 8", "a label that is"),
        ("1 2 3 4 0", "a box's class among small nodule, mass"),
        ("1 2 3 4 nothing", "a box's class among"),
        ("1 2 3 4 Jane Doe", "a label that is"),
        ("1 2 3 4; 9999999 2 3 4", "boxes as"),
    ],
)
def test_what_is_no_box_is_refused_by_its_row_and_not_quoted(cell, said):
    with pytest.raises(DataError, match=said) as refused:
        said_of(Path(), {"boxes": cell}, 7, CONFIG)
    assert "row 7" in str(refused.value)
    assert "Jane" not in str(refused.value)


def test_without_classes_to_tell_a_box_is_of_the_only_one():
    plain = DataConfig(name="images", voxels="boxes")
    drawn = said_of(Path(), {"boxes": "1,2,3,4; 0 0 0 2 2 2"}, 2, plain).drawn
    assert (drawn.boxes, drawn.kinds, drawn.classes) == (((1, 2, 3, 4), (0, 0, 0, 2, 2, 2)), (), 2)
