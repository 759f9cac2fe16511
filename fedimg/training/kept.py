"""Which parameters stay at a site: those of normalisation, or of the last layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import ConfigError
from fedimg.models import Network
from fedimg.training import local
from fedimg.training.algorithm import AlgorithmConfig

Mask = npt.NDArray[np.bool_]


def kept_parameters(network: Network, algorithm: AlgorithmConfig) -> Mask | None:
    """(P,) True where a parameter is never sent; None for an algorithm that sends all.

    Raises ConfigError where the network has none of them, or nothing else.
    """
    if algorithm.name not in ("fedbn", "local_head"):
        return None
    mask = network.normalisation if algorithm.name == "fedbn" else head_of(network)
    if not mask.any() or mask.all():
        kept = "normalisation with parameters" if algorithm.name == "fedbn" else "layers below its head"
        raise ConfigError(
            f"a network that has {kept}, and parameters to share, with training.algorithm.name={algorithm.name}",
            f"model={network.name}",
            "choose model=cnn, or another algorithm",
        )
    return mask


def head_of(network: Network) -> Mask:
    """(P,) True for the last layer's: those of the module that the last parameter belongs to."""
    layout = network.layout
    owner = layout.names[-1].rpartition(".")[0]
    return places(layout.sizes, [name.rpartition(".")[0] == owner for name in layout.names])


def places(sizes: tuple[int, ...], chosen: list[bool]) -> Mask:
    """Of tensors of these sizes, one behind the other, the values of those chosen."""
    return np.repeat(np.asarray(chosen, dtype=np.bool_), sizes)


@dataclass(frozen=True, eq=False)
class Frozen:
    """A network some of whose parameters stand still, at `start` (P,), where `frozen` (P,) is True."""

    network: local.Network
    start: torch.Tensor
    frozen: torch.Tensor

    @classmethod
    def within(cls, network: local.Network, start: torch.Tensor, frozen: Mask | None) -> local.Network:
        """The network itself where nothing is frozen."""
        return network if frozen is None else cls(network, start, torch.from_numpy(frozen).to(start.device))

    @property
    def number_of_parameters(self) -> int:
        return self.network.number_of_parameters

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return self.network.apply(torch.where(self.frozen, self.start, flat), images)
