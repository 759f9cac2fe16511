"""Dummy patients go the whole way before a site joins, as in `training.rehearsal`: what fails does so before a charge."""

from __future__ import annotations

import math

import numpy as np
import torch

from fedimg import evaluation
from fedimg.classical.learner import Learner, patient_rows
from fedimg.errors import ConfigError, FedimgError
from fedimg.models import Network
from fedimg.values import SiteDataset


def rehearse(learner: Learner, network: Network, classes: int, bins: int, rounds: int) -> None:
    """Take two dummy patients' statistics in so many rounds, make a model of them, and score them.

    Raises ConfigError with the library's own words: no patient is in them.
    """
    shape = (3, *network.feature_shape)
    images = torch.sin(torch.arange(math.prod(shape), dtype=torch.float32)).reshape(shape)
    data = SiteDataset(images, torch.tensor([0, classes - 1, 0]), ("dummy-1", "dummy-2"), np.array([0, 1, 3]))
    vector = network.initial
    try:
        for number in range(1, rounds + 1):
            rows = np.concatenate(list(patient_rows(learner, vector, number, data)))
            if rows.shape != (2, learner.update_size) or not np.isfinite(rows).all():
                raise ConfigError(
                    "one finite row of statistics a patient",
                    f"shape {rows.shape}, or others",
                    "choose another model",
                )
            vector = learner.updated(vector, number, rows.sum(axis=0) / 2)
            if not np.isfinite(vector).all():
                raise ConfigError("finite parameters", "others", "raise model.classical.regularisation")
        scores = network.probabilities(vector, data.images)
        evaluation.score_histograms(scores, data.labels.numpy(), data.first_image, bins)
    except FedimgError:
        raise
    except Exception as fault:
        words = str(fault).strip().split("\n")[0][:200]
        raise ConfigError(
            "statistics that a dummy patient can go through, before any budget is charged",
            f"{type(fault).__name__}: {words}",
            "choose other values in model.classical",
        ) from fault
