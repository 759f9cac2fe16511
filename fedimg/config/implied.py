"""What follows from other settings, filled in where nobody says it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedimg.imaging.config import Planes
from fedimg.models.losses import OF_HEAD

_LOSS = {**OF_HEAD, "detection": "centre_heat_map", "several": "several"}


def fill(mapping: dict[str, Any]) -> None:
    """`model.channels`, `model.features` and `training.loss`, where they are null, of a composed configuration.

    Values that are none are left for the strict builder, whose errors name them; `terms.check` judges the rest.
    """
    model, training = mapping.get("model"), mapping.get("training")
    if isinstance(model, Mapping) and isinstance(training, dict) and training.get("loss") is None:
        task = model.get("task")
        training["loss"] = _LOSS.get(task if isinstance(task, str) else "", "cross_entropy")
    imaging = mapping.get("imaging")
    if not isinstance(imaging, Mapping) or not isinstance(model, dict):
        return
    block, together, features = (imaging.get(key) for key in ("channels", "together", "features"))
    planes = Planes(
        block if type(block) is int else 1,
        len(together) if isinstance(together, list | tuple) else 0,
        len(features) if isinstance(features, Mapping) else 0,
    )
    for key, settled in (("channels", planes.image), ("features", planes.features)):
        if model.get(key) is None:
            model[key] = settled
