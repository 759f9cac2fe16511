"""Generated patients and real networks: what the engines clip, not only what the battery makes up."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch

from fedimg.models import ModelConfig, Network, build_model
from fedimg.privacy.engines import PatientLoss
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.plan import PrivacyPlan, ReleaseSession
from fedimg.values import SiteDataset, Vector

# Every way of computing gradients: (network, engine).
ENGINES = (("cnn", "vmap"), ("cnn", "autograd"), ("scattering", "auto"))
_IMAGES = (1, 3, 2, 1)
_CLIP = 0.1
_SIDE = 16


class Reserved(Protocol):
    """A plan of nothing but quiet releases, with a ledger that has reserved it."""

    def quiet(self, clip: float, images: int, engine: str) -> tuple[PrivacyPlan, Ledger]: ...


def quiet_sum(mechanism: Reserved, engine: int, left_out: int | None) -> tuple[Vector, float]:
    """See `Mechanism.natural`; patients have one to three images, of sizes up to ten times the usual."""
    model, way = ENGINES[engine]
    network = _network(model)
    everyone = _patients(network)
    present = np.array([u for u in range(len(_IMAGES)) if u != left_out])
    plan, ledger = mechanism.quiet(_CLIP, max(_IMAGES), way)
    session = ReleaseSession(plan, ledger, OsEntropy(), PatientLoss())
    flat = torch.from_numpy(network.initial.astype(np.float32))
    return session.gradient_step(flat, everyone.of_patients(present), network).vector, _CLIP


@lru_cache(maxsize=4)
def _network(name: str) -> Network:
    return build_model(ModelConfig(name=name, image_size=(_SIDE, _SIDE), width=4), seed=0)


def _patients(network: Network) -> SiteDataset:
    count = sum(_IMAGES)
    images = torch.sin(torch.arange(count * _SIDE**2, dtype=torch.float32) ** 1.5)
    scaled = images.reshape(count, 1, _SIDE, _SIDE) * torch.linspace(0.5, 10, count).reshape(-1, 1, 1, 1)
    first = np.concatenate([[0], np.cumsum(_IMAGES)]).astype(np.int64)
    keys = tuple(f"{u:03d}" for u in range(len(_IMAGES)))
    found = SiteDataset(scaled, torch.arange(count) % 2, keys, first)
    return replace(found, images=network.features(found.images))
