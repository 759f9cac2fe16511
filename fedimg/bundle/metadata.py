"""What a bundle says of its model: MONAI's metadata, and below `fedimg` what a site needs to let it work.

Read with an own check, whole before any of it is used: MONAI's `verify_metadata` fetches its schema from the network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedimg.bundle.fields import (
    fault,
    integer,
    mapping,
    number,
    one_of,
    sides,
    text,
    texts,
)
from fedimg.bundle.manifest import Opened
from fedimg.bundle.promised import Finding, Output, Point, read_findings, read_outputs, read_point

METADATA = "configs/metadata.json"
FORMAT = "fedimg-model-2"
TASKS = ("classification", "multilabel", "regression", "segmentation", "detection", "several")
KINDS = ("tumour", "cardiac", "stroke", "other")
MOST_IMAGES = 100_000
_MONAI = {
    "version": str,
    "changelog": dict,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}
NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
DESCRIPTION = re.compile(r"[^\x00-\x1f\x7f]{1,2000}")
CODE = re.compile(r"[A-Z]{2,4}|[A-Z][A-Z0-9_ ]{1,15}")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Attributes:
    name, version, description: of the release. run: that it comes from. kind: of disease, one of `KINDS`.
    task, classes, image_shape (C, *spatial): as trained. outputs: what each stretch of an image's logits is.
    imaging: preprocessing, every key of it. temperature: by which logits are divided; 1 where none was fitted.
    threshold: a study is called where class 1's probability is at or above it; None where none is promised.
    operating_point: what the threshold promises, and of whom it was learnt; None where that is not known.
    findings: what a call says, in codes. modalities, body_parts: of series that it may look at, DICOM's own words;
    empty: any. least_images: a series with fewer is not looked at.
    weights, architecture: digests, as in the release record.
    """

    name: str
    version: str
    description: str
    run: str
    kind: str
    task: str
    classes: tuple[str, ...]
    image_shape: tuple[int, ...]
    outputs: tuple[Output, ...]
    imaging: Mapping[str, Any]
    temperature: float
    threshold: float | None
    operating_point: Point | None
    findings: tuple[Finding, ...]
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    least_images: int
    weights: str
    architecture: str

    def to_json(self) -> dict[str, Any]:
        """What stands below `fedimg`; version and description are MONAI's own fields."""
        point = self.operating_point
        return {
            "format": FORMAT,
            **{
                key: getattr(self, key) for key in ("name", "run", "kind", "task", "temperature", "threshold")
            },
            **{
                key: list(getattr(self, key))
                for key in ("classes", "image_shape", "modalities", "body_parts")
            },
            "imaging": dict(self.imaging),
            "least_images": self.least_images,
            "findings": [one.to_json() for one in self.findings],
            "operating_point": None if point is None else asdict(point),
            "outputs": [one.to_json() for one in self.outputs],
            "weights": self.weights,
            "architecture": self.architecture,
        }


def read_metadata(bundle: Opened) -> Metadata:
    """Of a bundle whose signature held. Raises DataError for a field that is not what the format says."""
    found = bundle.json(METADATA)
    if not isinstance(found, dict):
        raise fault("the whole", "an object")
    for key, kind in _MONAI.items():
        if not isinstance(found.get(key), kind):
            raise fault(key, kind.__name__)
    own = found.get("fedimg")
    if not isinstance(own, dict) or own.get("format") != FORMAT:
        raise fault(
            "fedimg.format", f"{FORMAT}; a bundle of another release of fedimg is made anew from its run"
        )
    classes, threshold = texts(own, "classes", NAME), own.get("threshold")
    if threshold is not None:
        threshold = number(own, "threshold", 0, 1)
    point = read_point(own.get("operating_point"))
    if point is not None and point.threshold != threshold:
        raise fault("fedimg.operating_point.threshold", "the threshold")
    return Metadata(
        name=text(own, "name", NAME),
        version=text(found, "version", NAME),
        description=text(found, "description", DESCRIPTION),
        run=text(own, "run", NAME),
        kind=one_of(own, "kind", KINDS),
        task=one_of(own, "task", TASKS),
        classes=classes,
        image_shape=sides(own, "image_shape"),
        outputs=read_outputs(own.get("outputs")),
        imaging=mapping(own, "imaging"),
        temperature=number(own, "temperature", 0.01, 100),
        threshold=threshold,
        operating_point=point,
        findings=read_findings(own.get("findings"), classes),
        modalities=texts(own, "modalities", CODE),
        body_parts=texts(own, "body_parts", CODE),
        least_images=integer(own, "least_images", 1, MOST_IMAGES),
        weights=text(own, "weights", _HEX),
        architecture=text(own, "architecture", _HEX),
    )
