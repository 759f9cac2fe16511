"""A verified bundle's network at work: torch alone, and only if it still gives the floats that it was released with."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from fedimg.bundle.contents import GRAPH, PROBE
from fedimg.bundle.manifest import Opened
from fedimg.bundle.metadata import Metadata, read_metadata
from fedimg.errors import DataError

CLOSE = 1e-3
"""By so much may logits of the probe differ from those that were released: another processor sums in another order."""
Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Released:
    """A bundle's network, as it was released: `module` takes (B, C, *spatial) float32; it gave `wanted` of `images`."""

    said: Metadata
    module: torch.nn.Module
    images: torch.Tensor
    wanted: torch.Tensor


def network_of(bundle: Opened) -> tuple[Metadata, Logits]:
    """What the bundle says, and (B, C, *spatial) float32 → (B, …) logits, without gradients.

    Raises DataError: files that are not what they say, or a network that gives other logits than it was released with.
    """
    released = released_network(bundle)
    return released.said, logits_of(released.said, released.module)


def released_network(bundle: Opened) -> Released:
    """The graph is torch's own archive: it is loaded from the bytes whose signature held, and from nowhere else.

    Raises as `network_of`.
    """
    said = read_metadata(bundle)
    if not {GRAPH, PROBE} <= bundle.files.keys():
        raise DataError(f"a bundle with {GRAPH} and {PROBE}", "one without", "ask for the bundle again")
    try:
        probe = load_safetensors(bundle.files[PROBE])
        images, wanted = probe["images"], probe["logits"]
        module = torch.export.load(io.BytesIO(bundle.files[GRAPH])).module()
    except (SafetensorError, KeyError, RuntimeError, ValueError) as failure:
        raise DataError(
            "a graph and a probe that torch can read", type(failure).__name__, "use its torch"
        ) from failure
    found = Released(said, module, images, wanted)
    off = difference(logits_of(said, module)(images), wanted)
    if not off <= CLOSE:
        raise DataError(
            f"the released logits to within {CLOSE:g}",
            f"others, by {off:.2g}",
            "use the torch version it names",
        )
    return found


def logits_of(said: Metadata, module: Callable[[torch.Tensor], torch.Tensor]) -> Logits:
    """The same, of images of the shape that it says only, and without gradients."""

    def logits(images: torch.Tensor) -> torch.Tensor:
        if images.dim() != 1 + len(said.image_shape) or images.shape[1:] != said.image_shape:
            raise DataError(
                f"images of shape {said.image_shape}", str(tuple(images.shape[1:])), "prepare them as it says"
            )
        with torch.no_grad():
            return module(images)

    return logits


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest of logits; infinite where they have another shape or are no numbers."""
    if found.shape != wanted.shape or not torch.isfinite(found).all():
        return float("inf")
    return float((found - wanted).abs().max())
