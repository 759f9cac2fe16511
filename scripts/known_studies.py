"""A model whose findings are known, and studies made for it: for tests and measurements of what works with bundles.

The networks are written by hand: what is bright in an image is a finding. The studies hold planted identifiers.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fedimg.bundle import Finding, Metadata, Output, seal
from fedimg.bundle.contents import Described, contents
from fedimg.codes import Code
from fedimg.crypto.keys import SigningKey
from fedimg.dicom.authoring import derived_uid, encode_image
from fedimg.imaging.config import PIPELINE_VERSION, ImagingConfig
from fedimg.models import ModelConfig, build_model
from fedimg.models.deployed import exported as exported_network

NODULE = Code("27925004", "SCT", "Nodule")
LUNG = Code("39607008", "SCT", "Lung")
BRIGHT = 0.8
"""In normalised units: the ball is above, its surroundings below."""
PLANTED = ("ZYLBERSZTEJN", "PLANTED-4711", "ACCPLANT42", "QUENTELLA")
"""Identifiers that all studies hold, to be looked for where none may be."""
_AIR, _TISSUE, _BALL = -800, -60, 230  # HU; windowed 0, 0.25, 0.98


class Outlines(nn.Module):
    """Beside a class a class of every voxel: what is bright."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        bright = 8 * (images[:, :1] - BRIGHT)
        voxels = torch.cat([-bright, bright], dim=1).flatten(1)
        top = bright.flatten(1).amax(dim=1, keepdim=True)
        return torch.cat([-top / 2, top / 2, voxels], dim=1)


@dataclass(frozen=True)
class Graph:
    """A module as `models.deployed.exported` gives a network."""

    graph: bytes
    definition: bytes
    state: dict[str, Any]
    probe: torch.Tensor
    logits: torch.Tensor


def exported(module: nn.Module, shape: Sequence[int]) -> Graph:
    """Of any module: (B, *shape) → logits."""
    module = module.eval()
    probe = torch.sin(torch.arange(2 * math.prod(shape), dtype=torch.float32)).reshape(2, *shape)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        graph = torch.export.export(module, (probe,), dynamic_shapes=({0: batch},))
        logits = module(probe)
    file = io.BytesIO()
    torch.export.save(graph, file)
    return Graph(file.getvalue(), file.getvalue(), dict(module.state_dict()), probe, logits)


def outputs_of(task: str, logits: torch.Tensor, size: Sequence[int]) -> tuple[Output, ...]:
    if task != "several":
        return (Output(task, 0, math.prod(logits.shape[1:]), tuple(logits.shape[1:])),)
    voxels = 2 * math.prod(size)
    return Output("classification", 0, 2, (2,)), Output("segmentation", 2, 2 + voxels, (2, *size))


def make_bundle(
    folder: Path, key: SigningKey, graph: Graph, task: str, imaging: ImagingConfig, **said: Any
) -> Path:
    """Sealed into a folder; what is not said is as of a nodule's model."""
    metadata: dict[str, Any] = {
        "name": "Nodule",
        "version": "1.2.0",
        "description": "Finds what is bright.",
        "run": "20260131-1",
        "kind": "tumour",
        "task": task,
        "classes": ("nothing", "ball"),
        "image_shape": imaging.shape,
        "outputs": outputs_of(task, graph.logits, imaging.image_size),
        "imaging": json.loads(json.dumps(asdict(imaging))) | {"pipeline_version": PIPELINE_VERSION},
        "temperature": 1.0,
        "threshold": 0.5,
        "operating_point": None,
        "findings": (Finding("ball", NODULE, LUNG),),
        "modalities": ("CT", "CR", "MR"),
        "body_parts": ("CHEST",),
        "least_images": 1,
        "weights": hashlib.sha256(graph.graph).hexdigest(),
        "architecture": hashlib.sha256(task.encode()).hexdigest(),
    }
    described = Described(Metadata(**metadata | said), graph, ("nothing",), ())
    seal(folder, contents(described), key)
    return folder


def outlining_bundle(folder: Path, key: SigningKey, **said: Any) -> Path:
    """Finds and outlines bright balls, slice by slice."""
    imaging = ImagingConfig(image_size=(48, 48))
    return make_bundle(folder, key, exported(Outlines(), imaging.shape), "several", imaging, **said)


def densenet_bundle(folder: Path, key: SigningKey, side: int = 64) -> Path:
    """A DenseNet121-2D that has learnt nothing and calls everything: for measuring time."""
    network = build_model(ModelConfig(name="densenet121", image_size=(side, side)), 0)
    made = exported_network(network, network.initial)
    graph = Graph(made.graph, made.definition, made.state, made.probe, made.logits)
    imaging = ImagingConfig(image_size=(side, side))
    return make_bundle(folder, key, graph, "classification", imaging, threshold=0.0)


def write_study(
    folder: Path, name: str, *, ball: bool, slices: int = 12, side: int = 64, **attributes: Any
) -> list[Path]:
    """A CT study of one series, a file a slice, with or without a ball of 18 mm in the left of the chest; in order.

    The UIDs follow from `name`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pixel_mm, step_mm = 128.0 / side, 4.0
    h, w = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    body = np.hypot(h - side / 2, w - side / 2) < 0.42 * side
    noise = np.random.default_rng(5)
    paths = []
    for k in range(slices):
        x, y = ((axis - (side - 1) / 2) * pixel_mm for axis in (w, h))
        z = step_mm * (k - (slices - 1) / 2)
        values = np.where(body, _TISSUE, _AIR) + noise.normal(0, 8, body.shape)
        if ball:
            distance = np.sqrt((x - 31.0) ** 2 + (y + 5.0) ** 2 + (z - 2.0) ** 2)
            values = np.where(distance <= 9.0, _BALL, values)
        corner = (-pixel_mm * (side - 1) / 2, -pixel_mm * (side - 1) / 2, z)
        whole = {
            "PatientID": PLANTED[1],
            "PatientName": f"{PLANTED[0]}^{PLANTED[3]}",
            "AccessionNumber": PLANTED[2],
            "StudyDescription": f"CT THORAX {PLANTED[0]}",
            "BodyPartExamined": "CHEST",
            "StudyInstanceUID": derived_uid(name),
            "SeriesInstanceUID": derived_uid(name, "series"),
            "SOPInstanceUID": derived_uid(name, str(k)),
            "FrameOfReferenceUID": derived_uid(name, "frame"),
            "InstanceNumber": str(k + 1),
            "PixelSpacing": [f"{pixel_mm:g}", f"{pixel_mm:g}"],
            "SliceThickness": f"{step_mm:g}",
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
            "ImagePositionPatient": [f"{v:.6f}" for v in corner],
            "RescaleIntercept": "-1024",
            "RescaleSlope": "1",
            "RescaleType": "HU",
        }
        pixels = np.clip(np.round(values + 1024), 0, 4095).astype(np.uint16)
        path = folder / f"{name}-{k:04d}.dcm"
        path.write_bytes(encode_image(modality="CT", pixels=pixels, attributes=whole | attributes))
        paths.append(path)
    return paths
