"""Per-patient gradients of a functional network: three ways to the same numbers.

A patient's gradient is that of the mean loss over their images. `vmap` differentiates a chunk of
patients in one pass; `autograd` makes one call a patient, which wins where a patient's own images
already fill the processor; a linear head has a closed form. All agree to 1e-5 of the norm. No hooks are set on modules, so networks
with in-place residuals, which hook-based libraries refuse, work as they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy.batches import Augment

ExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Pixels, and gradient values (patients · P), held at once: more gains nothing on a small network (measured
# at 28² and 64²), and gradients beyond 16 MiB are given back to the system and faulted in at every chunk.
CPU_LIMITS, ACCELERATOR_LIMITS = (1 << 18, 1 << 22), (1 << 24, 1 << 28)


class FunctionalNetwork(Protocol):
    """A network as a pure function of its flat parameters."""

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(P,) and (N, C, *spatial) → logits (N, classes, …)."""
        ...


@runtime_checkable
class Described(Protocol):
    """What a network may say of itself: a digest, and whether its logits are affine in its input.

    An affine one holds its weight (classes, F), then its bias (classes,), and nothing else.
    """

    @property
    def digest(self) -> str: ...

    @property
    def linear(self) -> bool: ...


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, classes) and (N,) int64 → (N,), one value an image."""
    return F.cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True, slots=True)
class PatientLoss:
    """What a patient's images are asked to minimise.

    Attributes:
        class_weights: one public factor a class; None weighs all alike. The mean is over images, not over
            weights, so a patient's loss depends on nobody else.
        example_loss: (N, classes) and (N,) → (N,).
        augment: (N, C, *spatial) and a source of bits → (N, copies, C, *spatial): copies of each image, drawn
            inside the patient's own gradient, so they cost no privacy. It must treat images one by one.
    """

    class_weights: tuple[float, ...] | None = None
    example_loss: ExampleLoss = cross_entropy
    augment: Augment | None = None

    def of(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss () of one patient's images, (N, classes) and (N,).

        A label that is no class gives NaN, hence a gradient that clipping leaves out: raising an error
        would tell the server that such a patient exists.
        """
        valid = labels.clamp(0, logits.shape[1] - 1)
        return (self.example_loss(logits, valid) * self.factors(logits, labels)).mean()

    def factors(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What each image's loss is multiplied by, in the shape of `labels`: its class's weight, or NaN."""
        classes = logits.shape[-1]
        weights = logits.new_ones(classes)
        if self.class_weights is not None:
            if len(self.class_weights) != classes:
                raise ConfigError(
                    f"{classes} class weights", f"{len(self.class_weights)}", "set training.class_weights"
                )
            weights = torch.tensor(self.class_weights, dtype=logits.dtype, device=logits.device)
        valid = labels.clamp(0, classes - 1)
        # a factor, not a branch: a NaN that stands in an untaken branch would have no gradient
        return torch.where(labels == valid, weights[valid], torch.nan)


@dataclass(frozen=True, slots=True)
class PatientGradients:
    """Gradients of a patient's loss with respect to the flat parameters.

    Attributes:
        network, loss: the function that is differentiated.
        engine: "vmap", "autograd", or "auto": whichever was faster on a public dummy batch of the same shape
            on this machine.
        timed: False makes "auto" go by a fixed rule instead: a run that must repeat bit by bit.
        chunk: images differentiated at once under `vmap`; 0 goes by image size and P.
    """

    network: FunctionalNetwork
    loss: PatientLoss
    engine: str = "vmap"
    chunk: int = 0
    timed: bool = True

    def of(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(P,), (B, M, C, *spatial) and (B, M) → (B, P), one row a patient, not clipped. Raises for "auto"."""
        if self.engine not in ("vmap", "autograd", "closed_form"):
            raise ConfigError("engine vmap, autograd or closed_form", self.engine, "call `settled` first")
        if self.engine == "closed_form":
            return self._closed_form(flat, images.flatten(2), labels)
        if self.engine == "autograd":
            rows = [self._one(flat, images[u], labels[u]) for u in range(images.shape[0])]
            return torch.stack(rows)
        gradient = torch.func.vmap(torch.func.grad(self._patient_loss), in_dims=(None, 0, 0))
        rows_BP: torch.Tensor = gradient(flat, images, labels)
        return rows_BP

    def settled(self, flat: torch.Tensor, images: torch.Tensor) -> PatientGradients:
        """The same with "auto" decided for batches like `images` (B, M, C, *spatial)."""
        if self.engine != "auto":
            return self
        if (
            isinstance(self.network, Described)
            and self.network.linear
            and self.loss.example_loss is cross_entropy
        ):
            return replace(self, engine="closed_form")
        if not self.timed:
            return replace(self, engine="vmap")
        shape, device = tuple(images.shape[2:]), str(flat.device)
        name = self.network.digest if isinstance(self.network, Described) else f"object {id(self.network)}"
        size = (flat.numel(), images.shape[1], *shape)
        workload = _Workload(name, size, device, torch.get_num_threads(), self)
        engine, chunk = _fastest(workload)
        return replace(self, engine=engine, chunk=self.chunk or chunk)

    def patients_at_once(self, flat: torch.Tensor, images: torch.Tensor) -> int:
        """How many patients of `images` (B, M, C, *spatial) form a chunk."""
        if self.chunk:
            return max(1, self.chunk // images.shape[1])
        pixels, values = CPU_LIMITS if flat.device.type == "cpu" else ACCELERATOR_LIMITS
        return max(1, min(pixels // max(1, images[0].numel()), values // flat.numel()))

    def _patient_loss(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss.of(self.network.apply(flat, images), labels)

    def _closed_form(self, flat: torch.Tensor, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Softmax regression: the gradient is the error, (probabilities − one-hot) · weight ÷ M, times features."""
        classes = flat.numel() // (features.shape[-1] + 1)
        weight, bias = flat.split((flat.numel() - classes, classes))
        logits = F.linear(features, weight.view(classes, -1), bias)
        error = torch.softmax(logits, dim=-1) - F.one_hot(labels.clamp(0, classes - 1), classes)
        error = error * (self.loss.factors(logits, labels) / labels.shape[1]).unsqueeze(-1)
        return torch.cat([torch.einsum("bmc,bmf->bcf", error, features).flatten(1), error.sum(dim=1)], dim=1)

    def _one(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        leaf = flat.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._patient_loss(leaf, images, labels), leaf)[0]


@dataclass(frozen=True, slots=True)
class _Workload:
    """What a timing depends on. `size` is (P, images a patient, C, *spatial)."""

    network: str
    size: tuple[int, ...]
    device: str
    threads: int
    gradients: PatientGradients = field(compare=False)


@lru_cache(maxsize=256)
def _fastest(workload: _Workload) -> tuple[str, int]:
    """Engine and chunk that take least time on a public dummy batch: only shapes enter, never data."""
    (parameters, images, *shape), device = workload.size, torch.device(workload.device)
    flat = torch.linspace(-0.1, 0.1, parameters, device=device)
    one = torch.zeros((1, images, *shape), device=device)
    usual = replace(workload.gradients, chunk=0).patients_at_once(flat, one)
    patients = min(64, max(4, usual))
    size = (patients, images, *shape)
    batch = torch.linspace(-1, 1, math.prod(size), device=device).reshape(size)
    labels = torch.zeros(size[:2], dtype=torch.int64, device=device)

    def seconds(choice: tuple[str, int]) -> float:
        gradients = replace(workload.gradients, engine=choice[0], chunk=choice[1])
        step, times = gradients.patients_at_once(flat, batch), []
        for _ in range(3):
            begin = time.perf_counter()
            try:
                for start in range(0, patients, step):
                    gradients.of(flat, batch[start : start + step], labels[start : start + step])
            except RuntimeError:
                if choice[0] == "autograd":
                    raise
                return math.inf  # an operation that vmap has no rule for: one call a patient still works
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(time.perf_counter() - begin)
        return min(times)

    chunks = sorted({max(1, min(usual, patients) * images // n) for n in (1, 2, 4)})
    return min([("autograd", 0), *(("vmap", chunk) for chunk in chunks)], key=seconds)
