"""A real network of a few hundred parameters, with the interface that training asks for, and its data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fedimg.values import SiteDataset


def small_module(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(4, 6, 3, padding=1, stride=2, bias=False),
            nn.GroupNorm(2, 6),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 3),
        )


class FlatNetwork:
    """`torch.func` over one flat parameter vector (P,)."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        parameters = dict(module.named_parameters())
        self._shapes = {name: p.shape for name, p in parameters.items()}
        self._sizes = [p.numel() for p in parameters.values()]
        self.initial = torch.cat([p.detach().flatten() for p in parameters.values()])

    @property
    def number_of_parameters(self) -> int:
        return sum(self._sizes)

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        parts = torch.split(flat, self._sizes)
        named = {n: p.view(s) for (n, s), p in zip(self._shapes.items(), parts, strict=True)}
        logits: torch.Tensor = torch.func.functional_call(self._module, named, (images,))
        return logits


def site(images_of_patients: tuple[int, ...], seed: int = 0, size: int = 16) -> SiteDataset:
    """A site whose patient u has images_of_patients[u] random images of three classes."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(images_of_patients)
    labels = torch.randint(0, 3, (n,), generator=generator)
    images = torch.randn(n, 1, size, size, generator=generator) + labels.view(-1, 1, 1, 1)
    first = np.concatenate([[0], np.cumsum(images_of_patients)]).astype(np.int64)
    return SiteDataset(images, labels, tuple(f"p{u:03}" for u in range(len(images_of_patients))), first)


class SeededBytes:
    """A repeatable byte stream for tests."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def bytes(self, n: int) -> bytes:
        return self._generator.bytes(n)


@pytest.fixture(scope="session")
def network():
    return FlatNetwork(small_module())


@pytest.fixture(scope="session", name="site")
def site_maker():
    return site


@pytest.fixture(scope="session")
def seeded():
    return SeededBytes


@pytest.fixture(scope="session", name="small_module")
def module_maker():
    return small_module


@pytest.fixture(scope="session")
def flat():
    return FlatNetwork
