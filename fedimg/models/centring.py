"""A linear head on features less their centre, and how the centre is learnt: in the first rounds, like the rest.

Images of one kind share most of their features: of a generated chest slice's scattering features, nine tenths of the
squared length. A clipped gradient of a linear head is an error times the features, so what all images share
uses up the clip norm and tells no class from another. Normalising features by privately estimated means is
due to F. Tramèr and D. Boneh, "Differentially Private Learning Needs Better Features (or Much More Data)",
ICLR 2021, arXiv 2011.11660, section 3; a mean that is estimated within a ball, and again within a smaller one,
to S. Biswas et al., "CoinPress", NeurIPS 2020, arXiv 2006.06618.

The centre c minimises the patients' mean of ½‖x̄ − c‖², x̄ a patient's mean features. A round that learns it releases
the mean of x̄ − c, clipped to a radius and noised. Over one half of those rounds c stands still, and then moves by the
mean of what they said: were it to move after every round, the first noise would carry it further than the clipped rounds
behind could bring it back. The second half weighs what it says by the inverse of its variance beside the
first's. To sampling, clipping, noise and ledger each is a training round like any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

# The second half of the rounds looks within this part of the first half's radius.
_NEARER = 0.5


class CentredLinear(nn.Linear):
    """Logits W(x − c) + b; parameters in the order weight (classes, F), bias (classes,), centre (F,)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.centre = nn.Parameter(torch.zeros(features))

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch names it
        return super().forward(input - self.centre)


@dataclass(frozen=True, slots=True)
class Stage:
    """A centring round: patients count within `radius` of the centre, which will move by `step` times their mean."""

    radius: float
    step: float


def stage(number: int, rounds: int, features: int) -> Stage:
    """Of round `number`, from 1, of `rounds` that learn the centre of `features` values.

    The first half looks within √F, beyond which no features lie that were normalised in groups, and few others.
    """
    first, radius = (rounds + 1) // 2, math.sqrt(features)
    if number <= first:
        return Stage(radius, 1 / first)
    return Stage(radius * _NEARER, 1 / (first * _NEARER**2 + rounds - first))


def stage_ends(rounds: int) -> tuple[int, ...]:
    """After which of `rounds` centring rounds the centre moves, by all that was said since it last did."""
    return tuple(sorted({(rounds + 1) // 2, rounds} - {0}))


@dataclass(frozen=True, eq=False)
class CentrePart:
    """The centre as all that is trained: (c − x)·√scale, whose halved square has the gradient scale·(c − x).

    Attributes:
        number_of_parameters: F. digest: names what is computed, for choices that are remembered.
    """

    number_of_parameters: int
    scale: float
    digest: str
    linear: bool = False

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(F,) and (N, F) → (N, F)."""
        return (flat - images) * math.sqrt(self.scale)


@dataclass(frozen=True, eq=False)
class HeadPart:
    """Weight and bias as all that is trained, on features less a centre (F,) that stands."""

    number_of_parameters: int
    centre: torch.Tensor
    digest: str
    linear: bool = True

    def apply(self, flat: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """(classes·F + classes,) and (N, F) → logits (N, classes)."""
        classes = len(flat) // (len(self.centre) + 1)
        weight, bias = flat.split((len(flat) - classes, classes))
        return F.linear(images - self.centre, weight.view(classes, -1), bias)


def half_square(deviations: torch.Tensor, _labels: torch.Tensor) -> torch.Tensor:
    """(N, F) → (N,): ½‖·‖² of every image. Labels have no part in it."""
    return deviations.square().sum(dim=1) / 2
