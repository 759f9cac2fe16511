"""Where training runs, and on how many threads: chosen, never left to chance."""

from __future__ import annotations

import torch

from fedimg.errors import ConfigError


def select_device(name: str) -> torch.device:
    """`auto` (an accelerator if one is there), `cpu` or `cuda`.

    Raises:
        ConfigError: another name, or cuda where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError("device to be auto, cpu or cuda", name, "set device=auto")
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            "a CUDA device for device=cuda", "none that torch can use", "set device=cpu or device=auto"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")
