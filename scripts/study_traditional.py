"""Segmentation, detection and expert rules without learning, on generated hospitals whose lesions are known.

    .venv/bin/python scripts/study_traditional.py --patients 60 --seed 0

Prints, of each modality: the mean Dice of lesions by `traditional.segment`, the share of lesions that
`traditional.detect_blobs` finds at one false positive an image, and the AUROC and accuracy of conf/rules/lesion.yaml
on what was measured in the segmentation. Nothing is fitted; lesions are of people who do not exist.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from fedimg.cohort import CohortConfig, generate_hospital
from fedimg.config.keys import conf_folder
from fedimg.dicom.pixels import decode
from fedimg.dicom.reader import read_dataset
from fedimg.dicom.segmentation import segmentation_masks
from fedimg.imaging.measurements import Case, measure
from fedimg.imaging.rules import load_rules
from fedimg.imaging.traditional import Blob, detect_blobs, segment
from fedimg.values import DecodedImage

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Series:
    """Slices in order along z, (D, H, W), and where the lesion is."""

    image_DHW: npt.NDArray[np.float32]
    lesion_DHW: Mask
    spacing_mm: tuple[float, float, float]
    modality: str
    hounsfield: bool


def series(root: Path) -> Iterator[Series]:
    """Of a generated hospital's CT and MR studies, by its manifest."""
    studies: dict[Path, list[dict[str, str]]] = {}
    with (root / "manifest.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["modality"] in ("CT", "MR"):
                studies.setdefault((root / row["path"]).parent, []).append(row)
    for rows in studies.values():
        masks = segmentation_masks(root / rows[0]["mask"]) if rows[0]["mask"] else {}
        slices = sorted(
            (_slice(root / row["path"], masks) for row in rows), key=lambda s: float(s[0].affine_lps_mm[2, 3])
        )
        first, places = slices[0][0], [s[0].affine_lps_mm[2, 3] for s in slices]
        step = float(np.median(np.diff(places))) if len(places) > 1 else first.spacing_mm[0]
        yield Series(
            np.concatenate([image.pixels_DHW for image, _ in slices]),
            np.stack([lesion for _, lesion in slices]),
            (step, *first.spacing_mm[1:]),
            rows[0]["modality"],
            first.units == "HU",
        )


def _slice(path: Path, masks: dict[str, Mask]) -> tuple[DecodedImage, Mask]:
    image = decode(path)
    uid = str(read_dataset(path).SOPInstanceUID)
    return image, masks.get(uid, np.zeros(image.pixels_DHW.shape[1:], np.bool_))


def dice(found: Mask, truth: Mask) -> float:
    """2|A ∩ B| / (|A| + |B|); 1 of two empty masks."""
    total = int(found.sum() + truth.sum())
    return float(2 * np.count_nonzero(found & truth) / total) if total else 1.0


def sensitivity(
    found: Sequence[Sequence[Blob]], truths: Sequence[Mask], false_of_each_image: float = 1.0
) -> float:
    """The share of images with a lesion of which a centre lies in it, at most so many others an image on average."""
    outcomes = sorted(
        (
            (blob.score, place, bool(truth[tuple(int(c) for c in blob.centre)]))
            for place, (blobs, truth) in enumerate(zip(found, truths, strict=True))
            for blob in blobs
        ),
        reverse=True,
    )
    with_lesion = sum(bool(truth.any()) for truth in truths)
    hit, false = set[int](), 0
    for _, place, inside in outcomes:
        false += not inside
        if false > false_of_each_image * len(truths):
            break
        hit |= {place} if inside else set()
    return len(hit) / max(1, with_lesion)


def report(studies: Sequence[Series], name: str) -> None:
    chosen = [one for one in studies if one.modality == name]
    found = [segment(one.image_DHW) for one in chosen]
    overlaps = [dice(f, one.lesion_DHW) for f, one in zip(found, chosen, strict=True) if one.lesion_DHW.any()]
    planes = [
        (image, truth) for one in chosen for image, truth in zip(one.image_DHW, one.lesion_DHW, strict=True)
    ]
    flat = [dice(segment(image), truth) for image, truth in planes if truth.any()]
    blobs = [detect_blobs(image) for image, _ in planes]
    book = load_rules(conf_folder() / "rules" / "lesion.yaml")
    decided = [
        book.decide(
            measure(
                Case(
                    one.image_DHW, one.spacing_mm, "HU" if one.hounsfield else "arbitrary", {"lesion": mask}
                ),
                book.names,
            )
        )
        for one, mask in zip(chosen, found, strict=True)
    ]
    labels = np.array([one.lesion_DHW.any() for one in chosen])
    scores = np.array([one.scores(2)[1] for one in decided])
    print(
        f"{name}: {len(chosen)} series, {int(labels.sum())} with a lesion; {len(planes)} slices, {len(flat)}\n"
        f"  Dice 3D {np.mean(overlaps):.3f} (median {np.median(overlaps):.3f}), 2D {np.mean(flat):.3f}"
        f" (median {np.median(flat):.3f})\n"
        f"  blobs: sensitivity {sensitivity(blobs, [t for _, t in planes]):.3f} at 1 false positive an image\n"
        f"  rules: AUROC {roc_auc_score(labels, scores):.3f}, accuracy {np.mean((scores > 0.5) == labels):.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    config = CohortConfig(
        hospitals=1,
        patients_per_hospital=given.patients,
        modalities=("CT", "MR"),
        max_studies=1,
        specialisation=0.0,
        broken_files=0,
    )
    with tempfile.TemporaryDirectory() as folder:
        generate_hospital(Path(folder), config, 0, given.seed)
        studies = list(series(Path(folder)))
    for name in ("CT", "MR"):
        report(studies, name)


if __name__ == "__main__":
    main()
