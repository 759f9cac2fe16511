"""Choose when a heat map's cells are a line of text: recall and false boxes for a grid of decisions.

    python scripts/tune_text_detector.py FONT_FOLDER… --weights new.safetensors --lines 2000 --clean 1000

Heat maps are made once and every decision is tried on them. Name the fonts of the training: seeds and
fonts of this choice are not those of `scripts/evaluate_text_detector.py`, whose figures are reported.
The decision goes into `fedimg/dicom/text/boxes.py`. Rows with more than `--touched` of clean images are
left out; of the rest the best come first, by recall of all lines, then by clean images with rulers.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedimg.dicom.text import Box, Frames, TextDetector
from fedimg.dicom.text.boxes import Decision, Rectangle, lines_of
from fedimg.dicom.text.detector import SMALLEST_SIDE, solid_lines
from fedimg.dicom.text.evaluation import COVERED, Case, clean_image, covered_share, drawn_image, header_image
from fedimg.dicom.text.network import opened
from fedimg.dicom.text.synthetic_text import digest, typefaces

SURE, GROW, FEWEST, BEYOND = (0.5, 0.6, 0.7, 0.8, 0.9), (0.03, 0.1, 0.2, 0.3), (3, 5, 8), (0.6, 1.0)
SHOWN = 12


class Seen(NamedTuple):
    """One image as both halves saw it: heat maps with their cells, boxes, and the lines it has."""

    levels: list[tuple[npt.NDArray[np.float32], int]]
    classical: list[Rectangle]
    rows: int
    columns: int
    cases: list[Case]

    def boxes(self, decision: Decision) -> list[Box]:
        """What the detector would find with another decision."""
        found = list(self.classical)
        for heat, cell in self.levels:
            found += lines_of(heat, cell, self.rows, self.columns, decision)
        return [Box(None, *line) for line in found]


def seen(detector: TextDetector, frames: Frames, cases: list[Case]) -> Seen:
    """Both halves' view of a single monochrome frame."""
    plane = frames.values[0, :, :, 0]
    levels = [
        (heat.astype(np.float16).astype(np.float32), cell)
        for heat, cell in detector.levels(plane, doubled=min(plane.shape) < SMALLEST_SIDE)
    ]
    rows, columns = plane.shape
    return Seen(levels, solid_lines(plane), rows, columns, cases)


def validation(
    detector: TextDetector, fonts: Sequence[Path], lines: int, clean: int, seed: int
) -> dict[str, list[Seen]]:
    """Images with lines, one in four of them in a header, and clean ones without and with marks."""
    rng, drawn, count = np.random.default_rng(seed), list[Seen](), 0
    while count < lines:
        frames, cases = (drawn_image if count < 0.75 * lines else header_image)(fonts, rng)
        drawn.append(seen(detector, frames, cases))
        count += len(cases)
    rng = np.random.default_rng(seed + 1)
    plain = [seen(detector, clean_image(rng, marks=False), []) for _ in range(clean)]
    rng = np.random.default_rng(seed + 2)
    marked = [seen(detector, clean_image(rng, marks=True), []) for _ in range(clean)]
    return {"lines": drawn, "clean": plain, "marked": marked}


def tried(images: dict[str, list[Seen]], decision: Decision) -> dict[str, Any]:
    """Recall of lines, the share of their images that is masked, and shares of clean images touched."""
    found: dict[bool, list[bool]] = {False: [], True: []}
    masked = 0.0
    for image in images["lines"]:
        boxes = image.boxes(decision)
        masked += covered_share(np.ones((image.rows, image.columns), np.bool_), boxes)
        for case in image.cases:
            found[case.place == "header"].append(covered_share(case.mask, boxes) >= COVERED)
    touched = {
        name: sum(bool(image.boxes(decision)) for image in images[name]) / max(1, len(images[name]))
        for name in ("clean", "marked")
    }
    single, header = (sum(found[kind]) / max(1, len(found[kind])) for kind in (False, True))
    masked /= max(1, len(images["lines"]))
    return {"decision": decision, "recall": single, "header": header, "masked": masked, **touched}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("fonts", nargs="+", type=Path)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--clean", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=31_415)
    parser.add_argument("--touched", type=float, default=0.01, help="most of the clean images")
    parser.add_argument("--weights", type=Path, help="others than the shipped ones")
    arguments = parser.parse_args()
    net = None
    if arguments.weights:
        net = opened(arguments.weights.read_bytes(), digest(arguments.weights))
    images = validation(
        TextDetector(net), typefaces(arguments.fonts), arguments.lines, arguments.clean, arguments.seed
    )
    print("now ", tried(images, Decision()))
    rows = [tried(images, Decision(*each)) for each in itertools.product(SURE, GROW, FEWEST, BEYOND)]
    allowed = [row for row in rows if row["clean"] <= arguments.touched]
    for row in sorted(allowed, key=lambda row: (-0.75 * row["recall"] - 0.25 * row["header"], row["marked"]))[
        :SHOWN
    ]:
        print("best", row)
    if not allowed:
        print(f"none touches {arguments.touched:.1%} of clean images or fewer; train longer")


if __name__ == "__main__":
    main()
