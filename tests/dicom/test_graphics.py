"""L3: letters over changing anatomy are found; what every image has (padding, clipped air, one picture) is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from fedimg.dicom import graphics, lettering
from fedimg.dicom.graphics import FEWEST, Graphics
from fedimg.dicom.structure import StoredImage

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom"
SHAPE = (12, 96, 120)


def anatomy(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Slices of a body in noise: a disc that changes its size, 12 bits."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[: shape[1], : shape[2]]
    distance = np.hypot(down - shape[1] / 2, across - shape[2] / 2)
    radius = np.linspace(20, 40, shape[0])[:, None, None]
    return np.clip(np.where(distance < radius, 1100, 60) + rng.normal(0, 25, shape), 0, 4095).astype(
        np.uint16
    )


def as_image(values: np.ndarray) -> StoredImage:
    return StoredImage(values[..., None], "MONOCHROME2", 12)


def covered(found: Graphics | None, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    assert found is not None
    for x0, y0, x1, y1 in found.rectangles:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 99),
    st.integers(0, 80),
    st.integers(0, 50),
    st.sampled_from([2500, 3500, 4095]),
    st.booleans(),
)
def test_letters_at_one_place_of_every_slice_are_covered(seed, row, column, value, series):
    values = anatomy(seed)
    clean = values.copy()
    lettering.draw(values, "DOE JANE 7", row, column, value)
    strokes = (values != clean).any(axis=0)
    images = [as_image(frame[None]) for frame in values]
    found = graphics.of_series(images) if series else graphics.of_frames(as_image(values))
    mask = covered(found, SHAPE[1:])
    assert (mask & strokes).sum() == strokes.sum()
    assert mask.mean() < 0.35  # tiles around the line, not the image


def test_letters_on_one_slice_only_are_not_graphics():
    values = anatomy(1)
    lettering.draw(values[7], "DOE JANE 7", 4, 4, 4095)
    assert graphics.of_frames(as_image(values)) == Graphics(96, 120, (), 12)


def test_a_white_banner_and_a_logo_are_found():
    values = anatomy(2)
    values[:, 80:96, 10:90] = 4000
    lettering.draw(values, "HOSPITAL", 83, 14, 0)
    mask = covered(graphics.of_frames(as_image(values)), SHAPE[1:])
    banner = np.zeros(SHAPE[1:], bool)
    banner[80:96, 10:90] = True
    # Black letters have the background's own value; the white around them is what is found.
    assert mask[banner].mean() > 0.5


@pytest.mark.parametrize("padding", [0, -2000])
def test_padding_round_the_field_of_view_is_no_graphics(padding):
    values = anatomy(3).astype(np.int16) - 1024
    down, across = np.mgrid[:96, :120]
    values[:, np.hypot(down - 48, across - 60) > 46] = padding - 1024 if padding == 0 else padding
    assert graphics.of_frames(as_image(values)) == Graphics(96, 120, (), 12)


def test_clipped_air_is_no_graphics():
    values = np.clip(anatomy(4).astype(int) - 80, 0, None).astype(np.uint16)
    assert (values[:, :4] == 0).mean() > 0.5
    assert graphics.of_frames(as_image(values)) == Graphics(96, 120, (), 12)


def test_the_same_picture_again_and_again_tells_nothing():
    values = np.repeat(anatomy(5)[:1], 12, axis=0)
    assert graphics.of_frames(as_image(values)) == Graphics(96, 120, (), 12)


def test_few_images_and_images_of_other_sizes_tell_nothing():
    values = anatomy(6)
    assert graphics.of_frames(as_image(values[: FEWEST - 1])) is None
    other = as_image(np.zeros((1, 8, 8), np.uint16))
    few = [as_image(frame[None]) for frame in values[: FEWEST - 1]]
    assert graphics.of_series([*few, other, other]) is None
    assert graphics.of_series([]) is None


def test_real_head_series_hold_no_graphics():
    if not DATA.exists():
        pytest.skip("shared/data/dicom/dicom_mr_2vendor is not here")
    for vendor in ("20180918GE", "20180918Si"):
        paths = sorted((DATA / "dicom_mr_2vendor" / "In" / vendor).rglob("*.dcm"))
        chosen = paths[:: max(1, len(paths) // 12)][:12]
        images = [as_image(pydicom.dcmread(path).pixel_array[None]) for path in chosen]
        found = graphics.of_series(images)
        assert found is not None
        assert found.rectangles == (), vendor
        assert found.compared >= FEWEST


@pytest.mark.filterwarnings("ignore")
def test_a_real_ultrasound_cine_has_its_labels_found_and_its_heart_left():
    dataset = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm"))
    values = dataset.pixel_array
    mask = covered(graphics.of_frames(StoredImage(values, "RGB", 8)), values.shape[1:3])
    assert mask[225:235, 45:275].mean() > 0.95  # the row of buttons at the bottom
    assert mask[60:160, 90:230].mean() < 0.02  # the chambers
