"""A shadow block: extra coordinates beside a model's own, in which only canaries have gradients.

Canaries are public units of a data set like any other, so they pass through the same sampling, clipping,
summing, noise and charge as patients do. Their gradient lies along one coordinate of the shadow block and is
far longer than C, so that clipping decides its length. The block is cut off before the model is updated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fedimg.privacy.engines import Described, FunctionalNetwork
from fedimg.values import SiteDataset, Vector

# A canary's gradient before clipping is about so long; its part outside the shadow block is a 2⁻²⁰th of it.
_LENGTH = float(1 << 20)
_CLASSES = 2


@dataclass(frozen=True)
class LinearShadow:
    """Softmax regression on `features` values and `coordinates` tags: clipped in closed form.

    A canary's gradient moves both classes' weight of its tag, oppositely; what is read is the projection on
    that direction, whose noise has the same spread as any coordinate's.
    """

    features: int
    coordinates: int
    linear: bool = True

    @property
    def digest(self) -> str:
        return f"linear shadow {self.features}+{self.coordinates}"

    @property
    def own(self) -> int:
        return _CLASSES * (self.features + 1)

    @property
    def number_of_parameters(self) -> int:
        return _CLASSES * (self.features + self.coordinates + 1)

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        weight, bias = flat[:-_CLASSES], flat[-_CLASSES:]
        return F.linear(images.flatten(1), weight.view(_CLASSES, -1), bias)

    def split(self, released: Vector) -> tuple[Vector, Vector]:
        """(P,) → the model's own part (own,), and each canary coordinate's projection (coordinates,)."""
        weight = released[:-_CLASSES].reshape(_CLASSES, -1)
        own = np.concatenate([weight[:, : self.features].ravel(), released[-_CLASSES:]])
        shadow = weight[:, self.features :]
        return own, (shadow[1] - shadow[0]) / math.sqrt(2)

    def joined(self, own: Vector) -> Vector:
        """(own,) → (P,), with a shadow block of zeros."""
        weight = np.zeros((_CLASSES, self.features + self.coordinates))
        weight[:, : self.features] = own[:-_CLASSES].reshape(_CLASSES, -1)
        return np.concatenate([weight.ravel(), own[-_CLASSES:]])


@dataclass(frozen=True)
class AnyShadow:
    """Any network with a shadow block behind its parameters.

    A tagged example is answered by the shadow block alone, so its gradient in the network is exactly zero.

    Attributes:
        network: takes examples of shape `shape`. own: its number of parameters.
    """

    network: FunctionalNetwork
    shape: tuple[int, ...]
    own: int
    coordinates: int
    linear: bool = False

    @property
    def digest(self) -> str:
        inner = self.network.digest if isinstance(self.network, Described) else f"object {id(self.network)}"
        return f"shadow {inner}+{self.coordinates}"

    @property
    def features(self) -> int:
        return math.prod(self.shape)

    @property
    def number_of_parameters(self) -> int:
        return self.own + self.coordinates

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        values, tags = images.flatten(1).split((self.features, self.coordinates), dim=1)
        logits = self.network.apply(flat[: self.own], values.reshape(-1, *self.shape))
        tagged = tags.abs().sum(dim=1, keepdim=True) > 0
        shadow = tags @ flat[self.own :]
        spread = torch.linspace(-0.5, 0.5, logits.shape[1], dtype=logits.dtype, device=logits.device)
        return torch.where(tagged, shadow[:, None] * spread, logits)

    def split(self, released: Vector) -> tuple[Vector, Vector]:
        # the label is class 0, whose logit falls along the tag: the gradient points upwards
        return released[: self.own], released[self.own :]

    def joined(self, own: Vector) -> Vector:
        return np.concatenate([own, np.zeros(self.coordinates)])


ShadowNetwork: TypeAlias = LinearShadow | AnyShadow
"""Flat parameters hold a model's own and a shadow block; an example is `features` values and then a tag."""


@dataclass(frozen=True)
class Canaries:
    """Which canaries there are and who of them takes part.

    Attributes:
        size: (G,) canaries of each coordinate.
        inside: (G,) whether those of a coordinate take part: a fair coin, exactly half of each size.
    """

    size: npt.NDArray[np.int64]
    inside: npt.NDArray[np.bool_]

    @property
    def count(self) -> int:
        """m, canaries inside and outside."""
        return int(self.size.sum())

    @classmethod
    def drawn(cls, sizes: npt.NDArray[np.int64], generator: np.random.Generator) -> Canaries:
        inside = np.zeros(len(sizes), dtype=np.bool_)
        for size in np.unique(sizes):
            places = np.flatnonzero(sizes == size)
            inside[generator.permutation(places)[: len(places) // 2]] = True
        return cls(sizes, inside)


def shadow_site(
    network: ShadowNetwork, canaries: Canaries, ordinary: torch.Tensor, labels: torch.Tensor
) -> SiteDataset:
    """A site of ordinary units, one example each, (N, features) and (N,), and of the canaries that take part."""
    coordinates = np.repeat(
        np.arange(network.coordinates), np.where(canaries.inside, canaries.size, 0).astype(np.int64)
    )
    images = torch.zeros(len(ordinary) + len(coordinates), network.features + network.coordinates)
    images[: len(ordinary), : network.features] = ordinary
    rows = torch.arange(len(ordinary), len(images))
    images[rows, network.features + torch.from_numpy(coordinates)] = _LENGTH
    of_all = torch.cat([labels, torch.zeros(len(coordinates), dtype=labels.dtype)])
    return SiteDataset(
        images, of_all, tuple(f"public-{k:07d}" for k in range(len(images))), np.arange(len(images) + 1)
    )
