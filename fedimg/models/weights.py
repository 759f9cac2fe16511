"""Pretrained weights from a local file. Nothing is fetched, nothing is unpickled."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load as load_safetensors
from torch import nn

from fedimg.errors import ConfigError
from fedimg.models import origin
from fedimg.models.heads import VoxelsAndImages
from fedimg.models.late_fusion import LateFusion
from fedimg.models.origin import Origin

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def load_weights(module: nn.Module, path: str) -> Origin:
    """Put the weights of a file into `module`; returns what the file says of where they come from.

    `.safetensors` is read as such, anything else as a torch state dict with `weights_only=True`
    (possibly below a key `state_dict`). Names and shapes must be the network's own. Two things may
    differ: running statistics of batch normalisation, which the network no longer has, are left
    out, and a last layer (linear, or a convolution where there is none) with another number of
    classes is trained anew. A network that joins a table takes a file of its own, or of the network of images in it.

    Raises:
        ConfigError: an unreadable file, other names or shapes, or values that are not finite.
    """
    data = _bytes_of(Path(path))
    safe = Path(path).suffix == ".safetensors"
    found = _read(data, safe=safe)
    if isinstance(module, VoxelsAndImages) and not any(name.startswith("backbone.") for name in found):
        module = module.backbone  # as its library knows it
    without = ""
    if isinstance(module, LateFusion) and not any(name.startswith("image.") for name in found):
        without = module.replaced
        module = module.image
    wanted = {name: parameter.data for name, parameter in module.named_parameters()}
    head = set() if without else head_names(module)
    replaced = f"{without}." if without else "\0"
    extra = [
        n for n in found if n not in wanted and not n.endswith(_STATISTICS) and not n.startswith(replaced)
    ]
    if extra:
        raise _refuse(f"a value named {extra[0]!r}, which this network has not")
    taken = {}
    for name, parameter in wanted.items():
        value = found.get(name)
        if value is None or value.shape != parameter.shape:
            if name in head:
                continue
            raise _refuse(f"{name} {'missing' if value is None else f'of shape {tuple(value.shape)}'}")
        taken[name] = value.to(torch.float32)
        if not bool(torch.isfinite(taken[name]).all()):
            raise _refuse(f"{name} with values that are not finite")
    # A head is taken whole or not at all: a bias of the old classes under new weights means nothing.
    whole = head <= taken.keys()
    with torch.no_grad():
        for name, value in taken.items():
            if whole or name not in head:
                wanted[name].copy_(value)
    return origin.read(data, safetensors=safe)


def _bytes_of(path: Path) -> bytes:
    """Read once: what is loaded is what the digest is of."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as failure:
        raise _refuse(f"a file that could not be read ({type(failure).__name__})") from failure


def _read(data: bytes, *, safe: bool) -> Mapping[str, torch.Tensor]:
    try:
        if safe:
            return load_safetensors(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
    ) as failure:
        raise _refuse(f"a file that could not be read as weights ({type(failure).__name__})") from failure
    except safetensors.SafetensorError as failure:
        raise _refuse("a file that is not safetensors") from failure
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        raise _refuse("a file that holds no state dict")
    return content


def head_names(module: nn.Module) -> set[str]:
    """Names of the parameters of the last linear layer, or else of the last convolution."""
    parts = dict(module.named_modules())
    linear = [name for name, part in parts.items() if isinstance(part, nn.Linear)]
    linear = linear or [name for name, part in parts.items() if isinstance(part, _CONVOLUTIONS)]
    prefix = f"{linear[-1]}." if linear and linear[-1] else ""
    return {f"{prefix}weight", f"{prefix}bias"} & dict(module.named_parameters()).keys() if linear else set()


def _refuse(found: str) -> ConfigError:
    return ConfigError(
        "model.weights to name a file of this network's parameters",
        found,
        "export weights from the same model configuration, or set model.weights=null",
    )
