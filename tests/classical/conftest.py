"""Classical learners on made-up features: pixels of images of one row, as they are."""

import numpy as np
import pytest
import torch

from fedimg.classical import LearnerServer, learner_of, open_mean, rounds_of
from fedimg.models import ModelConfig, build_model
from fedimg.models.classical_config import ClassicalConfig
from fedimg.values import AggregatedUpdate, SiteDataset


class Fitted:
    """A model that was learnt over so many sites, in the rounds that it takes."""

    def __init__(self, name, features, labels, sites=1, rounds=12, classes=2, noise=0.0, **own):
        settings = {"features": "pixels", "projected": 0, "radius": 100.0} | own
        self.config = ModelConfig(
            name=name,
            classes=classes,
            image_size=(1, features.shape[1]),
            classical=ClassicalConfig(**settings),
        )
        self.network = build_model(self.config, 0)
        self.learner = learner_of(self.network, self.config)
        self.server = LearnerServer(self.learner, self.network.initial)
        least, most = rounds_of(self.config)
        self.rounds = most or max(least, rounds)
        chance = np.random.default_rng(0)
        parts = np.array_split(np.arange(len(labels)), sites)
        for number in range(1, self.rounds + 1):
            means = [
                open_mean(
                    self.learner,
                    self.server.vector,
                    number,
                    dataset(features[own_part], labels[own_part]),
                    len(own_part),
                )
                for own_part in parts
            ]
            mean = np.average(means, axis=0, weights=[len(part) for part in parts])
            mean += noise * chance.normal(size=mean.shape) / len(labels)
            self.server.apply(AggregatedUpdate(number, mean, ()))

    def __getitem__(self, name):
        """Parameters by name, float64 as the coordinator has them."""
        flat = torch.from_numpy(self.server.vector)
        return self.network.layout.unflatten(flat)[name].numpy()

    def probabilities(self, features):
        return self.network.probabilities(self.server.vector, torch.from_numpy(features))


def dataset(features, labels, images_of_each=None):
    """A site's examples: one image a patient, unless their numbers are given."""
    counts = np.ones(len(labels), dtype=np.int64) if images_of_each is None else np.asarray(images_of_each)
    return SiteDataset(
        torch.from_numpy(np.asarray(features, dtype=np.float32)),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        tuple(f"{number:05d}" for number in range(len(counts))),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def made_up(patients, size, classes, seed):
    """Overlapping classes, told apart by a few directions; float32, as features are."""
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(patients, size)).astype(np.float32)
    scores = features @ chance.normal(size=(size, classes)) + 1.5 * chance.normal(size=(patients, classes))
    return features, scores.argmax(axis=1)


@pytest.fixture
def fitted():
    return Fitted


@pytest.fixture
def examples():
    return made_up


@pytest.fixture
def site():
    return dataset
