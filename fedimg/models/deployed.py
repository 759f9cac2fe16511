"""A network as it is deployed: one graph from an image to logits, its frozen part included, without fedimg's code.

`torch.export` traces it once for every batch size; the file holds operators and numbers, is loaded by torch alone, and
gives the very floats of the network that was trained (checked here before it is handed out).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from fedimg.errors import ModelError
from fedimg.models.network import Network
from fedimg.values import Vector

_MOST_AT_ONCE = 4096


@dataclass(frozen=True)
class Exported:
    """Attributes:
    graph: the network with its parameters, `torch.export`'s .pt2. definition: the same with parameters of zero.
    state: parameters and buffers by the graph's names. logits: (2, *output_shape), of `probe`.
    """

    graph: bytes
    definition: bytes
    state: dict[str, torch.Tensor]
    probe: torch.Tensor
    logits: torch.Tensor


class _Whole(nn.Module):
    """(B, C, *spatial) → logits. The trainable part keeps its parameters' names below `network`."""

    def __init__(self, network: Network, module: nn.Module) -> None:
        super().__init__()
        self.network = module
        self._frozen = network.frozen

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return cast("torch.Tensor", self.network(images if self._frozen is None else self._frozen(images)))


def probe(network: Network) -> torch.Tensor:
    """(2, C, *spatial) float32 in [−1, 1], the same on every machine."""
    shape = (2, *network.image_shape)
    count = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(count, dtype=np.float64)).astype(np.float32)).reshape(shape)


def exported(network: Network, vector: Vector) -> Exported:
    """The network at these parameters as a graph.

    Raises ModelError: a network whose features come from elsewhere than torch, and so have no graph; or one whose
    graph gives other floats.
    """
    module = network.module_at(vector)
    whole, images = _Whole(network, module).eval(), probe(network)
    batch = torch.export.Dim("batch", min=1, max=_MOST_AT_ONCE)
    try:
        with torch.no_grad():
            graph = torch.export.export(whole, (images,), dynamic_shapes=({0: batch},))
    except Exception as failure:
        raise ModelError(
            f"a network that torch can export as one graph, {network.name}",
            type(failure).__name__,
            "export a network of torch operators; features of the `radiomics` kind have no graph",
        ) from failure
    saved = _saved(graph)
    loaded = torch.export.load(io.BytesIO(saved)).module()
    with torch.no_grad():
        flat = torch.from_numpy(np.asarray(vector, dtype=np.float32))
        for some in (images, images[:1], images.repeat(6, *[1] * (images.dim() - 1))):
            wanted, found = network.apply(flat, network.features(some)), loaded(some)
            if not torch.allclose(wanted, found, rtol=1e-4, atol=1e-5):
                raise ModelError("a graph with the network's own floats", "others", "report this as a fault")
        logits = loaded(images)
    state = {name: value.detach().clone() for name, value in graph.state_dict.items()}
    with torch.no_grad():
        for name, _ in module.named_parameters():
            graph.state_dict[f"network.{name}"].zero_()
    return Exported(saved, _saved(graph), state, images, logits)


def _saved(graph: torch.export.ExportedProgram) -> bytes:
    file = io.BytesIO()
    torch.export.save(graph, file)
    return file.getvalue()
