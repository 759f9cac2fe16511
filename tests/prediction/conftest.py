"""Bundles of networks that are written by hand, so that what they find is known; series with a bright ball in them."""

from __future__ import annotations

import hashlib

import known_studies
import numpy as np
import pytest
import torch
from known_studies import BRIGHT, Outlines, exported
from torch import nn
from torch.nn import functional as F

from fedimg.crypto.keys import SigningKey
from fedimg.dicom.authoring import encode_image
from fedimg.dicom.elements import derived_uid
from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.loading import load
from tests.system import program


class Scores(nn.Module):
    """A class alone: of the brightest patch, through a linear layer."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, images):
        pool = F.avg_pool2d if images.dim() == 4 else F.avg_pool3d
        patch = pool(images, 3, 1, 1).flatten(1)
        return self.head(torch.stack([patch.amax(dim=1) - BRIGHT, patch.mean(dim=1)], dim=1))


class Boxes(nn.Module):
    """A heat map that is highest in the middle of what is bright, and 8 voxels for the size of anything."""

    def forward(self, images):
        heat = 40 * (F.avg_pool2d(images[:, :1], 9, 1, 4) + 0.1)
        return torch.cat([heat, torch.ones_like(heat), torch.ones_like(heat)], dim=1)


class VoxelsOnly(nn.Module):
    def forward(self, images):
        bright = 8 * (images[:, :1] - BRIGHT)
        return torch.cat([-bright, bright], dim=1)


class Findings(nn.Module):
    def forward(self, images):
        top = 8 * (images.flatten(1).amax(dim=1, keepdim=True) - BRIGHT)
        return torch.cat([top, -torch.ones_like(top)], dim=1)


def make_bundle(folder, key, module, task, imaging, **said):
    """Sealed into a folder; what a test does not care about is as of the nodule model."""
    return known_studies.make_bundle(folder, key, exported(module, imaging.shape), task, imaging, **said)


KEY = SigningKey.from_bytes(bytes(range(32)))
FLAT = ImagingConfig(image_size=(48, 48))
SERIES = ImagingConfig(dimensions=3, unit="series", image_size=(12, 48, 48))
_MODELS = {
    "outlines": (Outlines, "several", FLAT, {}),
    "scores": (Scores, "classification", FLAT, {"temperature": 1.5}),
    "boxes": (Boxes, "detection", FLAT, {}),
    "volumes": (Outlines, "several", SERIES, {}),
    "volume scores": (Scores, "classification", SERIES, {}),
    "findings": (Findings, "multilabel", FLAT, {"classes": ("ball", "other"), "threshold": None}),
    "voxels": (
        VoxelsOnly,
        "segmentation",
        ImagingConfig(image_size=(40, 40), spacing_mm=(2.0, 2.0)),
        {"threshold": None},
    ),
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Name → folder of a bundle, signed by `KEY`; made when it is first asked for."""
    root, made = tmp_path_factory.mktemp("bundles"), {}

    def of(name):
        if name not in made:
            module, task, imaging, said = _MODELS[name]
            made[name] = make_bundle(root / name.replace(" ", "-"), KEY, module(), task, imaging, **said)
        return made[name]

    return of


@pytest.fixture(scope="session")
def models(bundles):
    """Name → loaded model."""
    loaded = {}

    def of(name):
        if name not in loaded:
            loaded[name] = load(bundles(name), [KEY.public_bytes])
        return loaded[name]

    return of


AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))
_AIR, _TISSUE, _BALL = -800, -60, 230  # HU; windowed 0, 0.25, 0.98


def write_series(
    folder,
    *,
    modality="CT",
    orientation=AXIAL,
    slices=12,
    side=64,
    pixel_mm=2.0,
    step_mm=4.0,
    ball_mm=None,
    radius_mm=9.0,
    study="study",
    series="series",
    **attributes,
):
    """Single-slice files of a body that fills the middle of the images, with a ball at LPS `ball_mm`; their paths.

    The grid is centred on the patient's origin. Files are named so that names say nothing of their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.array(axis) for axis in orientation)
    normal = np.cross(row, column)
    paths = []
    h, w = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    noise = np.random.default_rng(5)
    for k in range(slices):
        corner = (
            -row * pixel_mm * (side - 1) / 2
            - column * pixel_mm * (side - 1) / 2
            + normal * step_mm * (k - (slices - 1) / 2)
        )
        places = corner + w[..., None] * pixel_mm * row + h[..., None] * pixel_mm * column
        body = np.hypot(h - side / 2, w - side / 2) < 0.42 * side
        values = np.where(body, _TISSUE, _AIR) + noise.normal(0, 8, body.shape)
        if ball_mm is not None:
            values = np.where(np.linalg.norm(places - np.array(ball_mm), axis=2) <= radius_mm, _BALL, values)
        uid = derived_uid(study, series, str(k))
        whole = {
            "PatientID": "P-1",
            "PatientName": "A^B",
            "StudyDate": "20260102",
            "StudyTime": "030405",
            "StudyID": "7",
            "BodyPartExamined": "CHEST",
            "StudyInstanceUID": derived_uid(study),
            "SeriesInstanceUID": derived_uid(study, series),
            "SOPInstanceUID": uid,
            "FrameOfReferenceUID": derived_uid(study, "frame"),
            "InstanceNumber": str(k + 1),
            "PixelSpacing": [str(pixel_mm), str(pixel_mm)],
            "SliceThickness": str(step_mm),
            "ImageOrientationPatient": [f"{v:.6g}" for v in (*row, *column)],
            "ImagePositionPatient": [f"{v:.6f}" for v in corner],
        }
        if modality == "CT":
            whole |= {"RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU"}
        else:  # shown by a window as wide as CT's
            whole |= {"WindowCenter": "1064", "WindowWidth": "400"}
        if modality == "CR":
            for key in (
                "FrameOfReferenceUID",
                "SliceThickness",
                "ImageOrientationPatient",
                "ImagePositionPatient",
            ):
                del whole[key]
            whole |= {
                "ImagerPixelSpacing": whole.pop("PixelSpacing"),
                "PatientOrientation": ["L", "F"],
                "ViewPosition": "PA",
            }
        pixels = np.clip(np.round(values + 1024), 0, 4095).astype(np.uint16)
        data = encode_image(modality=modality, pixels=pixels, attributes=whole | attributes)
        path = folder / f"{hashlib.sha256(uid.encode()).hexdigest()[:12]}.dcm"
        path.write_bytes(data)
        paths.append(path)
    return paths


@pytest.fixture
def ball(tmp_path):
    """A CT series with a ball of 18 mm in the left lung's upper part; its paths."""
    return write_series(tmp_path / "ct", ball_mm=(31.0, -5.0, 12.0))


@pytest.fixture
def nothing(tmp_path):
    return write_series(tmp_path / "nothing", series="other")


def dciodvfy():
    """The program; skips where the system has none, and fails in continuous integration, where it has to be."""
    return program("dciodvfy")
