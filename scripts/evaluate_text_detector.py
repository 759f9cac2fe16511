"""Measure the text detector: recall of lines by condition, clean images touched, time for an image.

    python scripts/evaluate_text_detector.py FONT_FOLDER… --lines 4000 --clean 2000 --json result.json

Fonts, anatomy, strings and seeds are not those of the training: name font folders whose fonts
are not listed in `fedimg/dicom/text/weights.json` (a font that is, by its digest, is refused). Pillow's two
built-in fonts are always used. `--real` adds folders of DICOM files without text: CT and MR slices,
each of which counts as one clean image. Intervals are exact binomial ones, 95 %.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from fedimg.dicom.pixels import stored_frames
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.text import Frames, TextDetector
from fedimg.dicom.text.evaluation import (
    CAPITALS_PX,
    Share,
    as_frames,
    by_condition,
    clean_image,
    header_image,
    measure,
)
from fedimg.dicom.text.held_out import KINDS, anatomy
from fedimg.dicom.text.network import WEIGHTS, opened
from fedimg.dicom.text.synthetic_text import BUILT_IN, BUILT_IN_BITMAP, digest, typefaces

TIMED_SIDE, TIMED_IMAGES = 512, 41
SMALL_PX = (5, 6, 7)  # below what is promised: shown, not counted


def unseen_fonts(folders: Sequence[Path]) -> list[Path]:
    """Fonts below the folders and Pillow's own. Raises ValueError for one that was trained on."""
    trained = set(json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))["fonts"].values())
    fonts = typefaces(folders)
    for font in fonts:
        if digest(font) in trained:
            raise ValueError(
                f"fonts: expected unseen ones, found {font.name}, which was trained on; leave it out"
            )
    return [*fonts, BUILT_IN, BUILT_IN_BITMAP]


def clean_share(detector: TextDetector, count: int, seed: int, *, marks: bool) -> Share:
    """Generated images without text that get a box."""
    rng = np.random.default_rng(seed)
    return Share(sum(bool(detector.find(clean_image(rng, marks=marks))) for _ in range(count)), count)


def real_share(detector: TextDetector, folders: Sequence[Path]) -> Share:
    """The same of DICOM files; what is no image does not count."""
    touched = seen = 0
    for path in sorted(path for folder in folders for path in folder.rglob("*.dcm")):
        try:
            dataset = pydicom.dcmread(path)
            values, photometric = stored_frames(dataset)
        except Quarantined:
            continue
        seen += 1
        touched += bool(detector.find(Frames(values, photometric, dataset.BitsStored)))
    return Share(touched, seen)


def milliseconds(detector: TextDetector, seed: int) -> dict[str, float]:
    """Processor time for one 512 × 512 image on one thread."""
    rng = np.random.default_rng(seed)
    taken = []
    for index in range(TIMED_IMAGES + 1):
        frames = as_frames(anatomy(KINDS[index % len(KINDS)], TIMED_SIDE, rng), rng)
        started = time.process_time()
        detector.find(frames)
        taken.append(1000 * (time.process_time() - started))
    taken = sorted(taken[1:])  # the first one warms up
    return {"median": taken[len(taken) // 2], "p95": taken[int(len(taken) * 0.95)]}


def _row(share: Share) -> dict[str, Any]:
    return {"hits": share.hits, "of": share.of, "share": share.value, "interval": share.interval}


def _line(name: str, share: Share) -> str:
    low, high = share.interval
    return f"{name:36} {share.hits:6} / {share.of:<6} {share.value:8.4f}   [{low:.4f}, {high:.4f}]"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("fonts", nargs="+", type=Path)
    parser.add_argument("--lines", type=int, default=4000)
    parser.add_argument("--clean", type=int, default=2000)
    parser.add_argument("--real", nargs="*", type=Path, default=[])
    parser.add_argument("--seed", type=int, default=90_210)
    parser.add_argument("--weights", type=Path, help="others than the shipped ones")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    net = None
    if arguments.weights:
        data = arguments.weights.read_bytes()
        net = opened(data, digest(arguments.weights))
    detector, fonts = TextDetector(net), unseen_fonts(arguments.fonts)
    results = measure(detector.find, fonts, arguments.lines, arguments.seed)
    table = by_condition(results)
    small = measure(
        detector.find, fonts, max(1, arguments.lines // 8), arguments.seed + 1, capitals_px=SMALL_PX
    )
    headers = by_condition(
        measure(detector.find, fonts, max(1, arguments.lines // 4), arguments.seed + 5, draw=header_image)
    )["all"]["lines"]
    clean = {
        "anatomy": clean_share(detector, arguments.clean, arguments.seed + 2, marks=False),
        "anatomy with rulers, grids, wires": clean_share(
            detector, arguments.clean, arguments.seed + 3, marks=True
        ),
    }
    if arguments.real:
        clean["real files"] = real_share(detector, arguments.real)
    speed = milliseconds(detector, arguments.seed + 4)
    print(f"{detector.version}\nfonts {len(fonts)}, capitals {CAPITALS_PX} px\n\nlines found")
    for condition, rows in table.items():
        for value, share in rows.items():
            print(_line(f"  {condition} {value}", share))
    print(_line("  below each other in a corner", headers))
    below = by_condition(small)["capitals_px"]
    print("\nbelow what is promised")
    for value, share in below.items():
        print(_line(f"  capitals_px {value}", share))
    print("\nclean images touched")
    for name, share in clean.items():
        print(_line(f"  {name}", share))
    print(f"\nms for 512 × 512, one thread: median {speed['median']:.0f}, 95 % {speed['p95']:.0f}")
    if arguments.json:
        result = {
            "version": detector.version,
            "seed": arguments.seed,
            "recall": {
                name: {value: _row(share) for value, share in rows.items()} for name, rows in table.items()
            },
            "below_each_other": _row(headers),
            "below_promised": {value: _row(share) for value, share in below.items()},
            "clean_touched": {name: _row(share) for name, share in clean.items()},
            "ms_512": speed,
        }
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
