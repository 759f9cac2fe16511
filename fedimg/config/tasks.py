"""Whether the data have what the task is to learn."""

from __future__ import annotations

from fedimg.errors import ConfigError
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.sources import DataConfig

_NEEDS = {
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
        "multilabel": data.several,
        "regression": data.value is not None,
        "segmentation": data.voxels == "masks",
        "detection": data.voxels != "none",
    }
    found = f"data.voxels={data.voxels}, data.several={data.several}, data.value={data.value}"
    if not there.get(task, True):
        raise ConfigError(f"{_NEEDS[task]} with model.task={task}", found, "set them alike")
    shape = (1, 2 * len(data.columns))
    if data.name == "tabular" and (
        model.image_size != shape or (data.value is not None) != (task == "regression")
    ):
        expected = f"imaging.image_size={list(shape)} with {len(data.columns)} columns, data.value for regression only"
        raise ConfigError(expected, f"{list(model.image_size)}, model.task={task}", "set them alike")
    if data.several and task == "classification":
        raise ConfigError(
            "one class an image with model.task=classification", found, "set model.task=multilabel"
        )
