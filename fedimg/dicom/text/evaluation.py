"""How well the text detector does: recall of lines by condition, and how many clean images it touches.

A line counts as found if 95 % of its ink lies within boxes, ink being pixels at least half covered
by a letter. Contrast is the distance between the ink and the mean of what lies beneath the line,
as a share of the visible range; where that ground varies by more than half the contrast, the
contrast is raised to twice its deviation, or the line is put elsewhere: text no eye can read is no case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import stats

from fedimg.dicom.text import held_out
from fedimg.dicom.text.synthetic_marks import draw_marks
from fedimg.dicom.text.synthetic_text import Line, Style, can_draw, draw_line
from fedimg.dicom.text.views import Box, Frames

FloatImage = npt.NDArray[Any]
Generator = np.random.Generator
Finder = Callable[[Frames], Sequence[Box]]

SIDE = 320
COVERED = 0.95  # of a line's ink
CAPITALS_PX = (8, 9, 10, 12, 14, 16, 20, 26, 34, 48)
CONTRASTS = (0.3, 0.4, 0.6, 1.0)
PLACES = ("corner", "edge", "anatomy", "bone", "banner")
ANGLES = (0, 0, 0, 90, 180, 270, 5, -5, 12, -12)
_LEGIBLE = 2.0
_TRIES = 60


@dataclass(frozen=True, slots=True)
class Case:
    """One line and under what conditions it was drawn; `mask`: its ink in the image (side, side)."""

    kind: str
    place: str
    capitals_px: int
    contrast: float
    angle: int
    dark: bool
    font: str
    mask: npt.NDArray[np.bool_]


class Drawer(Protocol):
    """Draws one image with lines from fonts."""

    def __call__(
        self, fonts: Sequence[Path], rng: Generator, *, capitals_px: Sequence[int] = ...
    ) -> tuple[Frames, list[Case]]:
        """The image, and its lines."""


@dataclass(frozen=True, slots=True)
class Share:
    """Successes of a number of trials, with the exact (Clopper–Pearson) 95 % interval."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """NaN where nothing was tried."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper limit."""
        low, high = stats.binomtest(self.hits, self.of).proportion_ci(0.95, "exact")
        return float(low), float(high)


def drawn_image(
    fonts: Sequence[Path], rng: Generator, *, capitals_px: Sequence[int] = CAPITALS_PX
) -> tuple[Frames, list[Case]]:
    """One image with up to three lines of text that do not touch each other."""
    kind = str(rng.choice(held_out.KINDS))
    image = held_out.anatomy(kind, SIDE, rng)
    if rng.random() < 0.3:
        cover = draw_marks(SIDE, 1, rng)
        image = image * (1 - cover) + cover
    taken = np.zeros((SIDE, SIDE), np.bool_)
    cases = []
    for _ in range(3):
        case = _write(image, taken, kind, fonts, rng, capitals_px)
        if case is not None:
            cases.append(case)
    return as_frames(image, rng), cases


def header_image(
    fonts: Sequence[Path], rng: Generator, *, capitals_px: Sequence[int] = CAPITALS_PX
) -> tuple[Frames, list[Case]]:
    """One image with three to six lines below each other in an upper corner, as devices write them."""
    kind = str(rng.choice(held_out.KINDS))
    image = held_out.anatomy(kind, SIDE, rng)
    font, capitals = fonts[int(rng.integers(0, len(fonts)))], int(rng.choice(capitals_px))
    contrast, right = float(rng.choice(CONTRASTS)), rng.random() < 0.5
    hard, gap = bool(rng.random() < 0.3), int(rng.integers(2, 3 + capitals))
    top, cases = int(rng.integers(0, 8)), list[Case]()
    for _ in range(int(rng.integers(3, 7))):
        line = draw_line(_drawable(held_out.text(rng), font), font, Style(capitals, 0.0, hard))
        if line is None or line.capitals_px < min(capitals_px) or line.ink.shape[1] > SIDE - 4:
            continue
        if top + line.ink.shape[0] > SIDE:
            break
        left = SIDE - 2 - line.ink.shape[1] if right else 2
        ground = image[top : top + line.ink.shape[0], left : left + line.ink.shape[1]]
        value = _value(ground, contrast, rng)
        if value is not None:
            dark = value < float(ground.mean())
            mask = _inked(image, line, (top, left), ground, value)
            cases.append(Case(kind, "header", round(line.capitals_px), contrast, 0, dark, font.name, mask))
        top += line.ink.shape[0] + gap
    return as_frames(image, rng), cases


def clean_image(rng: Generator, *, marks: bool) -> Frames:
    """One image without text, with rulers, grids, wires and such, or with nothing but anatomy."""
    kind = str(rng.choice(held_out.KINDS))
    image = held_out.anatomy(kind, SIDE, rng)
    if marks:
        cover = draw_marks(SIDE, int(rng.integers(1, 3)), rng)
        image = image * (1 - cover) + cover
    return as_frames(image, rng)


def as_frames(image: FloatImage, rng: Generator) -> Frames:
    """Stored values of 8, 12 or 16 bits, some of them MONOCHROME1."""
    bits = int(rng.choice([8, 12, 16]))
    full = (1 << bits) - 1
    inverse = rng.random() < 0.2
    shown = 1 - image if inverse else image
    stored = np.rint(np.clip(shown, 0, 1) * full).astype(np.uint8 if bits == 8 else np.uint16)
    return Frames(stored[None, :, :, None], "MONOCHROME1" if inverse else "MONOCHROME2", bits)


