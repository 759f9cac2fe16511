"""Dummy patients go the whole way before a site joins: what fails does so before any budget is charged.

A network without a rule for `vmap`, a loss or an augmentation that cannot take the images' shape, a device
without memory for one patient: each would otherwise show as a charge and no answer, in every round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fedimg.errors import ConfigError, FedimgError
from fedimg.evaluation import Measure
from fedimg.imaging.config import AugmentationConfig
from fedimg.models import Network
from fedimg.privacy.batches import gather
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.noise import Entropy, InsecureSeededEntropy
from fedimg.privacy.request import PrivacyRequest
from fedimg.training.local import LocalTraining
from fedimg.training.parts import Part, part_of_round, rounds_to_try, train_open_part
from fedimg.training.variation import varied_once
from fedimg.values import SiteDataset

_MOST_IMAGES = 2


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """All that decides whether a patient's images can go through a round. Nothing of it is a patient's.

    Attributes:
        loss: with the augmentation inside, for private training.
        measure: of an evaluation. timed: as `PatientGradients.timed`.
    """

    network: Network
    classes: int
    loss: PatientLoss
    privacy: PrivacyRequest
    training: LocalTraining
    augmentation: AugmentationConfig
    measure: Measure
    device: torch.device
    timed: bool

    def run(self) -> None:
        """Train and evaluate on two dummy patients; nothing is kept.

        Raises:
            ConfigError: with the step that fails and the library's own words: no patient is in them.
        """
        if self.network.frozen is not None and self.augmentation.active:
            raise ConfigError(
                "no augmentation with a network whose features are computed once, ahead of training",
                f"augmentation with model={self.network.name}",
                "choose a network that sees pixels (model=cnn, basic_unet), or leave augmentation off",
            )
        weights = self.training.class_weights
        if weights is not None and len(weights) != self.classes:
            raise ConfigError(
                f"{self.classes} class weights", f"{len(weights)}", "set training.class_weights"
            )
        dummies = self._dummies()
        private_steps = self.privacy.mode not in ("none", "client_level")
        train = self._train_private if private_steps else self._train_open
        for number in rounds_to_try(self.network):
            start = torch.from_numpy(self.network.initial.astype(np.float32)).to(self.device)
            part = part_of_round(self.network, number, start, self.training, self.privacy.l2_clip_norm)
            _tried("training", partial(train, part), dummies)
        _tried("evaluation", self._evaluate, dummies)

    def _dummies(self) -> SiteDataset:
        """One patient with one image, one with several, of the first and the last class."""
        several = max(1, min(self.privacy.images_per_patient, _MOST_IMAGES))
        shape = (1 + several, *self.network.feature_shape)
        images = torch.sin(torch.arange(math.prod(shape), dtype=torch.float32)).reshape(shape)
        each = (len(images), *self.network.label_shape)
        if self.network.learns_numbers:
            labels = torch.zeros(each)
            labels[1:].view(several, -1)[:, 0] = 1.0  # a finding, or the top of the range
        else:
            labels = torch.full(each, self.classes - 1, dtype=torch.int64)
            labels[0] = 0
        return SiteDataset(images, labels, ("dummy-1", "dummy-2"), np.array([0, 1, 1 + several]))

    def _train_private(self, part: Part, dummies: SiteDataset) -> None:
        # In the order of a real step, without its ledger: there is nothing to charge for.
        everyone, flat, loss = np.arange(dummies.number_of_patients), part.start, part.patient_loss(self.loss)
        batch = gather(dummies, everyone, self.privacy.images_per_patient, loss.augment, _entropy())
        gradients = PatientGradients(
            part.network, loss, self.privacy.engine, self.privacy.chunk, timed=self.timed
        )
        for images, labels in batch.to(self.device).by_count():
            rows = gradients.settled(flat, images).of(flat, images, labels)
            if rows.shape != (len(images), flat.numel()):
                raise ConfigError(
                    "one gradient a patient, of the parameters' length",
                    f"shape {tuple(rows.shape)}",
                    "choose another model",
                )

    def _train_open(self, part: Part, dummies: SiteDataset) -> None:
        varied = varied_once(dummies, self.augmentation, _entropy())
        train_open_part(part, varied, _entropy(), self.loss.example_loss)

    def _evaluate(self, dummies: SiteDataset) -> None:
        outputs = self.network.outputs(self.network.initial, dummies.images, self.device)
        rows = self.measure.rows(outputs, dummies.labels.numpy(), dummies.first_image)
        if (
            rows.shape != (2, math.prod(self.measure.shape))
            or (np.linalg.norm(rows, axis=1) > 1 + 1e-9).any()
        ):
            raise ConfigError(
                "one row of norm ≤ 1 a patient", f"shape {rows.shape}", "choose another model.task"
            )


def _tried(step: str, work: Callable[[SiteDataset], None], dummies: SiteDataset) -> None:
    try:
        work(dummies)
    except FedimgError:
        raise
    except Exception as fault:
        words = str(fault).strip().split("\n")[0][:200]
        raise ConfigError(
            f"{step} that a dummy patient can go through, before any budget is charged",
            f"{type(fault).__name__}: {words}",
            "choose privacy.engine=auto, or another model, loss, augmentation or device",
        ) from fault


def _entropy() -> Entropy:
    """Nothing drawn here is secret: dummies have no privacy to protect."""
    return InsecureSeededEntropy(0, "rehearsal")
