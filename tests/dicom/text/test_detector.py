"""What the text detector must find, in whatever values it stands, and what it must leave alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedimg.dicom.text import Box, Frames, TextDetector
from fedimg.dicom.text.evaluation import covered_share
from fedimg.dicom.text.held_out import KINDS, anatomy
from fedimg.dicom.text.synthetic_text import BUILT_IN, BUILT_IN_BITMAP, Style, draw_line

NAME = "KOWALSKI^ANNA 1957"
PLAIN = Style(10.0)


@pytest.fixture(scope="module")
def detector() -> TextDetector:
    return TextDetector()


def lettered(
    image: np.ndarray,
    value: float,
    place: tuple[int, int] = (20, 30),
    style: Style = PLAIN,
    font: Path = BUILT_IN,
) -> tuple[np.ndarray, np.ndarray]:
    """The image with a line of text, and the mask of its ink."""
    line = draw_line(NAME, font, style)
    assert line is not None
    window = (slice(place[0], place[0] + line.ink.shape[0]), slice(place[1], place[1] + line.ink.shape[1]))
    drawn, mask = image.astype(np.float64), np.zeros(image.shape, np.bool_)
    drawn[window] = drawn[window] * (1 - line.ink) + value * line.ink
    mask[window] = line.ink > 0.5
    return drawn, mask


def ground(seed: int, side: int = 256) -> np.ndarray:
    return anatomy(KINDS[seed % len(KINDS)], side, np.random.default_rng(seed))


def stored(image: np.ndarray, bits: int = 8, photometric: str = "MONOCHROME2") -> Frames:
    full = (1 << bits) - 1
    values = np.rint(np.clip(image, 0, 1) * full).astype(np.uint8 if bits <= 8 else np.uint16)
    return Frames(values[None, :, :, None], photometric, bits)


def found(mask: np.ndarray, boxes: list[Box], frame: int = 0) -> bool:
    return covered_share(mask, [box for box in boxes if box.frame in (None, frame)]) >= 0.95


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
@pytest.mark.parametrize(
    "place", [(1, 1), (120, 60), (243, 90)], ids=["corner", "over anatomy", "lower edge"]
)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_white_line_is_found_wherever_it_stands(detector, kind, place, bits):
    image, mask = lettered(ground(kind) * 0.6, 1.0, place)
    assert found(mask, detector.find(stored(image, bits)))


@pytest.mark.parametrize("angle", [0, 90, 180, 270, 7, -7])
@pytest.mark.parametrize("dark", [False, True])
def test_turned_and_inverse_lines_are_found(detector, angle, dark):
    image, mask = lettered(0.3 + 0.4 * ground(1), 0.0 if dark else 1.0, (40, 40), Style(11.0, angle))
    assert found(mask, detector.find(stored(image)))


@pytest.mark.parametrize("capitals", [8, 12, 20, 32, 48])
def test_letters_from_8_pixels_on_are_found(detector, capitals):
    image, mask = lettered(ground(2, 768) * 0.7, 1.0, (60, 20), Style(float(capitals)))
    assert found(mask, detector.find(stored(image)))


def test_the_bitmap_font_of_old_screens_is_found(detector):
    image, mask = lettered(ground(3) * 0.7, 1.0, font=BUILT_IN_BITMAP)
    assert found(mask, detector.find(stored(image)))


def test_monochrome1_is_read_as_it_is_stored(detector):
    image, mask = lettered(1 - 0.6 * ground(0), 0.0)
    assert found(mask, detector.find(stored(image, 12, "MONOCHROME1")))


def test_a_white_banner_with_black_text(detector):
    image = ground(1)
    image[:30] = 1.0
    drawn, mask = lettered(image, 0.0, (8, 20))
    assert found(mask, detector.find(stored(drawn)))


def test_text_over_bone(detector):
    image = ground(0)
    image[90:150, 20:240] = np.random.default_rng(1).normal(0.9, 0.03, (60, 220))
    drawn, mask = lettered(image, 0.5, (110, 40))
    assert found(mask, detector.find(stored(drawn, 12)))


@pytest.mark.parametrize("step", [400, -400])
def test_16_bit_text_that_only_a_narrow_window_shows(detector, step):
    rng = np.random.default_rng(4)
    values = 1000 + 30_000 * ground(0).astype(np.float64) + rng.normal(0, 5, (256, 256))
    values[:60] = 1000 + rng.normal(0, 2, (60, 256))
    values[200:230, 200:230] = 65_535
    drawn, mask = lettered(values, 1000.0 + step)
    frames = Frames(np.rint(np.clip(drawn, 0, 65_535)).astype(np.uint16)[None, :, :, None], "MONOCHROME2", 16)
    assert found(mask, detector.find(frames))


@pytest.mark.parametrize("capitals", [10, 14, 20])
def test_faint_16_bit_text_five_times_the_noise(detector, capitals):
    rng = np.random.default_rng(11)
    image = np.where(np.hypot(*np.mgrid[-256:256, -256:256]) < 250, 1000.0, 0.0)
    image[60:90, 240:270] += 1500
    image += rng.normal(0, 8, image.shape)
    drawn, mask = lettered(image, 0.0, (200, 60), Style(float(capitals)))
    drawn = image + 40 * mask  # added to what is there
    frames = Frames(np.rint(np.clip(drawn, 0, 65_535)).astype(np.uint16)[None, :, :, None], "MONOCHROME2", 16)
    assert found(mask, detector.find(frames))


def test_text_one_grey_value_above_an_even_ground(detector):
    values, mask = lettered(np.full((128, 256), 2000.0), 2001.0, style=Style(12.0, hard=True))
    values[90:, 200:] = 30_000
    assert found(mask, detector.find(Frames(values.astype(np.int16)[None, :, :, None], "MONOCHROME2", 16)))


def test_signed_and_32_bit_values(detector):
    image, mask = lettered(-1000 + 1400 * ground(0).astype(np.float64), 1500.0)
    signed = image.astype(np.int16)[None, :, :, None]
    assert found(mask, detector.find(Frames(signed, "MONOCHROME2", 16)))
    deep = (image.astype(np.int64) + 2_000_000_000).astype(np.int32)[None, :, :, None]
    assert found(mask, detector.find(Frames(deep, "MONOCHROME2", 32)))


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_colour_of_the_same_luminance_hides_nothing(detector, channel):
    grey = np.rint(90 + 60 * ground(1)).astype(np.uint8)
    colour = np.repeat(grey[..., None], 3, axis=2)
    drawn, mask = lettered(grey, 250.0)
    colour[..., channel] = np.rint(drawn)
    assert found(mask, detector.find(Frames(colour[None], "RGB", 8)))


def test_ybr_with_the_text_in_chroma_alone(detector):
    luma = np.rint(90 + 60 * ground(1)).astype(np.uint8)
    chroma, mask = lettered(np.full(luma.shape, 128.0), 220.0)
    ybr = np.stack([luma, np.full_like(luma, 128), np.rint(chroma).astype(np.uint8)], axis=-1)
    assert found(mask, detector.find(Frames(ybr[None], "YBR_FULL", 8)))


def test_palette_indices_mean_what_the_palette_says(detector):
    rng = np.random.default_rng(7)
    shuffled = rng.permutation(256)
    grey, mask = lettered(np.rint(150 * ground(1)), 255.0)
    lut = np.zeros(256, np.uint16)
    lut[shuffled] = np.arange(256) << 8
    frames = Frames(
        shuffled[np.rint(grey).astype(int)].astype(np.uint8)[None, :, :, None],
        "PALETTE COLOR",
        8,
        (lut, lut, lut, 0),
    )
    assert found(mask, detector.find(frames))


def test_text_that_one_palette_hides_and_another_shows(detector):
    indices, mask = lettered(np.full((128, 256), 10.0), 200.0, style=Style(12.0, hard=True))
    lut = np.minimum(np.arange(256), 10).astype(np.uint16) << 8
    frames = Frames(indices.astype(np.uint8)[None, :, :, None], "PALETTE COLOR", 8, (lut, lut, lut, 0))
    assert found(mask, detector.find(frames))


def test_text_on_frame_37_of_a_cine_alone(detector):
    rng = np.random.default_rng(3)
    still = ground(3, 160) * 0.7
    cine = np.stack([np.clip(still + rng.normal(0, 0.02, still.shape), 0, 1) for _ in range(50)])
    cine[37], mask = lettered(cine[37], 1.0, (70, 5))
    boxes = detector.find(Frames(np.rint(cine * 255).astype(np.uint8)[..., None], "MONOCHROME2", 8))
    assert found(mask, boxes, frame=37)
    assert {box.frame for box in boxes} == {37}


def test_a_line_that_stands_in_all_frames_has_one_box(detector):
    rng = np.random.default_rng(3)
    still, mask = lettered(ground(3, 160) * 0.7, 1.0, (1, 1))
    cine = np.clip(still + rng.normal(0, 0.02, (6, *still.shape)) * ~mask, 0, 1)
    boxes = detector.find(Frames(np.rint(cine * 255).astype(np.uint8)[..., None], "MONOCHROME2", 8))
    assert {box.frame for box in boxes} == {None}
    assert found(mask, boxes)


def test_a_frame_that_repeats_another_is_not_looked_at_again(detector, monkeypatch):
    looked = []
    lines = TextDetector._lines
    monkeypatch.setattr(
        TextDetector,
        "_lines",
        lambda self, plane, doubled: (looked.append(plane.shape), lines(self, plane, doubled=doubled))[1],
    )
    still, mask = lettered(ground(3, 256) * 0.7, 1.0, (100, 10))
    cine = np.stack([still] * 20)
    cine[7, 5, 5] = 0.9
    boxes = detector.find(Frames(np.rint(cine * 255).astype(np.uint8)[..., None], "MONOCHROME2", 8))
    assert found(mask, boxes)
    assert looked[0] == (256, 256)
    assert max(rows * columns for rows, columns in looked[1:]) < 80 * 80


def test_initials_are_found(detector):
    missed = 0
    for seed, letters in enumerate(("AB", "KR", "H2", "MW", "ZE", "GD", "B7", "RS")):
        line = draw_line(letters, BUILT_IN, Style(14.0))
        assert line is not None
        image, mask = ground(seed) * 0.5, np.zeros((256, 256), np.bool_)
        window = (slice(12, 12 + line.ink.shape[0]), slice(16, 16 + line.ink.shape[1]))
        image[window] = image[window] * (1 - line.ink) + line.ink
        mask[window] = line.ink > 0.5
        missed += not found(mask, detector.find(stored(image)))
    assert missed <= 1


def test_an_image_too_small_for_a_line_has_none(detector):
    digits = np.array([[1, 0, 1, 1], [1, 0, 0, 1], [1, 1, 0, 1]]).repeat(3, axis=0).repeat(2, axis=1)
    assert detector.find(Frames((digits * 200).astype(np.uint8)[None, :, :, None], "MONOCHROME2", 8)) == []


def test_the_same_image_gives_the_same_boxes(detector):
    image, _ = lettered(ground(2), 1.0)
    assert detector.find(stored(image)) == TextDetector().find(stored(image))


def test_boxes_lie_within_the_image(detector):
    image, _ = lettered(ground(1) * 0.6, 1.0, (0, 0), Style(14.0))
    boxes = detector.find(stored(image))
    assert boxes
    assert all(0 <= box.x0 <= box.x1 < 256 and 0 <= box.y0 <= box.y1 < 256 for box in boxes)


def test_the_version_names_the_weights(detector):
    from fedimg.dicom.text.network import WEIGHTS_SHA256

    assert WEIGHTS_SHA256 in detector.version
