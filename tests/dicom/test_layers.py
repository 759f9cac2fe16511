"""The layers together: text goes wherever it stands and however it is stored, the rest stays, claims are earned."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import masks
from fedimg.dicom.authoring import build_image, encoded
from fedimg.dicom.deidentify import DeidConfig, Deidentified, Deidentifier, Hints
from fedimg.dicom.graphics import Graphics
from fedimg.dicom.reader import parse
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

KEY = SiteKey.from_bytes(b"k" * 32)
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
SIDE = 200


@pytest.fixture(scope="module")
def deidentifier() -> Deidentifier:
    return Deidentifier(KEY, "p", DeidConfig(recompress="none"))


def strokes(text: str = "DOE JANE 4711", at: tuple[int, int] = (12, 20), size: int = 18) -> np.ndarray:
    picture = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(picture).text(at, text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(picture) > 127


def smooth(low: int, high: int) -> np.ndarray:
    """A soft ball on a dark ground, without noise: nothing in it is like a letter."""
    down, across = np.mgrid[:SIDE, :SIDE]
    ball = np.clip(1 - np.hypot(down - 120, across - 110) / 90, 0, 1)
    return (low + (high - low) * ball).astype(np.uint16)


def ct(pixels: np.ndarray, **attributes: Any) -> Dataset:
    known = {"PatientID": "4711", "PatientName": "DOE^JANE", "BitsStored": 12, "BodyPartExamined": "CHEST"}
    return build_image(modality="CT", pixels=pixels, attributes=known | attributes)


def released(
    deidentifier: Deidentifier, dataset: Dataset, hints: Hints | None = None
) -> tuple[Deidentified, Dataset]:
    release = deidentifier.deidentify(parse(encoded(dataset)), hints)
    return release, pydicom.dcmread(io.BytesIO(release.data))


def check(release: Deidentified, after: np.ndarray, before: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Every stroke is masked, everything else is bit for bit; the mask. Arrays (frames, rows, columns, …)."""
    mask = masks.mask_of(release.evidence.to_mapping(), before.shape[:3])
    assert mask is not None
    assert mask[drawn].all()
    assert np.array_equal(after[~mask], before[~mask])
    assert len(np.unique(after[mask].reshape(mask.sum(), -1), axis=0)) == 1
    return mask


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("white", [True, False], ids=["light letters", "dark letters"])
def test_letters_in_grey(deidentifier, photometric, white):
    drawn = strokes()
    pixels = smooth(1300, 2500)
    pixels[drawn] = 4000 if white else 0
    dataset = ct(pixels, PhotometricInterpretation=photometric)
    dataset.PhotometricInterpretation = photometric
    release, read = released(deidentifier, dataset)
    mask = check(release, read.pixel_array[None], pixels[None], drawn[None])
    shown = read.pixel_array[mask[0]]
    assert (shown == (pixels.max() if photometric == "MONOCHROME1" else pixels.min())).all()
    assert mask.mean() < 0.2
    assert release.evidence.pixels.share == pytest.approx(mask.mean(), abs=1e-5)


def test_letters_in_colour(deidentifier):
    drawn = strokes()
    colour = np.repeat((smooth(10, 160)[..., None]), 3, axis=2).astype(np.uint8)
    colour[drawn] = (255, 240, 30)
    for planar in (0, 1):
        dataset = build_image(
            modality="US",
            pixels=colour,
            attributes={"PatientID": "4711", "SOPClassUID": OPHTHALMIC, "Modality": "OP"},
        )
        dataset.PlanarConfiguration = planar
        if planar:
            dataset.PixelData = np.ascontiguousarray(colour.transpose(2, 0, 1)).tobytes()
        release, read = released(deidentifier, dataset)
        mask = check(release, read.pixel_array[None], colour[None], drawn[None])
        assert (read.pixel_array[mask[0]] == 0).all()


def test_letters_in_ybr_become_black_and_not_green(deidentifier):
    drawn = strokes()
    ybr = np.full((SIDE, SIDE, 3), 128, np.uint8)
    ybr[..., 0] = smooth(10, 160)
    ybr[drawn, 0] = 250
    dataset = build_image(
        modality="US",
        pixels=ybr,
        attributes={"PatientID": "4711", "SOPClassUID": OPHTHALMIC, "Modality": "OP"},
    )
    dataset.PhotometricInterpretation = "YBR_FULL"
    release, read = released(deidentifier, dataset)
    after = np.frombuffer(read.PixelData, np.uint8).reshape(1, SIDE, SIDE, 3)
    mask = check(release, after, ybr[None], drawn[None])
    assert (after[mask] == (0, 128, 128)).all()


def test_letters_in_a_palette_take_its_darkest_index(deidentifier):
    drawn = strokes()
    index = (255 - smooth(100, 240)).astype(np.uint8)  # the palette is upside down
    index[drawn] = 0
    dataset = build_image(
        modality="US",
        pixels=index,
        attributes={"PatientID": "4711", "SOPClassUID": OPHTHALMIC, "Modality": "OP"},
    )
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    table = (np.arange(255, -1, -1, dtype=np.uint16) * 257).tobytes()
    for number in (1, 2, 3):
        dataset.add_new(0x00281100 + number, "US", [256, 0, 16])
        dataset.add_new(0x00281200 + number, "OW", table)
    release, read = released(deidentifier, dataset)
    mask = check(release, read.pixel_array[None], index[None], drawn[None])
    assert (read.pixel_array[mask[0]] == 255).all()  # black, in this palette


