"""The model that a record is about, named by its weights and not by the bytes of one file.

The digest is over every tensor in order of its name: name, type, shape, and values in little-endian order, each
part behind its length. A file saved again, in another order or with other metadata, keeps it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fedimg.crypto.keys import framed
from fedimg.errors import DataError

FILE = "model.safetensors"


def weights_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256, hex. Independent of order, device and memory layout."""
    total = hashlib.sha256(b"fedimg-weights-1")
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        kind, shape = str(tensor.dtype).removeprefix("torch."), ",".join(map(str, tensor.shape))
        values = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        total.update(framed([name.encode(), kind.encode(), shape.encode(), values]))
    return total.hexdigest()


def digest_of_file(path: Path) -> str:
    """Of a safetensors file. Raises DataError for anything else."""
    return weights_of_file(path)[1]


def weights_of_file(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors and digest of a safetensors file, which holds numbers and no code. Raises DataError for anything else."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError):
        raise DataError(
            "a model as a safetensors file", "another file", f"name the run's {FILE}, or convert the weights"
        ) from None
    return tensors, weights_digest(tensors)
