"""Per-patient gradients of a functional network: two ways to the same numbers.

A patient's gradient is that of the mean loss over their images. `vmap` differentiates a chunk of
patients in one pass; `autograd` makes one call a patient, which wins where a patient's own images
already fill the processor. Both agree to 1e-5 of the norm. No hooks are set on modules, so networks
with in-place residuals, which hook-based libraries refuse, work as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy.batches import Augment

ExampleLoss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# About 32k pixels at once keep a small network's activations inside a core's cache (measured at 28² and
# 64²); an accelerator wants far more.
CPU_PIXELS, ACCELERATOR_PIXELS = 1 << 15, 1 << 21


class FunctionalNetwork(Protocol):
    """A network as a pure function of its flat parameters."""

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(P,) and (N, C, *spatial) → logits (N, classes, …)."""
        ...


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
        classes = logits.shape[1]
        valid = labels.clamp(0, classes - 1)
        losses = self.example_loss(logits, valid)
        if self.class_weights is not None:
            if len(self.class_weights) != classes:
                raise ConfigError(
                    f"{classes} class weights", f"{len(self.class_weights)}", "set training.class_weights"
                )
            losses = (
                losses * torch.tensor(self.class_weights, dtype=losses.dtype, device=losses.device)[valid]
            )
        return torch.where(labels == valid, losses, torch.nan).mean()


@dataclass(frozen=True, slots=True)
class PatientGradients:
    """Gradients of a patient's loss with respect to the flat parameters.

    Attributes:
        network, loss: the function that is differentiated.
        engine: "vmap" or "autograd".
        chunk: images differentiated at once under `vmap`; 0 takes about 32k pixels (2M on accelerators).
    """

    network: FunctionalNetwork
    loss: PatientLoss
    engine: str = "vmap"
    chunk: int = 0

    def of(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(P,), (B, M, C, *spatial) and (B, M) → (B, P), one row a patient, not clipped."""
        if self.engine == "autograd":
            rows = [self._one(flat, images[u], labels[u]) for u in range(images.shape[0])]
            return torch.stack(rows)
        gradient = torch.func.vmap(torch.func.grad(self._patient_loss), in_dims=(None, 0, 0))
        rows_BP: torch.Tensor = gradient(flat, images, labels)
        return rows_BP

    def patients_at_once(self, images: torch.Tensor) -> int:
        """How many patients of `images` (B, M, C, *spatial) form a chunk."""
        pixels = max(1, images[0, 0].numel())
        most = self.chunk or (CPU_PIXELS if images.device.type == "cpu" else ACCELERATOR_PIXELS) // pixels
        return max(1, most // max(1, images.shape[1]))

    def _patient_loss(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss.of(self.network.apply(flat, images), labels)

    def _one(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        leaf = flat.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._patient_loss(leaf, images, labels), leaf)[0]


def fastest(
    network: FunctionalNetwork,
    loss: PatientLoss,
    flat: torch.Tensor,
    image_shape: tuple[int, ...],
    images: int,
) -> PatientGradients:
    """The engine and chunk that take least time on a public dummy batch of 32 patients.

    Only shapes enter: (C, *spatial) and the images a patient may have. The choice depends on the machine,
    so a run that must repeat bit by bit names its engine instead.
    """
    dummy = torch.linspace(-1, 1, 32 * images * int(torch.Size(image_shape).numel()), device=flat.device)
    batch = dummy.reshape(32, images, *image_shape)
    labels = torch.zeros((32, images), dtype=torch.int64, device=flat.device)
    usual = PatientGradients(network, loss).patients_at_once(batch) * images
    offered = [PatientGradients(network, loss, "autograd")]
    offered += [PatientGradients(network, loss, "vmap", max(1, usual * scale // 4)) for scale in (1, 4, 16)]

    def seconds(gradients: PatientGradients) -> float:
        step = gradients.patients_at_once(batch) if gradients.engine == "vmap" else 32
        best = float("inf")
        for _ in range(2):
            begin = time.perf_counter()
            for start in range(0, 32, step):
                gradients.of(flat, batch[start : start + step], labels[start : start + step])
            if flat.device.type == "cuda":
                torch.cuda.synchronize(flat.device)
            best = min(best, time.perf_counter() - begin)
        return best

    return min(offered, key=seconds)
