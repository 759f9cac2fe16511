"""The generator: the same from the same seed, and its labels lie where its text does."""

from __future__ import annotations

import numpy as np
import pytest

from fedimg.dicom.text import held_out
from fedimg.dicom.text.synthetic import FEWEST_LETTERS, Painter
from fedimg.dicom.text.synthetic_anatomy import KINDS, anatomy
from fedimg.dicom.text.synthetic_decoys import KINDS as DECOYS
from fedimg.dicom.text.synthetic_decoys import decoy
from fedimg.dicom.text.synthetic_marks import draw_marks
from fedimg.dicom.text.synthetic_strokes import draw_strokes
from fedimg.dicom.text.synthetic_text import (
    BUILT_IN,
    BUILT_IN_BITMAP,
    Style,
    can_draw,
    draw_line,
    initials,
    made_up_text,
    typefaces,
)

FONTS = (BUILT_IN, BUILT_IN_BITMAP)


def test_one_seed_draws_one_sequence_of_images():
    one, two = (Painter(FONTS, np.random.default_rng(3), pool=5) for _ in range(2))
    for _ in range(12):
        first, second = one.paint(96), two.paint(96)
        assert (first.image == second.image).all()
        assert (first.text == second.text).all()


def test_images_stay_in_range_and_some_have_no_text():
    painter = Painter(FONTS, np.random.default_rng(4), pool=5)
    painted = [painter.paint(96) for _ in range(60)]
    # A JPEG may overshoot by nothing, an added line is clipped: the range is [0, 1].
    assert all(image.image.min() >= -1e-6 and image.image.max() <= 1 + 1e-6 for image in painted)
    assert all(((image.text >= 0) & (image.text <= 1)).all() for image in painted)
    # One in three is drawn without lines; 60 draws give 8 to 33 with probability > 0.999.
    assert 8 <= sum(not image.text.any() and not image.ignored.any() for image in painted) <= 33


@pytest.mark.parametrize("kind", KINDS)
def test_anatomy_is_an_image_of_its_size(kind):
    image = anatomy(kind, 128, np.random.default_rng(1))
    assert image.shape == (128, 128)
    assert image.dtype == np.float32
    assert -0.1 <= image.min() < image.max() <= 1.3


@pytest.mark.parametrize("kind", held_out.KINDS)
def test_held_out_anatomy_is_another_image(kind):
    image = held_out.anatomy(kind, 128, np.random.default_rng(1))
    assert image.shape == (128, 128)
    assert 0 <= image.min() < image.max() <= 1
    assert not np.allclose(image, anatomy(kind, 128, np.random.default_rng(1)), atol=0.2)


@pytest.mark.parametrize("kind", DECOYS)
@pytest.mark.parametrize("side", [127, 160])
def test_a_decoy_is_an_image_of_its_size_and_the_same_from_one_seed(kind, side):
    image = decoy(kind, side, np.random.default_rng(1))
    assert image.shape == (side, side)
    assert image.dtype == np.float32
    assert -0.1 <= image.min() < image.max() <= 1.3
    assert (image == decoy(kind, side, np.random.default_rng(1))).all()


@pytest.mark.parametrize("draw", [draw_marks, draw_strokes], ids=["marks", "strokes"])
def test_marks_cover_some_of_an_image(draw):
    rng = np.random.default_rng(2)
    covers = [draw(128, 2, rng) for _ in range(40)]
    assert all(cover.shape == (128, 128) and cover.min() >= 0 and cover.max() <= 1 for cover in covers)
    assert 0 < np.mean(covers) < 0.3


@pytest.mark.parametrize("capitals", [8, 12, 20, 40])
def test_capitals_have_the_height_that_was_asked_for(capitals):
    line = draw_line("HEIGHT", BUILT_IN, Style(float(capitals)))
    assert line is not None
    assert abs(line.capitals_px - capitals) <= 1
    assert abs(line.ink.shape[0] - capitals) <= 3
    assert line.letters == 6


def test_a_turned_line_has_the_same_ink():
    upright, turned = (draw_line("TURNED 12", BUILT_IN, Style(16.0, angle)) for angle in (0, 90))
    assert upright is not None
    assert turned is not None
    assert (np.rot90(upright.ink) == turned.ink).all()
    aslant = draw_line("TURNED 12", BUILT_IN, Style(16.0, 30))
    assert aslant is not None
    assert aslant.ink.sum() == pytest.approx(upright.ink.sum(), rel=0.05)
    assert aslant.body.mean() < 0.7 < upright.body.mean()


def test_zoom_repeats_pixels():
    line = draw_line("ZOOM", BUILT_IN_BITMAP, Style(14.0, hard=True, zoom=2))
    assert line is not None
    assert (line.ink[::2, ::2] == line.ink[1::2, 1::2]).all()


def test_made_up_text_is_long_enough_and_varied():
    rng = np.random.default_rng(9)
    texts = [made_up_text(rng) for _ in range(300)]
    assert min(sum(map(str.isalnum, text)) for text in texts) >= FEWEST_LETTERS
    assert len(set(texts)) > 290
    # One in six is meant to be beyond ASCII; 300 draws give 20 to 90 with probability > 0.999.
    assert 20 <= sum(not text.isascii() for text in texts) <= 90


def test_initials_are_one_or_two_characters():
    rng = np.random.default_rng(10)
    assert {len(initials(rng)) for _ in range(60)} == {1, 2}


def test_a_single_letter_counts_neither_way():
    painter = Painter(FONTS, np.random.default_rng(6), pool=5)
    painted = [painter.paint(96) for _ in range(150)]
    assert any(image.ignored.any() and not image.text.any() for image in painted)


def test_a_share_of_lines_can_be_as_small_and_faint_as_must_be_found():
    """Capitals of 7.5 to 11 pixels: a body of at most 30 rows, where ordinary lines reach 60 and more."""

    def tallest(small):
        painter = Painter((BUILT_IN,), np.random.default_rng(8), pool=5, small=small)
        rows = [painter.paint(160).text.max(axis=1) > 0.5 for _ in range(60)]
        return [
            int(np.diff(np.flatnonzero(np.diff(np.r_[0, row, 0])))[::2].max()) for row in rows if row.any()
        ]

    upright = np.percentile(tallest(1.0), 40)
    assert upright < 20 < np.percentile(tallest(0.0), 60)


def test_a_font_without_a_script_says_so():
    assert can_draw(BUILT_IN, "Name 12")
    assert not can_draw(BUILT_IN, "患者")
    assert not can_draw(BUILT_IN_BITMAP, "患者")


def test_a_folder_without_fonts_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected .*\.ttf.* found none"):
        typefaces([tmp_path])
