"""Whether the data have what the task is to learn."""

from __future__ import annotations

from collections.abc import Sequence

from fedimg.errors import ConfigError
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.sources import DataConfig

_NEEDS = {
    "classification": "one class an image, data.several=false,",
    "multilabel": "data.several=true",
    "regression": "data.value=COLUMN",
    "segmentation": "data.voxels=masks",
    "detection": "data.voxels=boxes, or masks",
}


def check_modalities(data: DataConfig, imaging: ImagingConfig) -> None:
    """Raises ConfigError for several modalities of data that have no files, and so none."""
    if imaging.together and data.name in ("medmnist", "tabular"):
        expected = "data of files, which say what modality they are, with imaging.together"
        raise ConfigError(expected, f"data={data.name}", "leave imaging.together empty")


def check_labels(data: DataConfig, model: ModelConfig) -> None:
    """Raises ConfigError where a task would not find its labels.

    What the data say beyond what a task needs is left aside: a site takes masks in once, for several studies.
    """
    task = model.task
    there = {
        "classification": not data.several,
        "multilabel": data.several,
        "regression": data.value is not None,
        "segmentation": data.voxels == "masks",
        "detection": data.voxels != "none",
    }
    found = f"data.voxels={data.voxels}, data.several={data.several}, data.value={data.value}"
    for one in model.each:
        if not there[one.task]:
            learnt = f"model.task={task}" + (f", model.heads={list(model.heads)}" if model.heads else "")
            remedy = "set model.task=multilabel" if task == "classification" else "set them alike"
            raise ConfigError(f"{_NEEDS[one.task]} with {learnt}", found, remedy)
    if model.heads and not data.together:
        expected = "data.together=true with model.task=several (data=cohort, images, nifti or dicom)"
        raise ConfigError(expected, "false", "set it, or experiment=several, which sets all")
    shape = (1, 2 * len(data.columns))
    if data.name == "tabular" and (
        model.image_size != shape or (data.value is not None) != (task == "regression")
    ):
        expected = f"imaging.image_size={list(shape)} with {len(data.columns)} columns, data.value for regression only"
        raise ConfigError(expected, f"{list(model.image_size)}, model.task={task}", "set them alike")


def check_groups(data: DataConfig, subgroups: Sequence[str]) -> None:
    """Raises ConfigError where groups are asked for of data that say nothing of patients: the noise would buy nothing."""
    if subgroups and data.name in ("medmnist", "tabular"):
        raise ConfigError(
            "data with headers or a table of patients' groups for evaluation.subgroups",
            f"data={data.name}, which has neither",
            "leave evaluation.subgroups out",
        )
