"""Gradient inversion: what a picture can be made of from one patient's update, before and after noise.

The gradient of a fully connected first layer is (error) ⊗ (input), that of its bias the error: their quotient is the
input, exactly (Geiping et al. 2020, arXiv 2003.14053, proposition 3.1; Phong et al. 2018). The attacked model is a
softmax regression on pixels, the worst first layer there is, and the attacker knows that nobody else is at the
site, and the patient's label.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from fedimg.audit.recipe import scratch_session
from fedimg.errors import DataError
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.noise import Entropy
from fedimg.privacy.plan import PrivacyPlan
from fedimg.values import SiteDataset, Vector

_CLASSES = 2
# A right reconstruction is right to float32; a released one may look like the image by chance, within 6 sd.
_EXACT, _DEVIATIONS = 0.999, 6.0


@dataclass(frozen=True)
class PixelModel:
    """Softmax regression on (C, *spatial) pixels: weight (2, D), then bias (2,)."""

    pixels: int
    linear: bool = True

    @property
    def digest(self) -> str:
        return f"pixel model {self.pixels}"

    @property
    def number_of_parameters(self) -> int:
        return _CLASSES * (self.pixels + 1)

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        weight, bias = flat[:-_CLASSES], flat[-_CLASSES:]
        return F.linear(images.flatten(1), weight.view(_CLASSES, -1), bias)


@dataclass(frozen=True)
class Inverted:
    """One patient's image and what was made of it; (D,) each.

    Attributes:
        unnoised: from the clipped update. one_release: from one noised step with the patient surely in it.
        whole_run: from all of the run's noised steps together, the patient sampled as everyone is.
    """

    image: Vector
    unnoised: Vector
    one_release: Vector
    whole_run: Vector

    @property
    def likeness(self) -> tuple[float, float, float]:
        """Cosine between the image and each: 1 is the image itself."""
        return (
            cosine(self.image, self.unnoised),
            cosine(self.image, self.one_release),
            cosine(self.image, self.whole_run),
        )


@dataclass(frozen=True)
class Inversion:
    """All inverted patients, and how like the image noise of this size lets the released ones be on average."""

    cases: tuple[Inverted, ...]
    expected: tuple[float, float]

    @property
    def held(self) -> bool:
        """The attack works without noise, and with it shows no more than the noise allows."""
        return all(self._holds(case) for case in self.cases)

    def _holds(self, case: Inverted) -> bool:
        exact, *released = case.likeness
        room = _DEVIATIONS / math.sqrt(len(case.image))
        return exact >= _EXACT and all(
            found <= most + room for found, most in zip(released, self.expected, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        likeness = np.array([case.likeness for case in self.cases])
        return {
            "patients": len(self.cases),
            "likeness": {
                "unnoised_least": float(likeness[:, 0].min()),
                "one_release_most": float(likeness[:, 1].max()),
                "whole_run_most": float(likeness[:, 2].max()),
            },
            "expected_likeness": {"one_release": self.expected[0], "whole_run": self.expected[1]},
        }


def cosine(a: Vector, b: Vector) -> float:
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 0 else 0.0


def first_layer_input(weight_gradient: Vector, bias_gradient: Vector) -> Vector:
    """(O, D) and (O,) of a fully connected layer with one input → that input (D,), exactly.

    Raises:
        DataError: the error is zero, and with it the gradient: nothing can be said of the input.
    """
    strength = float(bias_gradient @ bias_gradient)
    if strength == 0:
        raise DataError("a gradient that is not zero", "zero", "the example is fitted already; take another")
    return np.asarray(bias_gradient @ weight_gradient / strength, dtype=np.float64)


def from_noised(update: Vector, label: int) -> Vector:
    """The best guess at the input's direction from a noised update (P,), knowing the label: its error's sign."""
    weight = update[:-_CLASSES].reshape(_CLASSES, -1)
    return np.asarray((weight[1] - weight[0]) * (1 if label == 0 else -1), dtype=np.float64)


def invert(dataset: SiteDataset, plan: PrivacyPlan, entropy: Entropy) -> Inversion:
    """Attack each patient's first image alone. Instant: no optimisation is run.

    Args:
        dataset: pixels, not features; values of any range. plan: of the release, its (q, σ, T, C).
    """
    cases = []
    for patient in range(dataset.number_of_patients):
        image = dataset.images[int(dataset.first_image[patient])][None]
        label = int(dataset.labels[int(dataset.first_image[patient])]) % _CLASSES
        cases.append(_inverted(image, label, plan, entropy))
    pixels, sigma = len(cases[0].image) if cases else 1, plan.noise_multiplier
    whole = plan.sampling_rate**2 * plan.steps
    return Inversion(
        tuple(cases), (expected_likeness(sigma, pixels, 1.0), expected_likeness(sigma, pixels, whole))
    )


def expected_likeness(noise_multiplier: float, pixels: int, strength: float) -> float:
    """Mean cosine, about, of a direction of length √strength·C with itself plus N(0, (σC)²) on every pixel."""
    return 1 / math.sqrt(1 + noise_multiplier**2 * pixels / strength)


def _inverted(image: torch.Tensor, label: int, plan: PrivacyPlan, entropy: Entropy) -> Inverted:
    network = PixelModel(image[0].numel())
    alone = SiteDataset(image, torch.tensor([label]), ("public-0",), np.array([0, 1]))
    flat = torch.zeros(network.number_of_parameters)
    gradients = PatientGradients(network, PatientLoss(), "closed_form")
    row = gradients.of(flat, image[:, None], alone.labels[:, None])[0].double().numpy()
    exact = first_layer_input(row[:-_CLASSES].reshape(_CLASSES, -1), row[-_CLASSES:])
    with scratch_session(plan, entropy, sampling_rate=1.0, steps=1) as session:
        one = session.gradient_step(flat, alone, network).vector
    total = np.zeros(network.number_of_parameters)
    with scratch_session(plan, entropy) as session:
        for _ in range(plan.steps):
            total += session.gradient_step(flat, alone, network).vector
    return Inverted(
        image.flatten().double().numpy(), exact, from_noised(one, label), from_noised(total, label)
    )
