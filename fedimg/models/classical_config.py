"""What the networks that are learnt from sums of statistics have to be told: public, fixed before round 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedimg.errors import ConfigError

CLASSICAL = frozenset(
    {
        "ridge",
        "logistic",
        "svm",
        "decision_tree",
        "gradient_boosting",
        "extra_trees",
        "kmeans",
        "pca",
    }
)
"""Networks of `fedimg.classical`: a round releases sums of statistics in place of gradients."""


@dataclass(frozen=True, slots=True)
class ClassicalConfig:
    """Attributes:
    features: what is computed of an image: "scattering", "radiomics" (`radiomic_features`), or its "pixels".
    projected: d, to how many numbers a public random rotation brings them down; 0 takes all.
    kernel: "linear", or "rbf": `kernel_features` random Fourier features of width `gamma` stand for it.
    radius: in units of √d, which is about how long features are: one that is longer counts as one of this length.
        Noise counts in these units too, so that too large a radius costs accuracy under privacy.
    regularisation: λ per declared patient: of squared weights, of a leaf's hessian; or the pseudo-counts that a
        leaf or a cluster is filled up with.
    bins, limit: of the trees' histograms: so many equal bins of [−limit, limit].
    trees, depth: of an ensemble; `decision_tree` is one tree. learning_rate: a boosted tree's shrinkage.
    features_per_tree: that a public draw leaves to each tree; 0: all.
    least_weight: under so many declared patients' weight (`gradient_boosting`: their hessian) nothing is split
        off, in parts of all of them.
    clusters: of `kmeans`. components: of `pca`.
    """

    features: Literal["scattering", "radiomics", "pixels"] = "scattering"
    projected: int = 32
    kernel: Literal["linear", "rbf"] = "linear"
    kernel_features: int = 128
    gamma: float = 0.01
    radius: float = 1.0
    regularisation: float = 1e-3
    bins: int = 16
    limit: float = 3.0
    trees: int = 10
    depth: int = 3
    learning_rate: float = 0.3
    features_per_tree: int = 0
    least_weight: float = 0.005
    clusters: int = 8
    components: int = 8

    def __post_init__(self) -> None:
        for key, choices in (
            ("features", ("scattering", "radiomics", "pixels")),
            ("kernel", ("linear", "rbf")),
        ):
            if getattr(self, key) not in choices:
                _refuse(key, " or ".join(choices), getattr(self, key))
        for key, least, most in (
            ("projected", 0, 4096),
            ("kernel_features", 1, 4096),
            ("bins", 2, 256),
            ("trees", 1, 1000),
            ("depth", 1, 12),
            ("features_per_tree", 0, 4096),
            ("clusters", 1, 1000),
            ("components", 1, 4096),
        ):
            if not least <= getattr(self, key) <= most:
                _refuse(key, f"between {least} and {most}", getattr(self, key))
        for key in ("gamma", "radius", "regularisation", "limit", "learning_rate"):
            if not 0 < getattr(self, key) < math.inf:
                _refuse(key, "a positive number", getattr(self, key))
        if not 0 <= self.least_weight < 1:
            _refuse("least_weight", "in [0, 1)", self.least_weight)


def problems_of(classes: int) -> int:
    """How many questions of yes or no tell classes apart: of two one, of more each against the rest."""
    return 1 if classes == 2 else classes


def _refuse(key: str, expected: str, found: object) -> None:
    raise ConfigError(f"model.classical.{key} {expected}", str(found), f"set model.classical.{key}")
