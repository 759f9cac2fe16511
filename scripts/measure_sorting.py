"""Measure `fedimg sort` on generated hospitals that its classifier has not seen, and on a folder of real files.

    python scripts/measure_sorting.py                         # hospitals 5 to 8 of another seed
    python scripts/measure_sorting.py --folder FOLDER         # a table of what is decided by what

Generated files are sorted twice: as they are, and as PNG files of their middle frame (CT in one of three usual
windows), of which nothing but the image is left. Right is an answer that equals the file's truth; "frontal" is right
where the truth is PA.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.dicom.image_file import open_image
from fedimg.dicom.refusal import Quarantined
from fedimg.imaging.thumbnails import central_frame
from fedimg.sorting import UNKNOWN, Answer, Sorter, sort_folder
from fedimg.sorting.classifier import THRESHOLD, shipped
from fedimg.values import DecodedImage, FloatArray, Quarantine

TRUTH = {
    "CT": ("CT", "chest", "axial"),
    "MR": ("MR", "head", "axial"),
    "CR": ("CR", "chest", "pa"),
    "US": ("US", "breast", UNKNOWN),
}
WINDOWS_HU = ((40.0, 400.0), (-600.0, 1500.0), (50.0, 350.0))
HOSPITALS = range(4, 8)


def generated(root: Path, patients: int, seed: int) -> list[tuple[Path, str]]:
    """Files of hospitals 5 to 8, and their modality by the folder that they lie in."""
    config = CohortConfig(hospitals=8, patients_per_hospital=patients, image_size=96, broken_files=0)
    for hospital in HOSPITALS:
        generate_hospital(root / f"h{hospital}", config, hospital, seed)
    files = [path for path in sorted(root.rglob("*.dcm")) if path.name != "mask.seg.dcm"]
    return [(path, path.parent.name[-2:]) for path in files]


def pictures(
    files: list[tuple[Path, str]], root: Path, rng: np.random.Generator
) -> Iterator[tuple[Path, str]]:
    """The middle frame of each as a PNG."""
    for number, (path, modality) in enumerate(files):
        grey = _as_exported(open_image(path).decode(), rng)
        target = root / f"{number:05}.png"
        Image.fromarray(np.rint(grey * 255).astype(np.uint8)).save(target)
        yield target, modality


def _as_exported(image: DecodedImage, rng: np.random.Generator) -> FloatArray:
    frame = central_frame(image)
    if image.units == "HU":
        centre, width = WINDOWS_HU[int(rng.integers(len(WINDOWS_HU)))]
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = (float(v) for v in np.percentile(frame, (0.5, 99.5)))
    return np.asarray(np.clip((frame - low) / max(high - low, 1e-3), 0, 1), np.float32)


def tally(files: list[tuple[Path, str]], sorter: Sorter) -> None:
    """How many answers are right, wrong or unknown, by modality and question."""
    counts: Counter[tuple[str, str, str]] = Counter()
    began = time.monotonic()
    for path, modality in files:
        answer = sorter.sort(path)
        found = (answer.modality.value, answer.body_part.value, answer.view.value)
        for question, value, true in zip(
            ("modality", "body_part", "view"), found, TRUTH[modality], strict=True
        ):
            if true == UNKNOWN:
                continue
            right = value == true or (question, value, true) == ("view", "frontal", "pa")
            counts[modality, question, "right" if right else "unknown" if value == UNKNOWN else "WRONG"] += 1
    seconds = time.monotonic() - began
    for key, count in sorted(counts.items()):
        print(*key, count)
    print(f"{1000 * seconds / len(files):.1f} s for 1,000 files")


def describe(folder: Path) -> None:
    """Every kind of answer in a folder, with how many have it."""
    began, total = time.monotonic(), 0
    kinds: Counter[tuple[str, ...]] = Counter()
    for listed in sort_folder(folder, Sorter()):
        kinds[_row(listed.answer)] += 1
        total += 1
    for kind, count in sorted(kinds.items()):
        print(count, *kind, sep="\t")
    print(f"{total} files, {1000 * (time.monotonic() - began) / max(total, 1):.1f} s for 1,000")


def look_only(folder: Path) -> None:
    """What images alone say, without any header: sure answers and how many of each modality have them."""
    kinds: Counter[tuple[str, ...]] = Counter()
    for listed in sort_folder(folder, Sorter(look=False)):
        if listed.answer.reason in set(Quarantine):
            continue
        try:
            shown, probability = shipped().look(central_frame(open_image(listed.path).decode()))
        except Quarantined:
            continue
        sure = shown.modality if probability >= THRESHOLD else UNKNOWN
        kinds[listed.answer.modality.value, listed.answer.body_part.value, "=>", sure, shown.body_part] += 1
    for kind, count in sorted(kinds.items()):
        print(count, *kind, sep="\t")


def _row(answer: Answer) -> tuple[str, ...]:
    said = (answer.modality, answer.body_part, answer.view)
    return (*(f"{s.value}/{s.by}" for s in said), str(answer.decided_by), answer.reason)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images-only", action="store_true", help="of --folder, as if there were no headers")
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=77)
    arguments = parser.parse_args()
    if arguments.folder is not None:
        (look_only if arguments.images_only else describe)(arguments.folder)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "pictures").mkdir()
        files = generated(root / "files", arguments.patients, arguments.seed)
        print(f"{len(files)} files with headers")
        tally(files, Sorter())
        print("the same as PNG")
        made = list(pictures(files, root / "pictures", np.random.default_rng(arguments.seed)))
        try:
            tally(made, Sorter())
        except Quarantined as refusal:  # a generated file that does not decode would be a fault
            raise SystemExit(str(refusal)) from None


if __name__ == "__main__":
    main()
