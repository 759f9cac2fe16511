"""docs/findings.png: each ready finding as a generated scanner shows it, its outline, and a healthy look-alike.

    python scripts/picture_findings.py docs/findings.png

A row a finding: a sick patient, the same with the outline that is written beside the images, and a healthy one. Windows
are those of the files' headers.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from fedimg.cohort.exams import BY_FINDING
from fedimg.cohort.findings import Body, Order, body_of
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.dicom.lettering import LINE_HEIGHT_PX, draw

_SIDE, _PIXELS, _GAP = 256, 320, 6
_SEEDS = {
    "nodule": (4, 2),
    "cardiomegaly": (4, 7),
    "calcium": (5, 9),
    "haemorrhage": (3, 3),
    "infarct": (7, 7),
}
Picture = npt.NDArray[np.uint8]


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = [np.concatenate(_row(finding), axis=1) for finding in BY_FINDING]
    Image.fromarray(np.concatenate(rows, axis=0)).save(sys.argv[1], optimize=True)
    sys.stdout.write(f"{Path(sys.argv[1]).name}\n")


def _row(finding: str) -> list[Picture]:
    exam = BY_FINDING[finding]
    sick, healthy = (_body(finding, seed, sick=k == 0) for k, seed in enumerate(_SEEDS[finding]))
    at = int(sick.mask.sum((1, 2)).argmax())
    inside = sick.mask[at]
    edge = inside ^ ndimage.binary_erosion(inside)
    plain, other = _seen(finding, sick, at), _seen(finding, healthy, at)
    outlined = plain.copy()
    outlined[_larger(edge, 0)] = (255, 190, 0)
    names = (f"{finding}: {exam.measure} {sick.measure:.3g}", "as drawn", exam.classes[0])
    return [_framed(one, name) for one, name in zip((plain, outlined, other), names, strict=True)]


def _body(finding: str, seed: int, *, sick: bool) -> Body:
    exam = BY_FINDING[finding]
    field = scanner_of(0).field_of_view_mm * exam.field
    return body_of(finding, Order(_SIDE, 24, field, exam, sick, 1.0), np.random.default_rng(seed))


def _seen(finding: str, body: Body, at: int) -> Picture:
    """(H, W, 3), windowed."""
    exam = BY_FINDING[finding]
    scanner = replace(scanner_of(0), blur_px=scanner_of(0).blur_px * exam.blur)
    values = acquire(body.values[at], exam.modality, scanner, exam.noise, np.random.default_rng(0))
    low, high = (
        (0.0, 1.1)
        if exam.modality == "CR"
        else (exam.window[0] - exam.window[1] / 2, exam.window[0] + exam.window[1] / 2)
    )
    grey = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return np.repeat(_larger(grey, 1)[..., None], 3, axis=2)


def _larger(plane: npt.NDArray[np.generic], order: int) -> Picture:
    """As many pixels as are shown."""
    scale = _PIXELS / plane.shape[0]
    grown: Picture = ndimage.zoom(plane.astype(np.uint8), scale, order=order)
    return grown.astype(bool) if plane.dtype == bool else grown


def _framed(picture: Picture, name: str) -> Picture:
    framed = np.full((_PIXELS + LINE_HEIGHT_PX + 2 * _GAP, _PIXELS + _GAP, 3), 24, np.uint8)
    framed[LINE_HEIGHT_PX + 2 * _GAP :, :_PIXELS] = picture
    banner = np.zeros((1, LINE_HEIGHT_PX + 2 * _GAP, _PIXELS), np.uint8)
    draw(banner, name.replace("_", " "), _GAP, 2, 230)
    framed[: LINE_HEIGHT_PX + 2 * _GAP, :_PIXELS] = np.maximum(banner[0][..., None], 24)
    return framed


if __name__ == "__main__":
    main()
