"""Losses of single examples, by name: built in, or an entry point in `fedimg.losses`.

A loss returns one value an example and never looks at another example: the patient's unit, its
clipping and the fixed public divisor all rest on that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from types import MappingProxyType
from typing import cast

import torch
from torch.nn import functional as F

from fedimg.errors import ModelError
from fedimg.models.extensions import find

GROUP = "fedimg.losses"
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(N, classes) logits and (N,) int64 labels → (N,)."""


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """−log p of the true class."""
    return F.cross_entropy(logits, labels, reduction="none")


def focal(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(1 − p)² · −log p of the true class (Lin et al. 2017, γ = 2): less weight for what is easy."""
    loss = F.cross_entropy(logits, labels, reduction="none")
    return (1 - torch.exp(-loss)) ** 2 * loss


BUILTIN = MappingProxyType({"cross_entropy": cross_entropy, "focal": focal})


def loss_digests(name: str) -> dict[str, str]:
    """Name → digest of the extension that the name would run; {} if built in. Nothing is imported."""
    return {} if name in BUILTIN else {name: find(GROUP, name, tuple(BUILTIN)).digest}


def build_loss(name: str, allowed_extensions: Collection[str] = ()) -> Loss:
    """The loss of that name, probed: one finite value an example, each from its own example alone.

    Raises:
        ConfigError: an unknown name (with the nearest). PolicyRefused: an extension that is not
            allowed; it was not imported. ModelError: not a loss of single examples.
    """
    if name in BUILTIN:
        return BUILTIN[name]
    found = find(GROUP, name, tuple(BUILTIN)).load(allowed_extensions)
    if not callable(found):
        raise _refuse(name, type(found).__name__)
    loss = cast("Loss", found)
    logits, labels = torch.linspace(-2, 2, 8).view(4, 2), torch.tensor([0, 1, 1, 0])
    together = loss(logits, labels)
    if together.shape != (4,) or not torch.isfinite(together).all():
        raise _refuse(name, f"shape {tuple(together.shape)}, or values that are not finite")
    alone = torch.cat([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(4)])
    if not torch.allclose(together, alone, rtol=1e-5, atol=1e-6):
        raise _refuse(name, "an example whose loss depends on the others")
    return loss


def _refuse(name: str, found: str) -> ModelError:
    return ModelError(
        f"loss {name} to give one finite value an example, (N, classes) and (N,) → (N,)",
        found,
        "see docs/extend-model.md",
    )
