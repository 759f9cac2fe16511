"""Which parameters a round trains. All of them, but for networks that learn their centre first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from fedimg.models import Network
from fedimg.models.centring import CentrePart, HeadPart, half_square, stage
from fedimg.privacy.engines import PatientLoss
from fedimg.training import local
from fedimg.training.local import Entropy, LocalTraining, Loss
from fedimg.values import SiteDataset, Vector


@dataclass(frozen=True, eq=False)
class Part:
    """A round's own network: the parameters `where` of the whole, the others standing still.

    Attributes:
        start: (P',) float32, those parameters before the round.
        config: as for the whole round; a centring round is one step of its own length, without momentum.
        centring: the loss is the distance from the centre, whatever was asked for.
    """

    network: local.Network
    start: torch.Tensor
    where: slice
    config: LocalTraining
    centring: bool = False

    def loss(self, asked: Loss) -> Loss:
        """Of an example, in open training."""
        return half_square if self.centring else asked

    def patient_loss(self, asked: PatientLoss) -> PatientLoss:
        """Of a patient, in private training."""
        return PatientLoss(example_loss=half_square) if self.centring else asked

    def moved(self, after: torch.Tensor, size: int) -> Vector:
        """(P',) parameters after open training → (P,) what they moved by, as an update of the whole."""
        return self.among((after - self.start).double().cpu().numpy(), size)

    def steps(self, dataset: SiteDataset) -> int:
        """Of a round of open training."""
        return 1 if self.centring else local.number_of_steps(dataset, self.config)

    def among(self, update: Vector, size: int) -> Vector:
        """(P',) → (P,): an update of the part, as one of the whole."""
        whole = np.zeros(size)
        whole[self.where] = update
        return whole


def part_of_round(
    network: Network, number: int, params: torch.Tensor, config: LocalTraining, l2_clip_norm: float
) -> Part:
    """What round `number`, from 1, trains of `params` (P,)."""
    whole = params.detach().to(torch.float32)
    if not network.centring_rounds:
        return Part(network, whole, slice(0, len(whole)), config)
    features = network.layout.sizes[-1]
    head = slice(0, len(whole) - features)
    centre = slice(head.stop, len(whole))
    if number > network.centring_rounds:
        held = HeadPart(head.stop, whole[centre], f"{network.digest}/head")
        return Part(held, whole[head], head, config)
    now = stage(number, network.centring_rounds, features)
    # Within the radius a patient's gradient is then at most C long, and nothing is clipped.
    scale = l2_clip_norm / now.radius
    rate = now.step / scale
    one_step = replace(config, learning_rate=rate, private_learning_rate=rate, momentum=0.0, proximal_mu=0.0)
    part = CentrePart(features, scale, f"{network.digest}/centre")
    return Part(part, whole[centre], centre, replace(one_step, class_weights=None), centring=True)


def train_open_part(
    part: Part, dataset: SiteDataset, entropy: Entropy, loss: Loss, correction: torch.Tensor | None = None
) -> torch.Tensor:
    """(P',) parameters of the part after a round without privacy. A centring round is one step over all images."""
    config = part.config
    if part.centring:
        config = replace(config, batch_size=max(1, len(dataset.images)), local_epochs=1)
    course = local.Course.at(part.start, correction)
    return local.train_along(part.network, course, dataset, config, entropy, part.loss(loss))


def rounds_to_try(network: Network) -> tuple[int, ...]:
    """One round of every kind that a run of this network has."""
    return (1, network.centring_rounds + 1) if network.centring_rounds else (1,)
