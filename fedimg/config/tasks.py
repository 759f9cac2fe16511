"""Whether the data have what the task is to learn."""

from __future__ import annotations

from fedimg.errors import ConfigError
from fedimg.sources import DataConfig
from fedimg.terms import Asked, check_task

_NEEDS = {
    "classification": "data.voxels=none, data.several=false and data.value=null",
    "multilabel": "data.several=true",
    "regression": "data.value=COLUMN",
    "segmentation": "data.voxels=masks",
    "detection": "data.voxels=boxes, or masks",
}


def check_labels(data: DataConfig, asked: Asked) -> None:
    """Raises ConfigError where a task would find other labels than its own, or cannot be trained as asked."""
    check_task(asked)
    model = asked.model
    there = {
        "multilabel": data.several,
        "regression": data.value is not None,
        "segmentation": data.voxels == "masks",
        "detection": data.voxels != "none",
    }
    fits = there.get(model.task, not any(there.values()))
    others = {
        "multilabel": data.value is None,
        "regression": not data.several,
        "segmentation": not data.several,
        "detection": not data.several,
    }
    if not (fits and others.get(model.task, True)):
        found = f"data.voxels={data.voxels}, data.several={data.several}, data.value={data.value}"
        raise ConfigError(f"{_NEEDS[model.task]} with model.task={model.task}", found, "set them alike")
