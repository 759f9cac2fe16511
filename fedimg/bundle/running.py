"""A verified bundle's network at work: torch alone, and only if it still gives the floats that it was released with."""

from __future__ import annotations

import io
from collections.abc import Callable

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


def network_of(bundle: Opened) -> tuple[Metadata, Logits]:
    """What the bundle says, and (B, C, *spatial) float32 → (B, …) logits, without gradients.

    The graph is torch's own archive: it is loaded from the bytes whose signature held, and from nowhere else.

    Raises DataError: files that are not what they say, or a network that gives other logits than it was released with.
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

    def logits(images: torch.Tensor) -> torch.Tensor:
        if images.dim() != 1 + len(said.image_shape) or images.shape[1:] != said.image_shape:
            raise DataError(
                f"images of shape {said.image_shape}", str(tuple(images.shape[1:])), "prepare them as it says"
            )
        with torch.no_grad():
            found: torch.Tensor = module(images)
        return found

    found = logits(images)
    off = float((found - wanted).abs().max()) if found.shape == wanted.shape else float("inf")
    if not off <= CLOSE:
        raise DataError(
            f"the released logits to within {CLOSE:g}",
            f"others, by {off:.2g}",
            "use the torch version it names",
        )
    return said, logits
