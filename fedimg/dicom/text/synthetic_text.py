"""Lines of text as masks of ink, for training and testing the text detector.

A line is drawn with a real font at a chosen height of its capitals, smooth or with hard pixels,
then turned. Strings are made, not collected: names, dates, numbers and labels as devices write them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

FloatImage = npt.NDArray[Any]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

BUILT_IN = Path("built-in")  # Pillow's own outlines
BUILT_IN_BITMAP = Path("built-in-bitmap")  # Pillow's own pixels

_SUFFIXES = (".ttf", ".otf", ".otb", ".pcf", ".pcf.gz")
_BITMAP_SIZES = range(6, 37)
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ACCENTED = "áàâäãåçéèêëíîïñóôöõøúùûüßæ"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_CYRILLIC = "абвгдежзиклмнопрстуфхцчшщыэюя"
_HAN = "患者姓名出生日期病院科室山田中李王张陈刘杨黄赵吴周徐孙马朱胡郭何高林郑"


@dataclass(frozen=True, slots=True)
class Line:
    """One drawn line.

    Attributes:
        ink: (h, w) coverage in [0, 1]. body: (h, w), 1 within the line's own (turned) rectangle.
        capitals_px: measured height of its capitals. letters: characters that are not spaces.
    """

    ink: FloatImage
    body: FloatImage
    capitals_px: float
    letters: int


@dataclass(frozen=True, slots=True)
class Style:
    """How a line is drawn. `angle` in degrees; `hard`: no smoothing; `zoom`: every pixel that many times."""

    capitals_px: float
    angle: float = 0.0
    hard: bool = False
    zoom: int = 1


def typefaces(folders: Sequence[Path]) -> list[Path]:
    """All font files below the folders, sorted by name so that the order is the same everywhere."""
    found = [path for folder in folders for path in folder.rglob("*") if path.name.endswith(_SUFFIXES)]
    if not found:
        raise ValueError(
            f"fonts: expected {', '.join(_SUFFIXES)} files, found none; name a folder that has some"
        )
    return sorted(found, key=lambda path: (path.name, str(path)))


def digest(path: Path) -> str:
    """SHA-256 of a font file, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=4096)