def cine(frames: int, marked: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    pixels = np.stack([smooth(600, 1500 + 20 * n) for n in range(frames)])
    pixels += rng.integers(0, 5, pixels.shape).astype(np.uint16)
    drawn = np.zeros(pixels.shape, bool)
    drawn[marked] = strokes()
    pixels[drawn] = 4000
    return pixels, drawn


@pytest.mark.parametrize("syntax", ["explicit_le", "rle", "jpeg_2000"])
def test_only_frame_37_of_a_cine(deidentifier, syntax):
    pixels, drawn = cine(40, 36)
    dataset = build_image(
        modality="CT",
        pixels=pixels,
        attributes={"PatientID": "4711", "SOPClassUID": ENHANCED_CT, "BitsStored": 12},
        transfer_syntax=syntax,
    )
    release, read = released(deidentifier, dataset)
    mask = check(release, read.pixel_array, pixels, drawn)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [36]


def test_letters_on_every_frame_are_masked_by_the_layer_for_them(deidentifier):
    pixels, _ = cine(8, 0)
    drawn = np.repeat(strokes("X7", (150, 170), 14)[None], 8, axis=0)  # too short for a line of text
    pixels[drawn] = 4000
    only = Deidentifier(KEY, "p", DeidConfig(recompress="none", pixel_layers="L0-L3"))
    dataset = build_image(
        modality="CT",
        pixels=pixels,
        attributes={"PatientID": "4711", "SOPClassUID": ENHANCED_CT, "BitsStored": 12},
    )
    release, read = released(only, dataset)
    check(release, read.pixel_array, pixels, drawn)


def test_graphics_of_a_series_are_masked_in_its_images_of_that_size(deidentifier):
    pixels = smooth(600, 2500)
    series = Graphics(SIDE, SIDE, ((8, 8, 39, 23),), 12)
    release, read = released(deidentifier, ct(pixels), Hints(graphics=series))
    expected = pixels.copy()
    expected[8:24, 8:40] = pixels.min()
    assert np.array_equal(read.pixel_array, expected)
    other = Graphics(SIDE, SIDE - 1, ((8, 8, 39, 23),), 12)
    release, read = released(deidentifier, ct(pixels), Hints(graphics=other))
    assert np.array_equal(read.pixel_array, pixels)
    assert release.evidence.pixels.masked == ()


def test_a_clean_image_is_left_as_it_is_and_may_say_so(deidentifier):
    pixels = smooth(600, 2500)
    release, read = released(deidentifier, ct(pixels, BurnedInAnnotation="NO"))
    assert np.array_equal(read.pixel_array, pixels)
    assert read.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in read.DeidentificationMethodCodeSequence]
    evidence = release.evidence.pixels
    assert (evidence.masked, evidence.share, evidence.burned_in) == ((), 0.0, "NO")
    assert evidence.detector
    assert masks.mask_of(release.evidence.to_mapping(), (1, SIDE, SIDE)) is None


def test_what_was_not_proven_is_never_claimed():
    only = Deidentifier(KEY, "p", DeidConfig(recompress="none", pixel_layers="L0-L3"))
    release, read = released(only, ct(smooth(600, 2500)))
    assert "BurnedInAnnotation" not in read
    assert b"113101" not in release.data
    assert release.evidence.pixels.layers == ("L0", "L1", "L2", "L3")
    assert release.evidence.pixels.detector == ""


def test_yes_without_any_text_found_is_held_back(deidentifier):
    with pytest.raises(Quarantined, match="BurnedInAnnotation = YES, and no text found") as refusal:
        released(deidentifier, ct(smooth(600, 2500), BurnedInAnnotation="YES"))
    assert refusal.value.reason is Quarantine.BURNED_IN_TEXT


def test_yes_with_text_found_is_masked(deidentifier):
    pixels, drawn = smooth(600, 2500), strokes()
    pixels[drawn] = 4000
    release, read = released(deidentifier, ct(pixels, BurnedInAnnotation="YES"))
    check(release, read.pixel_array[None], pixels[None], drawn[None])
    assert read.BurnedInAnnotation == "NO"


def test_a_mask_over_much_of_the_image_holds_it_back():
    pixels, drawn = smooth(600, 2500), strokes()
    pixels[drawn] = 4000
    strict = Deidentifier(KEY, "p", DeidConfig(largest_mask=0.001))
    with pytest.raises(Quarantined, match="of the pixels to mask, limit 0%") as refusal:
        released(strict, ct(pixels))
    assert refusal.value.reason is Quarantine.BURNED_IN_TEXT


def test_a_masked_release_is_deterministic_and_comes_back_unchanged(deidentifier):
    pixels, drawn = smooth(600, 2500), strokes()
    pixels[drawn] = 4000
    source = parse(encoded(ct(pixels)))
    first = deidentifier.deidentify(source)
    again = Deidentifier(KEY, "p", DeidConfig(recompress="none")).deidentify(source)
    assert first.data == again.data
    assert first.evidence == again.evidence
    assert deidentifier.deidentify(parse(first.data)).data == first.data


def test_device_boxes_of_a_site_are_masked(tmp_path):
    table = tmp_path / "boxes.json"
    table.write_text(
        '{"edition": "site", "boxes": [{"modality": "CT", "manufacturer": "ACME", "model": null, "rows": 200,'
        ' "columns": 200, "mask": [[0, 0, 199, 9]], "source": "seen"}]}'
    )
    deidentifier = Deidentifier(KEY, "p", DeidConfig(recompress="none", vendor_boxes=table))
    pixels = smooth(600, 2500)
    release, read = released(deidentifier, ct(pixels, Manufacturer="Acme "))
    assert (read.pixel_array[:10] == pixels.min()).all()
    assert np.array_equal(read.pixel_array[10:], pixels[10:])
    assert release.evidence.pixels.masked == ((None, 0, 0, 199, 9),)
