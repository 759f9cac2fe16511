"""Per-patient gradients of a functional network: four ways to the same numbers.

A patient's gradient is that of the mean loss over their images. `bookkeeping` takes norms and clipped sums
from one pass over a chunk of patients, mostly without writing a patient's gradient out; `vmap` differentiates
a chunk in one pass; `autograd` makes one call a patient; a linear head has a closed form. All agree to 1e-9 of
the norm in float64 on every network that is offered; in float32 to 1e-5, or where a deep network loses more to
float32 itself to a few times that, but for a patient at whom rounding flips a ReLU (`scripts/study_engines.py`).
No patient's share passes C, flipped or not. No hooks are set on modules, so networks with in-place residuals, which hook-based libraries refuse,
work as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy import bookkeeping
from fedimg.privacy.engine_choice import Workload, fastest
from fedimg.privacy.layer_gradients import Geometry, LayerGradient, Weight, Written
from fedimg.privacy.patient_loss import PatientLoss, cross_entropy

__all__ = ["Described", "FunctionalNetwork", "PatientGradients", "PatientLoss", "cross_entropy"]

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


@runtime_checkable
class Centred(Protocol):
    """An affine network that takes a fixed centre (F,) off its input first."""

    @property
    def centre(self) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class PatientGradients:
    """Gradients of a patient's loss with respect to the flat parameters.

    Attributes:
        network, loss: the function that is differentiated.
        engine: "bookkeeping", "vmap", "autograd", or "auto": whichever was fastest on a public dummy batch of
            the same shape on this machine.
        timed: False makes "auto" go by a fixed rule instead: a run that must repeat bit by bit.
        chunk: images differentiated at once; 0 goes by image size and, where rows are written, P.
    """

    network: FunctionalNetwork
    loss: PatientLoss
    engine: str = "vmap"
    chunk: int = 0
    timed: bool = True

    def of(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(P,), (B, M, C, *spatial) and (B, M) → (B, P), one row a patient, not clipped. Raises for "auto"."""
        if self.engine not in ("bookkeeping", "vmap", "autograd", "closed_form"):
            raise ConfigError(
                "engine bookkeeping, vmap, autograd or closed_form", self.engine, "call `settled` first"
            )
        if self.by_layers:
            return bookkeeping.rows(self.layers(flat, images, labels), len(images), flat)
        if self.engine == "autograd":
            rows = [self._one(flat, images[u], labels[u]) for u in range(images.shape[0])]
            return torch.stack(rows)
        gradient = torch.func.vmap(torch.func.grad(self._patient_loss), in_dims=(None, 0, 0))
        rows_BP: torch.Tensor = gradient(flat, images, labels)
        return rows_BP

    @property
    def by_layers(self) -> bool:
        """Whether norms and clipped sums need no patient's gradient written out."""
        return self.engine in ("bookkeeping", "closed_form")

    def layers(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> list[LayerGradient]:
        """The same layer by layer, for norms and clipped sums without rows. Raises NoRuleError."""
        if self.engine == "closed_form":
            return self._closed_form(flat.detach(), images.flatten(2), labels)

        def loss(parameters: torch.Tensor, flattened: torch.Tensor) -> torch.Tensor:
            each = self.loss.each(self.network.apply(parameters, flattened), labels.flatten(0, 1))
            return each.sum() / images.shape[1]

        return bookkeeping.record(flat, images, loss)

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
        name = self.network.digest if isinstance(self.network, Described) else f"object {id(self.network)}"
        size = (flat.numel(), *images.shape[1:])
        workload = Workload(name, size, str(flat.device), torch.get_num_threads(), self)
        engine, chunk = fastest(workload)
        return replace(self, engine=engine, chunk=self.chunk or chunk)

    def patients_at_once(self, flat: torch.Tensor, images: torch.Tensor, *, rows: bool = False) -> int:
        """How many patients of `images` (B, M, C, *spatial) form a chunk. `rows`: whatever the engine."""
        if self.chunk:
            return max(1, self.chunk // images.shape[1])
        pixels, values = CPU_LIMITS if flat.device.type == "cpu" else ACCELERATOR_LIMITS
        patients = pixels // max(1, images[0].numel())
        if rows or not self.by_layers:
            patients = min(patients, values // flat.numel())
        return max(1, patients)

    def _patient_loss(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss.of(self.network.apply(flat, images), labels)

    def _closed_form(
        self, flat: torch.Tensor, features: torch.Tensor, labels: torch.Tensor
    ) -> list[LayerGradient]:
        """Softmax regression: the gradient is the error, (probabilities − one-hot) · weight ÷ M, times features.

        `features` (B, M, F), less the network's centre where it has one.
        """
        if isinstance(self.network, Centred):
            features = features - self.network.centre
        classes = flat.numel() // (features.shape[-1] + 1)
        weight, bias = flat.split((flat.numel() - classes, classes))
        logits = F.linear(features, weight.view(classes, -1), bias)
        error = torch.softmax(logits, dim=-1) - F.one_hot(labels.clamp(0, classes - 1), classes)
        error = error * (self.loss.factors(logits, labels) / labels.shape[1]).unsqueeze(-1)
        geometry = Geometry((classes, features.shape[-1]), labels.shape[1])
        return [
            Weight(0, geometry, features.flatten(0, 1), error.flatten(0, 1)),
            Written(flat.numel() - classes, error.sum(dim=1)),
        ]

    def _one(self, flat: torch.Tensor, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        leaf = flat.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self._patient_loss(leaf, images, labels), leaf)[0]