def _font(path: Path, size: int) -> Font | None:
    """The font in one size, None where a bitmap font has no such size."""
    if path == BUILT_IN_BITMAP:
        return ImageFont.load_default_imagefont()
    if path == BUILT_IN:
        return ImageFont.load_default(size)
    try:
        # From bytes: for a path that fails, Pillow looks through all the system's fonts.
        return ImageFont.truetype(io.BytesIO(_file(path)), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:  # FreeType: "invalid pixel size"
        return None


@lru_cache(maxsize=1024)
def _file(path: Path) -> bytes:
    return path.read_bytes()


@lru_cache(maxsize=4096)
def _capitals(path: Path, size: int) -> int:
    """Height of an H in pixels; 0 where there is no such size."""
    font = _font(path, size)
    if font is None:
        return 0
    rows = np.flatnonzero((_canvas("H", font, hard=False) > 0.5).any(axis=1))
    return int(rows[-1] - rows[0] + 1) if len(rows) else 0


@lru_cache(maxsize=1024)
def _sized(path: Path, capitals_px: float) -> Font:
    """The font in the size whose capitals come nearest to the height."""
    if path == BUILT_IN_BITMAP:
        return ImageFont.load_default_imagefont()
    if path.name.endswith((".otb", ".pcf", ".pcf.gz")):
        sizes = [size for size in _BITMAP_SIZES if _capitals(path, size)]
        best = min(sizes, key=lambda size: abs(_capitals(path, size) - capitals_px))
    else:
        large = _capitals(path, 100) / 100
        best = max(4, round(capitals_px / large)) if large else round(capitals_px * 1.4)
    font = _font(path, best)
    if font is None:
        raise ValueError(f"fonts: expected {path.name} to have a size, found none; leave it out")
    return font


def _canvas(text: str, font: Font, *, hard: bool) -> FloatImage:
    x0, y0, x1, y1 = font.getbbox(text)
    size = (max(1, int(np.ceil(x1 - min(x0, 0)))) + 4, max(1, int(np.ceil(y1 - min(y0, 0)))) + 4)
    image = Image.new("L", size)
    pen = ImageDraw.Draw(image)
    pen.fontmode = "1" if hard else "L"
    pen.text((2 - min(x0, 0), 2 - min(y0, 0)), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def draw_line(text: str, typeface: Path, style: Style) -> Line | None:
    """The line's ink, cut to its (turned) rectangle; None where the font draws nothing of it."""
    font = _sized(typeface, style.capitals_px / style.zoom)
    ink = _canvas(text, font, hard=style.hard)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if not len(rows):
        return None
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ink = ink.repeat(style.zoom, axis=0).repeat(style.zoom, axis=1)
    body = np.ones_like(ink)
    capital = _canvas("H", font, hard=style.hard) > 0.5
    height = int(capital.any(axis=1).sum()) * style.zoom
    quarter, tilt = divmod(style.angle + 45, 90)
    if abs(tilt - 45) > 0.5:
        ink, body = _turned(ink, tilt - 45), _turned(body, tilt - 45)
    ink, body = np.rot90(ink, int(quarter)), np.rot90(body, int(quarter))
    return Line(ink, body, float(height), sum(not character.isspace() for character in text))


def draw_block(texts: Sequence[str], typeface: Path, style: Style, rng: np.random.Generator) -> Line | None:
    """Lines of one style below each other, as headers of images stand, left, right or in the middle.

    Its angle is rounded to quarters. None where the font draws none of them.
    """
    upright = Style(style.capitals_px, 0.0, style.hard, style.zoom)
    lines = [line for text in texts if (line := draw_line(text, typeface, upright)) is not None]
    if not lines:
        return None
    gap = max(1, round(style.capitals_px * rng.uniform(0.15, 1.0)))
    height = sum(line.ink.shape[0] + gap for line in lines) - gap
    width = max(line.ink.shape[1] for line in lines)
    ink, body = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    side, top = rng.choice([0.0, 0.0, 0.5, 1.0]), 0
    for line in lines:
        rows, columns = line.ink.shape
        left = int(side * (width - columns))
        ink[top : top + rows, left : left + columns] = line.ink
        body[top : top + rows, left : left + columns] = 1
        top += rows + gap
    turns = round(style.angle / 90)
    letters = sum(line.letters for line in lines)
    return Line(np.rot90(ink, turns), np.rot90(body, turns), lines[0].capitals_px, letters)


def _turned(mask: FloatImage, degrees: float) -> FloatImage:
    image = Image.fromarray((mask * 255).astype(np.uint8))
    turned = image.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(turned, np.float32) / 255


@lru_cache(maxsize=1024)
def _any_size(path: Path) -> Font | None:
    sizes = (24, *_BITMAP_SIZES)
    return next((font for size in sizes if (font := _font(path, size)) is not None), None)


def can_draw(typeface: Path, text: str) -> bool:
    """Whether a font has every character: none looks like the one that stands for missing characters."""
    font = _any_size(typeface)
    if font is None or isinstance(font, ImageFont.ImageFont):
        return text.isascii()
    return all(_has(typeface, character) for character in set(text) if not character.isspace())


@lru_cache(maxsize=100_000)
def _has(typeface: Path, character: str) -> bool:
    font = _any_size(typeface)
    return font is not None and bytes(font.getmask(character)) != bytes(font.getmask("\uffff"))


Maker = Callable[[np.random.Generator], str]


def _word(rng: np.random.Generator, alphabet: str, shortest: int = 2, longest: int = 10) -> str:
    letters = rng.choice(list(alphabet), rng.integers(shortest, longest + 1))
    cases = ("".join(letters).upper(), "".join(letters).title(), "".join(letters).lower())
    return cases[int(rng.choice(3, p=[0.45, 0.45, 0.1]))]


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(str(digit) for digit in rng.integers(0, 10, count))


def _name(rng: np.random.Generator, alphabet: str) -> str:
    joint = str(rng.choice([" ", ", ", "^", "  ", "-"]))
    return joint.join(_word(rng, alphabet) for _ in range(rng.integers(1, 4)))


def _date(rng: np.random.Generator) -> str:
    joint = str(rng.choice(["/", "-", ".", "", ":"]))
    return joint.join((_digits(rng, 2), _digits(rng, 2), _digits(rng, int(rng.choice([2, 4])))))


def _number(rng: np.random.Generator) -> str:
    head = str(rng.choice(["", "ID ", "ID:", "#", "MRN ", "Acc: ", "No. "]))
    return head + str(rng.choice(["", "-", " "])).join(
        _digits(rng, int(rng.integers(2, 6))) for _ in range(2)
    )


def _label(rng: np.random.Generator) -> str:
    value = f"{rng.uniform(0, 500):.{rng.integers(0, 3)}f}"
    unit = str(rng.choice(["", " mm", "cm", " Hz", " kV", " mAs", "%", " dB", " fps", "/3"]))
    return f"{_word(rng, _LATIN, 1, 8)}{rng.choice([': ', ' ', '=', ''])}{value}{unit}"


_MAKERS: tuple[tuple[Maker, float], ...] = (
    (lambda rng: _name(rng, _LATIN), 0.34),
    (_date, 0.16),
    (_number, 0.16),
    (_label, 0.16),
    (lambda rng: _name(rng, _LATIN + _ACCENTED), 0.06),
    (lambda rng: _name(rng, _GREEK), 0.02),
    (lambda rng: _name(rng, _CYRILLIC), 0.05),
    (lambda rng: "".join(rng.choice(list(_HAN), rng.integers(3, 9))), 0.05),
)


def made_up_text(rng: np.random.Generator) -> str:
    """A string of three characters or more: a name, date, number or label; one in six is not plain Latin."""
    weights = np.array([weight for _, weight in _MAKERS])
    while True:
        maker = _MAKERS[int(rng.choice(len(_MAKERS), p=weights / weights.sum()))][0]
        text = maker(rng)
        if sum(character.isalnum() for character in text) >= 3:
            return text


def initials(rng: np.random.Generator) -> str:
    """One or two letters or digits, as markers and operators' initials are."""
    count = 1 if rng.random() < 0.25 else 2
    return "".join(rng.choice(list(_LATIN.upper() + "0123456789"), count))