def _write(
    image: FloatImage,
    taken: npt.NDArray[np.bool_],
    kind: str,
    fonts: Sequence[Path],
    rng: Generator,
    capitals_px: Sequence[int],
) -> Case | None:
    font = fonts[int(rng.integers(0, len(fonts)))]
    capitals, angle = int(rng.choice(capitals_px)), int(rng.choice(ANGLES))
    contrast, place = float(rng.choice(CONTRASTS)), str(rng.choice(PLACES))
    line = draw_line(
        _drawable(held_out.text(rng), font), font, Style(capitals, angle, bool(rng.random() < 0.3))
    )
    if line is None or line.capitals_px < min(capitals_px) or max(line.ink.shape) > SIDE - 4:
        return None
    for y, x in _places(place, line, rng):
        window = (slice(y, y + line.ink.shape[0]), slice(x, x + line.ink.shape[1]))
        ground = image[window]
        if taken[window].any() or (place == "bone" and ground.mean() < 0.7):
            continue
        if place == "banner":
            ground = np.full_like(ground, rng.choice([0.0, 0.5, 1.0]))
        value = _value(ground, contrast, rng)
        if value is None:
            continue
        dark = value < float(ground.mean())
        mask = _inked(image, line, (y, x), ground, value)
        taken[max(0, y - 12) : y + line.ink.shape[0] + 12, max(0, x - 12) : x + line.ink.shape[1] + 12] = True
        return Case(kind, place, round(line.capitals_px), contrast, angle, dark, font.name, mask)
    return None


def _drawable(words: str, font: Path) -> str:
    """The words, in letters that the font has."""
    return words if can_draw(font, words) else words.encode("ascii", "replace").decode().replace("?", "e")


def _inked(
    image: FloatImage, line: Line, at: tuple[int, int], ground: FloatImage, value: float
) -> npt.NDArray[np.bool_]:
    """Put a line on its ground into the image; the mask of its ink."""
    window = (slice(at[0], at[0] + line.ink.shape[0]), slice(at[1], at[1] + line.ink.shape[1]))
    image[window] = ground * (1 - line.ink) + value * line.ink
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[window] = line.ink >= 0.5 * line.ink.max()
    return mask


def _places(place: str, line: Line, rng: Generator) -> Iterator[tuple[int, int]]:
    height, width = line.ink.shape
    most = SIDE - height, SIDE - width
    for _ in range(_TRIES):
        y, x = int(rng.integers(0, most[0] + 1)), int(rng.integers(0, most[1] + 1))
        if place == "corner":
            y, x = (int(rng.choice([int(rng.integers(0, 6)), end - int(rng.integers(0, 4))])) for end in most)
        if place == "edge":
            y, x = (
                (y, int(rng.choice([0, most[1]])))
                if rng.random() < 0.5
                else (int(rng.choice([0, most[0]])), x)
            )
        yield max(0, min(y, most[0])), max(0, min(x, most[1]))


def _value(ground: FloatImage, contrast: float, rng: Generator) -> float | None:
    """A value that stands off from the ground by the contrast; None where there is none within [0, 1]."""
    mean, deviation = float(ground.mean()), float(ground.std())
    step = max(contrast, _LEGIBLE * deviation)
    ends = [value for value in (mean + step, mean - step) if -1e-6 <= value <= 1 + 1e-6]
    if not ends and contrast == 1:  # the extreme that is farther away
        ends = [end for end in (0.0, 1.0) if abs(end - mean) >= max(0.5, _LEGIBLE * deviation)]
    return ends[int(rng.integers(0, len(ends)))] if ends else None


def covered_share(mask: npt.NDArray[np.bool_], boxes: Sequence[Box]) -> float:
    """How much of the ink of a mask (rows, columns) lies within the boxes."""
    inside = np.zeros_like(mask)
    for box in boxes:
        inside[box.y0 : box.y1 + 1, box.x0 : box.x1 + 1] = True
    return float(inside[mask].mean())


def covered(case: Case, boxes: Sequence[Box]) -> bool:
    """Whether the boxes hold the line's ink."""
    return covered_share(case.mask, boxes) >= COVERED


def measure(
    find: Finder,
    fonts: Sequence[Path],
    lines: int,
    seed: int,
    *,
    capitals_px: Sequence[int] = CAPITALS_PX,
    draw: Drawer = drawn_image,
) -> list[tuple[Case, bool]]:
    """Draw images until there are so many lines; each with whether it was found."""
    rng = np.random.default_rng(seed)
    results: list[tuple[Case, bool]] = []
    while len(results) < lines:
        frames, cases = draw(fonts, rng, capitals_px=capitals_px)
        boxes = find(frames)
        results += [(case, covered(case, boxes)) for case in cases]
    return results[:lines]


def by_condition(results: Sequence[tuple[Case, bool]]) -> dict[str, dict[str, Share]]:
    """Recall for each value of each condition, and of all lines."""
    table: dict[str, dict[str, Share]] = {"all": {"lines": _share(found for _, found in results)}}
    for name in ("capitals_px", "contrast", "place", "kind", "angle", "dark", "font"):
        values = sorted({getattr(case, name) for case, _ in results})
        table[name] = {
            str(value): _share(found for case, found in results if getattr(case, name) == value)
            for value in values
        }
    return table


def _share(found: Iterator[bool]) -> Share:
    outcomes = list(found)
    return Share(sum(outcomes), len(outcomes))
