"""Identifiers as pictures: what was drawn is gone from the released pixels, or the file is held back."""

from __future__ import annotations

import struct
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hospital import Taken, take
from images import (
    J2K,
    JPEG,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    SHARED,
    cr,
    ct,
    ct_pixels,
    image_elements,
    in_syntax,
    mr,
    octets,
    us,
    written,
)
from PIL import Image
from planting import Plant
from rawdicom import EXPLICIT, NATIVE, E, File, e, fragments

TEXT = "OKONKWO ADA 1961"


def drawn(clean: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """Where two images differ: the strokes of the text, (…, H, W)."""
    differ = clean != marked
    return differ.any(axis=-1) if clean.shape[-1] == 3 else differ


def legible(taken: Taken, strokes: np.ndarray) -> bool:
    """Whether the strokes still differ from what surrounds them in the release.

    strokes: (H, W) or (F, H, W). Covered is what has one value over the whole of the line's box.
    """
    for data in taken.released:
        values = pydicom.pixels.pixel_array(pydicom.dcmread(BytesIO(data)), raw=True)
        frames = values if strokes.ndim == 3 else values[None]
        for frame, mask in zip(frames, strokes.reshape(-1, *strokes.shape[-2:]), strict=True):
            if not mask.any():
                continue
            y, x = np.nonzero(mask)
            box = frame[y.min() : y.max() + 1, x.min() : x.max() + 1]
            inside = mask[y.min() : y.max() + 1, x.min() : x.max() + 1]
            colours = np.unique(box.reshape(box.shape[0] * box.shape[1], -1), axis=0)
            ink = np.unique(box[inside].reshape(int(inside.sum()), -1), axis=0)
            if len(colours) > 1 and not (len(ink) == len(colours) == 1):
                return True
    return False


def check(folder, profile: str, file: File, strokes: np.ndarray, planted: Plant | None = None) -> Taken:
    assert strokes.any()
    taken = take(folder, file, profile=profile)
    assert len(taken.released) + len(taken.reasons) == 1
    assert not legible(taken, strokes)
    if planted is not None:
        assert taken.leaks(planted.secrets) == []
    return taken


def lettered(
    make, clean: np.ndarray, *, at=(8, 8), height=14, value=None, angle=0, **other
) -> tuple[File, np.ndarray]:
    top = int(clean.max()) * 8 // 5 if value is None else value
    marked = written(clean, TEXT, at, height, top, angle)
    return make(marked, **other), drawn(clean, marked)


@pytest.mark.parametrize("syntax", [*NATIVE, JPEG_LOSSLESS, JPEG_LS, J2K, RLE])
@pytest.mark.parametrize("make", [ct, mr, cr])
def test_text_in_a_corner(tmp_path, profile, make, syntax):
    file, strokes = lettered(make, ct_pixels(256))
    check(tmp_path, profile, in_syntax(file, syntax), strokes)


def test_text_over_bone(tmp_path, profile):
    clean = ct_pixels(256).astype(np.int32)
    y, x = np.mgrid[:256, :256]
    bone = 900 * np.exp(-((y - 128.0) ** 2) / 300) * (1 + 0.2 * np.sin(x / 9))
    clean = (clean + bone).clip(0, 4095).astype(np.uint16)
    file, strokes = lettered(ct, clean, at=(120, 60), height=16, value=3400)
    check(tmp_path, profile, file, strokes)


def test_black_text_over_bone(tmp_path, profile):
    clean = (ct_pixels(256) + 1200).astype(np.uint16)
    file, strokes = lettered(ct, clean, at=(120, 60), height=16, value=100)
    check(tmp_path, profile, file, strokes)


def test_white_banner(tmp_path, profile):
    clean = ct_pixels(256).copy()
    clean[:30] = 4000
    file, strokes = lettered(cr, clean, at=(8, 8), height=14, value=0)
    check(tmp_path, profile, file, strokes)


@pytest.mark.parametrize("contrast", [0.35, 0.6, 1.0])
def test_eight_pixels_high(tmp_path, profile, contrast):
    clean = ct_pixels(256)
    value = int(clean.min() + contrast * (int(clean.max()) - int(clean.min())))
    file, strokes = lettered(ct, clean, at=(5, 6), height=8, value=value)
    check(tmp_path, profile, file, strokes)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_rotated(tmp_path, profile, angle):
    file, strokes = lettered(ct, ct_pixels(256), angle=angle)
    check(tmp_path, profile, file, strokes)


def test_monochrome1(tmp_path, profile):
    clean = (1300 - ct_pixels(256).clip(0, 1200)).astype(np.uint16)
    file, strokes = lettered(cr, clean, value=0)
    check(tmp_path, profile, file.having(e("PhotometricInterpretation", "MONOCHROME1")), strokes)


@pytest.mark.parametrize("first_only", [False, True])
def test_palette(tmp_path, profile, first_only):
    """Index 200 and its neighbour are of the same brightness nowhere but in the palette."""
    clean = (octets(192) // 8).astype(np.uint8)
    marked = written(clean, TEXT, (60, 20), 14, 40)
    ramp = (np.arange(256) * 4).clip(0, 120).astype(np.uint16) * 257
    ramp[40] = 65535
    names = ("Red", "Green", "Blue")
    tables = [e(f"{name}PaletteColorLookupTableDescriptor", (256, 0, 16), "US") for name in names]
    tables += [
        e(f"{name}PaletteColorLookupTableData", tuple(int(v) for v in ramp), "OW")
        for name in (names[:1] if first_only else names)
    ]
    tables += [e(f"{name}PaletteColorLookupTableData", (0,) * 256, "OW") for name in names[1:] if first_only]
    file = us(marked, (0, 0, 191, 191)).having(e("PhotometricInterpretation", "PALETTE COLOR"), *tables)
    check(tmp_path, profile, file, drawn(clean, marked))


@pytest.mark.parametrize("photometric", ["YBR_FULL", "RGB"])
def test_colour(tmp_path, profile, photometric):
    grey = octets(192) // 2
    clean = np.stack([grey, np.full_like(grey, 128), np.full_like(grey, 128)], axis=-1)
    if photometric == "RGB":
        clean = np.repeat(grey[..., None], 3, axis=2)
    marked = clean.copy()
    marked[..., 0] = written(clean[..., 0], TEXT, (60, 20), 14, 255)
    file = us(marked, (0, 0, 191, 191)).having(e("PhotometricInterpretation", photometric))
    check(tmp_path, profile, file, drawn(clean, marked))


def test_text_in_one_colour_channel_only(tmp_path, profile):
    clean = np.repeat((octets(192) // 2)[..., None], 3, axis=2)
    marked = clean.copy()
    marked[..., 2] = written(clean[..., 2], TEXT, (60, 20), 16, 255)
    check(tmp_path, profile, us(marked, (0, 0, 191, 191)), drawn(clean, marked))


def test_planar_colour(tmp_path, profile):
    clean = np.repeat((octets(192) // 2)[..., None], 3, axis=2)
    marked = np.stack([written(clean[..., 0], TEXT, (60, 20), 14, 255)] * 3, axis=-1)
    file = us(marked, (0, 0, 191, 191))
    planes = np.moveaxis(marked, -1, 0).tobytes()
    file = file.having(e("PlanarConfiguration", (1,)), e("PixelData", planes, "OB"))
    check(tmp_path, profile, file, drawn(clean, marked))


def test_only_frame_37_of_a_cine(tmp_path, profile):
    clean = np.stack([octets(128, seed % 3) // 2 for seed in range(48)])
    marked = clean.copy()
    marked[37] = written(clean[37], TEXT, (50, 5), 12, 255)
    file = us(marked, (0, 0, 127, 127))
    check(tmp_path, profile, file, drawn(clean, marked))


def test_four_dimensions(tmp_path, profile):
    """Colour frames: (F, H, W, 3), text in the last one."""
    grey = np.stack([octets(128, seed) // 2 for seed in range(6)])
    clean = np.repeat(grey[..., None], 3, axis=3)
    marked = clean.copy()
    marked[5] = np.stack([written(clean[5, ..., 0], TEXT, (50, 5), 12, 255)] * 3, axis=-1)
    check(tmp_path, profile, us(marked, (0, 0, 127, 127)), drawn(clean, marked))


@pytest.mark.parametrize("windowed", [False, True], ids=["no window", "window in the header"])
def test_sixteen_bit_text_seen_in_a_narrow_window_only(tmp_path, profile, windowed):
    """Forty units above a flat background, in an image that spans 60,000."""
    rng = np.random.default_rng(5)
    clean = (1000 + rng.normal(0, 3, (256, 256))).astype(np.uint16)
    clean[150:240, 40:220] = 61000
    marked = written(clean, TEXT, (20, 20), 14, 1040)
    file = ct(marked).having(*image_elements(marked, 16))
    if windowed:
        file = file.having(e("WindowCenter", "-4"), e("WindowWidth", "80"))
    check(tmp_path, profile, file, drawn(clean, marked))


def test_overlay_in_unused_bits(tmp_path, profile):
    """A picture of a name in bits 12 to 15 (PS3.5 8.1.1, retired)."""
    plant = Plant()
    clean = ct_pixels(192)
    picture = written(np.zeros((192, 192), np.uint16), TEXT, (20, 10), 16, 1)
    marked = (clean | picture << 12).astype(np.uint16)
    message = np.unpackbits(np.frombuffer(plant.text("bit 15").encode(), np.uint8))
    marked.reshape(-1)[: message.size] |= message.astype(np.uint16) << 15
    overlay = (E(0x60000100, "US", (16,)), E(0x60000102, "US", (12,)), E(0x60000010, "US", (192,)))
    for syntax in (*NATIVE, RLE):
        file = in_syntax(ct(clean).having(*image_elements(marked, 12), *overlay), syntax)
        taken = take(tmp_path / syntax, file, profile=profile)
        assert taken.leaks(plant.secrets) == []
        values = taken.dataset.pixel_array
        assert (values < 4096).all()
        assert (np.frombuffer(values.tobytes(), np.uint16) >> 12 == 0).all()


def test_overlay_groups(tmp_path, profile):
    plant = Plant()
    groups = []
    for group in (0x6000, 0x6002, 0x601E, 0x6001):
        base = group << 16
        data = plant.text(f"{group:04X} data").encode().ljust(1152, b"\0")
        groups += [
            E(base | 0x10, "US", (96,)),
            E(base | 0x11, "US", (96,)),
            E(base | 0x22, "LO", plant.text(f"{group:04X} description")),
            E(base | 0x40, "CS", "T"),
            E(base | 0x50, "SS", (1, 1)),
            E(base | 0x100, "US", (1,)),
            E(base | 0x102, "US", (0,)),
            E(base | 0x3000, "OW", data),
        ]
    taken = take(tmp_path, ct().having(*groups), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert all(element.tag.group >> 8 not in (0x50, 0x60) for element in taken.dataset)


def test_icon(tmp_path, profile):
    plant = Plant()
    icon = [
        *image_elements(written(np.zeros((64, 64), np.uint8), "OKONKWO", (10, 2), 10, 255)),
        e("PatientName", plant.name("name in the icon")),
    ]
    file = ct().having(e("IconImageSequence", [icon]), E(0x00091110, "SQ", [icon]))
    taken = take(tmp_path, file, profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert "IconImageSequence" not in taken.dataset


def with_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """A JPEG stream with application and comment segments behind SOI."""
    extra = b"".join(
        b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments
    )
    return jpeg[:2] + extra + jpeg[2:]


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LOSSLESS, JPEG_LS])
def test_jpeg_com_and_exif(tmp_path, profile, syntax):
    plant = Plant()
    file = in_syntax(ct(), syntax)
    frame = file.elements[0x7FE00010].value[16:]
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = plant.text("ImageDescription"), plant.text("Artist")
    buffer = BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", exif=exif, comment=plant.text("thumbnail"))
    data = with_segments(
        frame,
        (0xFE, plant.text("COM").encode()),
        (0xE1, b"Exif\0\0" + exif.tobytes()[6:]),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + plant.text("XMP").encode()),
        (0xED, b"Photoshop 3.0\0" + plant.text("IPTC").encode()),
        (0xE5, buffer.getvalue()),
    )
    pixels = E(0x7FE00010, "OB", fragments([data]), undefined=True)
    taken = take(tmp_path, replace(file.having(pixels), syntax=EXPLICIT), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LOSSLESS, JPEG_LS, J2K, RLE])
def test_bytes_behind_the_end_of_a_frame(tmp_path, profile, syntax):
    plant = Plant()
    file = in_syntax(ct(), syntax)
    frame = file.elements[0x7FE00010].value[16:] + plant.text("behind the end").encode()
    pixels = E(0x7FE00010, "OB", fragments([frame]), undefined=True)
    taken = take(tmp_path, file.having(pixels), profile=profile)
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("syntax", [JPEG, JPEG_LS, J2K, RLE])
def test_text_in_the_offset_table_and_in_a_fragment_of_its_own(tmp_path, profile, syntax):
    plant = Plant()
    file = in_syntax(ct(), syntax)
    frame = file.elements[0x7FE00010].value[16:]
    text = plant.text("a fragment more").encode()
    table = plant.text("offset table").encode()
    for name, value in {
        "table": fragments([frame], table + b" " * (-len(table) % 4)),
        "fragment": fragments([frame, text]),
        "delimiter": fragments([frame]) + struct.pack("<HHI", 0xFFFE, 0xE0DD, len(text)) + text,
    }.items():
        pixels = E(0x7FE00010, "OB", value, undefined=True)
        taken = take(tmp_path / name, file.having(pixels), profile=profile)
        assert taken.leaks(plant.secrets) == []


def test_j2k_com(tmp_path, profile):
    plant = Plant()
    file = in_syntax(mr(), J2K)
    frame = file.elements[0x7FE00010].value[16:]
    at = frame.index(b"\xff\x52")  # COD, the first marker behind SIZ
    comments = b""
    for registration, place in ((1, "Latin text"), (0, "binary")):
        text = plant.text(place).encode()
        comments += b"\xff\x64" + struct.pack(">HH", len(text) + 4, registration) + text
    pixels = E(0x7FE00010, "OB", fragments([frame[:at] + comments + frame[at:]]), undefined=True)
    taken = take(tmp_path, file.having(pixels), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert taken.only


def test_jp2_boxes_around_a_codestream(tmp_path, profile):
    plant = Plant()
    file = in_syntax(mr(), J2K)
    frame = file.elements[0x7FE00010].value[16:]
    text = plant.text("xml box").encode()
    boxes = (
        struct.pack(">I4s4s", 12, b"jP  ", b"\r\n\x87\n") + struct.pack(">I4s", len(text) + 8, b"xml ") + text
    )
    boxes += struct.pack(">I4s", len(frame) + 8, b"jp2c") + frame
    pixels = E(0x7FE00010, "OB", fragments([boxes]), undefined=True)
    taken = take(tmp_path, file.having(pixels), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_rows_beyond_the_stated_size(tmp_path, profile):
    plant = Plant()
    file = ct()
    pixels = file.elements[0x7FE00010]
    more = plant.text("padding rows").encode().ljust(96 * 2 * 3, b"\0")
    taken = take(tmp_path, file.having(replace(pixels, value=pixels.value + more)), profile=profile)
    assert taken.leaks(plant.secrets) == []
    assert len(taken.released) + len(taken.reasons) == 1


def test_ultrasound_banner_outside_the_regions(tmp_path, profile):
    clean = np.repeat((octets(192) // 2)[..., None], 3, axis=2)
    clean[:30] = 0
    marked = np.stack([written(clean[..., 0], TEXT, (8, 8), 14, 255)] * 3, axis=-1)
    taken = check(tmp_path, profile, us(marked, (0, 30, 191, 191)), drawn(clean, marked))
    assert taken.only  # its regions say what the image is: no reason to hold it back


def test_burned_in_annotation_no_counts_for_nothing(tmp_path, profile):
    file, strokes = lettered(ct, ct_pixels(256), BurnedInAnnotation="NO")
    check(tmp_path, profile, file, strokes)


@pytest.mark.parametrize(
    "image_type", ["DERIVED\\SECONDARY", "DERIVED\\SECONDARY\\SCREEN SAVE", "ORIGINAL\\SECONDARY"]
)
def test_secondary_captures_and_screen_saves(tmp_path, profile, image_type):
    plant = Plant()
    for name, file in {
        "ct": ct(ImageType=image_type, PatientName=plant.name("ct")),
        "capture": ct(
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7", ImageType=image_type, PatientName=plant.name("capture")
        ),
    }.items():
        taken = take(tmp_path / name, file, profile=profile)
        assert taken.reasons == ("object_type",)
        assert taken.leaks(plant.secrets) == []


# File and its lines' boxes (x0, y0, x1, y1), read off the pictures.
REAL = [
    (
        "presidio/0_ORIGINAL_compressed.dcm",
        (
            (2, 2, 812, 38),  # name, sex, date
            (16, 50, 362, 82),  # date of birth
            (1752, 18, 2094, 70),  # Semi-Upright
            (1893, 102, 2116, 142),  # Portable
        ),
    ),
    ("presidio/2_ORIGINAL.dcm", ((0, 1, 229, 12), (5, 15, 113, 26))),
    ("deid-data/GREYSCALE_IMAGE.dcm", ((0, 0, 1023, 22),)),
    ("deid-data/RGB_IMAGE.dcm", ((0, 0, 1023, 50),)),
    ("dcm4che/YBR_FULL-RLE.dcm", ((116, 373, 148, 389),)),  # a typed name over the anatomy
]


@pytest.mark.parametrize(("name", "lines"), REAL, ids=[Path(name).stem for name, _ in REAL])
def test_real_burned_in_files(tmp_path, profile, name, lines):
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name}, which is not here")
    taken = take(tmp_path, path.read_bytes(), profile=profile)
    assert len(taken.released) + len(taken.reasons) == 1
    left = []
    for data in taken.released:
        values = pydicom.pixels.pixel_array(pydicom.dcmread(BytesIO(data)), raw=True)
        for x0, y0, x1, y1 in lines:
            box = values[y0:y1, x0:x1]
            if len(np.unique(box.reshape(box.shape[0] * box.shape[1], -1), axis=0)) > 1:
                left.append((x0, y0, x1, y1))
    assert left == []
