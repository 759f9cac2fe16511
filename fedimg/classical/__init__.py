"""Classical learning from sums of statistics, federated and under the same privacy as deep learning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from fedimg.classical.clusters import KMeans
from fedimg.classical.learner import Learner, open_mean, patient_rows, rounds_of
from fedimg.classical.moments import Components, Ridge
from fedimg.classical.newton import Logistic, SupportVectors
from fedimg.classical.rehearsal import rehearse
from fedimg.classical.server import LearnerServer
from fedimg.classical.trees import DecisionTree, ExtraTrees, GradientBoosting
from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, Network

MOST_VALUES = 1 << 25

__all__ = [
    "Learner",
    "LearnerServer",
    "learner_of",
    "open_mean",
    "patient_rows",
    "rehearse",
    "rounds_of",
    "update_size",
]

_LEARNERS: Mapping[str, Callable[[Network, ModelConfig], Learner]] = MappingProxyType(
    {
        "ridge": Ridge,
        "logistic": Logistic,
        "svm": SupportVectors,
        "decision_tree": DecisionTree,
        "gradient_boosting": GradientBoosting,
        "extra_trees": ExtraTrees,
        "kmeans": KMeans,
        "pca": Components,
    }
)


def learner_of(network: Network, config: ModelConfig) -> Learner | None:
    """How a network is learnt that has no gradients; None for all others.

    Raises ConfigError where a round's sum would have more values than a site should be asked to hold.
    """
    if not network.by_statistics:
        return None
    learner = _LEARNERS[config.name](network, config)
    if learner.update_size > MOST_VALUES:
        raise ConfigError(
            f"at most {MOST_VALUES} values in a round's sum of statistics",
            f"{learner.update_size} with model={config.name}",
            "lower model.classical.projected, depth, bins or trees",
        )
    return learner


def update_size(network: Network, config: ModelConfig) -> int:
    """Of what a site sends after a round: as many values as parameters, or as a learner's statistics have."""
    learner = learner_of(network, config)
    return network.number_of_parameters if learner is None else learner.update_size
