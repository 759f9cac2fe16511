"""Burned-in text is really there, and is what was asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from fedimg.dicom.lettering import CHARACTER_WIDTH_PX, LINE_HEIGHT_PX, draw, fitting

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)


@given(TEXT)
def test_the_strokes_are_pillows(text):
    pixels = np.full((20, 90), 7, np.uint16)
    draw(pixels, text, 4, 5, 4000)
    picture = Image.new("1", (90, 20))
    ImageDraw.Draw(picture).text((5, 4), text, fill=1, font=ImageFont.load_default_imagefont())
    assert ((pixels == 4000) == np.asarray(picture)).all()
    assert set(np.unique(pixels)) == {7, 4000}


@given(TEXT, st.integers(0, 30), st.integers(0, 60))
def test_text_is_clipped_at_the_edges_and_drawn_in_every_frame(text, row, column):
    pixels = np.zeros((2, 24, 50), np.uint8)
    draw(pixels, text, row, column, 255)
    assert (pixels[0] == pixels[1]).all()
    assert not pixels[:, :row].any() and not pixels[:, row + LINE_HEIGHT_PX :].any()


@given(st.text(max_size=40), st.integers(0, 200))
def test_what_fits_fits(text, width):
    shown = fitting(text, width)
    assert len(shown) * CHARACTER_WIDTH_PX <= width
    assert text.encode("latin-1", "replace").decode("latin-1").startswith(shown)


def test_no_text_draws_nothing():
    pixels = np.zeros((4, 4))
    draw(pixels, "", 0, 0, 1)
    assert not pixels.any()
