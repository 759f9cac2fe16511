"""Whole runs that find two kinds of findings, in pictures and in volumes, from tables of boxes."""

from __future__ import annotations

import csv
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from fedimg.config import compose
from fedimg.simulation import simulate

CLASSES = ("nothing", "bright spot", "dark spot")
SPLITS = [(site, "train") for site in ("north", "south", "west") for _ in range(14)] + [("", "public")] * 16


def spots(generator, shape):
    """A noisy image with up to one spot of each kind, and their boxes as a table has them: x, y(, z) and the class."""
    image = generator.normal(0, 6, shape) + 120
    boxes = []
    for kind, sign in ((1, 1), (2, -1)):
        if generator.random() < 0.3:
            continue
        radii = [min(5, side // 4) for side in shape]
        centre = [int(generator.integers(r, side - r)) for r, side in zip(radii, shape, strict=True)]
        axes = np.ogrid[tuple(slice(0, side) for side in shape)]
        apart = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
        image = image + sign * 90 * np.exp(-2 * np.minimum(apart, 9))
        low, high = ([c + s * r for c, r in zip(centre, radii, strict=True)] for s in (-1, 1))
        corners = " ".join(str(v) for v in (*low[::-1], *high[::-1]))
        boxes.append(f"{corners} {CLASSES[kind] if kind == 1 else kind}")
    return image, "; ".join(boxes)


@pytest.fixture
def folder(tmp_path):
    def made(kind, shape):
        generator, path = np.random.default_rng(0), tmp_path / "data"
        path.mkdir()
        rows = []
        for number, (site, split) in enumerate(SPLITS):
            image, boxes = spots(generator, shape)
            name = f"{number:03}.{'png' if kind == 'images' else 'nii.gz'}"
            if kind == "images":
                Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path / name)
            else:  # stored (x, y, z)
                nibabel.save(
                    nibabel.Nifti1Image(image.transpose(2, 1, 0).astype(np.float32), np.eye(4)), path / name
                )
            rows.append(
                {"path": name, "patient_id": f"p{number}", "site": site, "split": split, "boxes": boxes}
            )
        with (path / "labels.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return made


def learnt(path, tmp_path, kind, *overrides):
    config = compose(
        [
            f"data={kind}",
            f"data.path={path}",
            "experiment=detection",
            f"data.classes=[{','.join(CLASSES)}]",
            "model.classes=3",
            "data.declared_patients=14",
            "data.declared_public=true",
            "sites=3",
            "compare=false",
            "evaluation.bootstrap=20",
            "audit.battery=false",
            "audit.empirical=false",
            "deid.workers=0",
            f"runs={tmp_path / 'runs'}",
            *overrides,
        ]
    )
    run = simulate(config)
    page = (run.path / "report.html").read_text()
    assert "NaN" not in page
    return json.loads((run.path / "summary.json").read_text()), page


HEAD = (
    "model=filter_bank",
    "model.task=detection",
    "data.voxels=boxes",
    "training.learning_rate=0.02",
    "training.batch_size=8",
)
"""A few weights on fixed features."""


def test_two_kinds_are_told_apart_in_pictures(folder, tmp_path):
    path = folder("images", (48, 48))
    summary, page = learnt(path, tmp_path, "images", "imaging.image_size=[48,48]", "rounds=80", *HEAD)
    found = summary["test"]
    assert found["sensitivity_at_1"] > 0.8
    assert found["map10"] > 0.7
    assert 0.3 < found["map50"] <= found["map10"]
    for name in ("ap50", "sensitivity_at_1"):
        assert {f"{name}_1", f"{name}_2"} <= found.keys()
    assert "Mean average precision, IoU ≥ 0.1" in page
    assert "dark spot" in page


def test_two_kinds_are_told_apart_in_volumes_with_boxes_that_have_a_depth(folder, tmp_path):
    path = folder("nifti", (8, 24, 24))
    volumes = ("imaging=volume", "imaging.image_size=[8,24,24]", "model.dimensions=3")
    summary, _ = learnt(path, tmp_path, "nifti", *volumes, "rounds=100", *HEAD)
    assert summary["test"]["sensitivity_at_1"] > 0.8
    assert summary["test"]["map10"] > 0.5  # a side that is a third short costs half of a volume
    assert summary["test"]["map50"] > 0.3


def test_two_kinds_go_through_noise_that_only_the_sum_has_whole(folder, tmp_path):
    path = folder("images", (48, 48))
    private = ("privacy=distributed", "secagg=pairwise", "privacy.delta=1e-3", "privacy.sampling_rate=0.5")
    summary, _ = learnt(path, tmp_path, "images", "imaging.image_size=[48,48]", "rounds=2", *HEAD, *private)
    assert summary["privacy"]["private"]
    assert all(0 < site["epsilon"] <= 8 for site in summary["sites"].values())
    assert "map50" in summary["test"]
    assert summary["site_evaluation_round"] == 2
