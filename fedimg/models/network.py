"""A network as a pure function of one flat parameter vector.

Everything that moves between the stations (clipping, noise, masking, aggregation) is one vector
of length P; only here is it known which part of it is which weight.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from threading import RLock
from typing import Self

import numpy as np
import torch
from torch import nn

from fedimg.errors import ModelError
from fedimg.models.config import OF_NUMBERS
from fedimg.models.heads import Head, all_activated
from fedimg.models.origin import Origin
from fedimg.models.out_of_place import OutOfPlace
from fedimg.models.outputs import activated
from fedimg.models.weights import head_names
from fedimg.values import Vector

Features = Callable[[torch.Tensor], torch.Tensor]
_IMAGES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """Names and shapes of the parameters, in the order in which they lie in the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: nn.Module) -> Self:
        parameters = dict(module.named_parameters())
        return cls(tuple(parameters), tuple(tuple(p.shape) for p in parameters.values()))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each parameter starts, and behind the last one the length of the vector."""
        return tuple(accumulate(self.sizes, initial=0))

    def unflatten(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """(P,) → each parameter by name, as views of `flat`."""
        if flat.shape != (self.offsets[-1],):
            raise ModelError(
                f"a parameter vector of {self.offsets[-1]} values",
                f"shape {tuple(flat.shape)}",
                "use vectors of this network",
            )
        parts = flat.split(self.sizes)
        return {
            name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def flatten(self, parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Inverse of `unflatten`; raises ModelError where names or shapes differ."""
        found = {name: tuple(p.shape) for name, p in parameters.items()}
        if found != dict(zip(self.names, self.shapes, strict=True)):
            raise ModelError(
                f"the {len(self.names)} parameters of this network",
                f"{len(found)} with other names or shapes",
                "load weights that were exported from the same model configuration",
            )
        return torch.cat([parameters[name].reshape(-1) for name in self.names])


@dataclass(frozen=True, eq=False)
class Network:
    """What training, evaluation and export know of a model.

    `apply` is pure: no buffers, no randomness, no difference between training and evaluation, no
    example that touches another. It composes with `torch.func.grad` and `vmap`. Threads may share it.

    Attributes:
        name: as configured.
        layout: where each parameter lies.
        initial: (P,) float64, read-only: parameters before round 1.
        image_shape: (C, *spatial) of the images that `features` takes.
        feature_shape: of one example as `apply` takes it; equals `image_shape` without `frozen`.
        frozen: a fixed, public, deterministic map applied before training, or None.
        task, target_range: what is learnt, as in `ModelConfig`; `activated` makes its outputs of logits.
        label_shape: of one image's labels, as in `ModelConfig`.
        heads: of several tasks, where each lies in an image's row of outputs and of labels.
        linear: logits are affine in the features: weight (classes, F), then bias (classes,).
        by_statistics: learnt from sums of statistics (`fedimg.classical`), not along gradients.
        centring_rounds: so many first rounds learn the last parameter, the features' centre, and the others
            the rest (`fedimg.models.centring`); 0: every round learns everything.
        digest: of the architecture (name, configuration, layout, extension code), hex SHA-256.
        origin: what the file says that `initial` comes from; None for weights from a seed.
    """

    name: str
    layout: Layout
    initial: Vector
    image_shape: tuple[int, ...]
    feature_shape: tuple[int, ...]
    frozen: Features | None
    task: str
    target_range: tuple[float, float]
    label_shape: tuple[int, ...]
    linear: bool
    by_statistics: bool
    centring_rounds: int
    digest: str
    _module: nn.Module
    _in_place: bool
    heads: tuple[Head, ...] = ()
    origin: Origin | None = None
    # A call lends the module its parameters for as long as it lasts.
    _lock: RLock = field(default_factory=RLock)

    @property
    def number_of_parameters(self) -> int:
        return self.layout.offsets[-1]

    @property
    def head(self) -> frozenset[str]:
        """Names of the last layer's parameters, which a file of weights may leave out."""
        return frozenset(head_names(self._module))

    @property
    def learns_numbers(self) -> bool:
        """Whether labels are float32 numbers, instead of classes, int64."""
        return self.task in OF_NUMBERS

    @property
    def normalisation(self) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
        """(P,) True for the scales and shifts of normalising layers."""
        kinds = (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._NormBase)  # noqa: SLF001 - of batch and instance norm
        inside = {
            f"{name}.{own}" if name else own
            for name, module in self._module.named_modules()
            if isinstance(module, kinds)
            for own, _ in module.named_parameters(recurse=False)
        }
        return np.repeat([name in inside for name in self.layout.names], self.layout.sizes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) float32 → (B, *feature_shape): what may be computed once, ahead of training.

        Depends on nothing but the image, so it costs no privacy. Without a frozen part, the images.
        """
        if images.shape[1:] != self.image_shape:
            raise ModelError(
                f"images of shape {self.image_shape}",
                f"{tuple(images.shape[1:])}",
                "set model.channels and model.image_size to those of imaging",
            )
        if self.frozen is None:
            return images
        if not len(images):
            return images.new_zeros((0, *self.feature_shape))
        with torch.no_grad():
            return torch.cat([self.frozen(part) for part in images.split(_IMAGES_AT_ONCE)])

    def apply(self, flat: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(P,) and (B, *feature_shape) → (B, *ModelConfig.output_shape). Pass images through `features` first."""
        with self._lock, OutOfPlace() if self._in_place else nullcontext():
            logits: torch.Tensor = torch.func.functional_call(
                self._module, self.layout.unflatten(flat), (features,), strict=True
            )
        return logits

    def probabilities(
        self, vector: Vector, features: torch.Tensor, device: torch.device | str = "cpu"
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """(P,) and (N, *feature_shape) → softmax scores (N, classes, *spatial) float64, computed in parts."""
        return self._in_parts(vector, features, device, lambda logits: torch.softmax(logits.double(), dim=1))

    def outputs(
        self, vector: Vector, features: torch.Tensor, device: torch.device | str = "cpu"
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """(P,) and (N, *feature_shape) → what an evaluation of the task takes, see `outputs.activated`."""
        of = partial(all_activated, self.heads) if self.heads else partial(activated, self.task)
        return self._in_parts(vector, features, device, of)

    def _in_parts(
        self, vector: Vector, features: torch.Tensor, device: torch.device | str, of: Features
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        flat = torch.from_numpy(np.asarray(vector, dtype=np.float32)).to(device)
        # Some networks cannot take an empty batch, and a site without held-out patients must not show.
        some = features if len(features) else torch.zeros((1, *self.feature_shape))
        with torch.no_grad():
            parts = [of(self.apply(flat, part.to(device))).cpu() for part in some.split(_IMAGES_AT_ONCE)]
        found: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = torch.cat(parts).numpy()
        return found if len(features) else found[:0]

    def module_at(self, vector: Vector) -> nn.Module:
        """A copy of the trainable part, with these parameters."""
        module = copy.deepcopy(self._module)
        module.load_state_dict(self.state_dict(vector))
        return module.eval()

    def state_dict(self, vector: Vector) -> dict[str, torch.Tensor]:
        """(P,) → float32 tensors by name, as the module itself would save them."""
        flat = torch.from_numpy(np.asarray(vector, dtype=np.float32))
        return {name: part.clone() for name, part in self.layout.unflatten(flat).items()}


def architecture_digest(name: str, settings: Mapping[str, object], layout: Layout, code: str) -> str:
    """SHA-256 over what makes two sites' vectors mean the same."""
    text = json.dumps([name, dict(settings), layout.names, layout.shapes, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
