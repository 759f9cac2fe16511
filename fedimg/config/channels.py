"""How many channels a network is fed: said by imaging, and filled in where nobody says it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedimg.imaging.config import Planes


def settle(mapping: dict[str, Any]) -> None:
    """`model.channels` and `model.features`, where they are null, of a composed configuration.

    Values that are none are left for the strict builder, whose errors name them; `terms.check` judges the rest.
    """
    imaging, model = mapping.get("imaging"), mapping.get("model")
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
