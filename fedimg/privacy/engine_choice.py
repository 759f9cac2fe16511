"""Which engine, and how many images at once: timed on a public dummy batch, never on data."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch

from fedimg.privacy import bookkeeping

# Rows of different kernels agree to rounding; a network's ReLU that flips at zero moves more than that, a
# rule that is wrong moves a gradient by its own size.
_SAME = 0.05
# Patients on whom one call each is timed, and by what factor a first try may be slower than the best so far.
_ALONE, _HOPELESS = 2, 3.0
# Another process may take the processor during a try; one left alone is enough.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Workload:
    """What a timing depends on. `size` is (P, images a patient, C, *spatial)."""

    network: str
    size: tuple[int, ...]
    device: str
    threads: int
    gradients: Any = field(compare=False)


@lru_cache(maxsize=256)
def fastest(workload: Workload) -> tuple[str, int]:
    """Engine and chunk that take least time: only shapes enter."""
    (parameters, images, *shape), device = workload.size, torch.device(workload.device)
    # small and irregular: even steps saturate a deep network, and a loss without gradient agrees with anything
    flat = torch.randn(parameters, generator=torch.Generator().manual_seed(0)).mul(0.05).to(device)
    one = torch.zeros((1, images, *shape), device=device)
    usual = {
        engine: min(64, replace(workload.gradients, engine=engine, chunk=0).patients_at_once(flat, one))
        for engine in ("vmap", "bookkeeping")
    }
    patients = max(4, *usual.values())
    size = (patients, images, *shape)
    batch = torch.linspace(-1, 1, math.prod(size), device=device).reshape(size)
    labels = _labels(workload.gradients.network, flat, batch)

    best = math.inf

    def seconds(choice: tuple[str, int]) -> float:
        """For one patient: of a chunk, or of a few patients one by one."""
        nonlocal best
        gradients = replace(workload.gradients, engine=choice[0], chunk=choice[1])
        number = _ALONE if choice[0] == "autograd" else gradients.patients_at_once(flat, batch)
        least = math.inf
        for attempt in range(_TRIES):
            begin = time.perf_counter()
            try:
                clip(gradients, flat, batch[:number], labels[:number])
            except RuntimeError:
                if choice[0] == "autograd":
                    raise
                return math.inf  # an operation without a rule: one call a patient still works
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            least = min(least, (time.perf_counter() - begin) / number)
            # the first one also pays for kernels that are chosen and memory that is fetched
            if attempt and least > _HOPELESS * best:
                break
        best = min(best, least)
        return least

    choices = [("autograd", 0)]
    for engine in ("bookkeeping", "vmap"):
        if engine == "vmap" or _agrees(workload.gradients, flat, batch[:2], labels[:2]):
            chunks = {max(1, usual[engine] // n) * images for n in (1, 2, 4)}
            choices += [(engine, chunk) for chunk in sorted(chunks)]
    return min(choices, key=seconds)


def clip(gradients: Any, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A clipped sum (P,) as a step makes it, at C = 1."""
    if gradients.engine == "bookkeeping":
        layers = gradients.layers(flat, images, labels)
        norms = bookkeeping.squared_norms(layers, images).sqrt()
        total = torch.zeros_like(flat)
        for layer in layers:
            part = layer.weighted((1 / norms).clamp(max=1))
            total[layer.offset : layer.offset + len(part)] += part
        return total
    rows = gradients.of(flat, images, labels)
    total = torch.zeros(flat.numel(), dtype=torch.float64, device=flat.device)
    for row in rows:
        norm = float(torch.linalg.vector_norm(row, dtype=torch.float64))
        total.add_(row, alpha=1 / max(1.0, norm))
    return total


def _agrees(gradients: Any, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> bool:
    """Whether book-keeping takes this network, and gives what one call a patient gives.

    Code that branches on its data could let one patient of a batch steer another's path: `vmap` refuses it.
    """
    try:
        replace(gradients, engine="vmap").of(flat, images, labels)
        by_layer = clip(replace(gradients, engine="bookkeeping"), flat, images, labels)
    except RuntimeError:
        return False
    alone = clip(replace(gradients, engine="autograd"), flat, images, labels)
    return bool(alone.norm() > 0 and (by_layer - alone).norm() <= _SAME * alone.norm())


def _labels(network: Any, flat: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Class 0, or zeros, for every image or every voxel, as the network's labels are."""
    if hasattr(network, "label_shape"):
        kind = torch.float32 if network.learns_numbers else torch.int64
        return torch.zeros((*batch.shape[:2], *network.label_shape), dtype=kind, device=flat.device)
    with torch.no_grad():
        logits = network.apply(flat, batch[0])
    shape = (*batch.shape[:2], *logits.shape[2:])
    return torch.zeros(shape, dtype=torch.int64, device=flat.device)
