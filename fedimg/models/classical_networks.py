"""How classical models score features. Their parameters come from sums of statistics (`fedimg.classical`).

A tree that is not grown yet, a cluster without members: the initial parameters of each are a model that scores.
"""

from __future__ import annotations

import torch
from torch import nn

from fedimg.errors import ConfigError
from fedimg.models.architecture import Architecture
from fedimg.models.classical_config import problems_of
from fedimg.models.classical_features import Features, frozen_features
from fedimg.models.config import ModelConfig

_LEAST_SHARE = 1e-6  # the logarithm of no share at all


class Ridge(nn.Linear):
    """Twice the scores of a regression on one-hot classes.

    Two classes' scores add up to one, so that their difference is 2p − 1; the logit of p is 4(p − ½) to first order.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch names it
        return 2 * super().forward(input)


class Forest(nn.Module):
    """Complete binary trees of one depth; (B, d) → (B, classes).

    Parameters: split_feature, split_value (trees, 2^depth − 1), the nodes in breadth-first order: left where
    x[feature] ≤ value, or where the feature is −1; leaf (trees, 2^depth, classes); base (classes,).
    """

    def __init__(self, trees: int, depth: int, classes: int, *, shares: bool) -> None:
        super().__init__()
        nodes = 2**depth - 1
        self.split_feature = nn.Parameter(torch.full((trees, nodes), -1.0))
        self.split_value = nn.Parameter(torch.zeros(trees, nodes))
        self.leaf = nn.Parameter(torch.full((trees, nodes + 1, classes), 1.0 / classes if shares else 0.0))
        self.base = nn.Parameter(torch.zeros(classes))
        self._depth, self._shares = depth, shares

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Base plus the leaves' sum; of leaves that are shares of classes the logarithm of their mean."""
        trees = torch.arange(len(self.leaf), device=features.device)
        node = torch.zeros(len(features), len(trees), dtype=torch.int64, device=features.device)
        for _ in range(self._depth):
            split = self.split_feature[trees, node].long()
            right = features.gather(1, split.clamp(min=0)) > self.split_value[trees, node]
            node = 2 * node + 1 + (right & (split >= 0))
        found = self.leaf[trees, node - self.split_value.shape[1]]
        if self._shares:
            return self.base + found.mean(dim=1).clamp(min=_LEAST_SHARE).log()
        return self.base + found.sum(dim=1)


class Clusters(nn.Module):
    """The shares of classes in the nearest cluster. Parameters: centre (clusters, d), share (clusters, classes)."""

    def __init__(self, clusters: int, size: int, classes: int) -> None:
        super().__init__()
        # Before round 1 the public draws that the first round scales to the data.
        self.centre = nn.Parameter(torch.randn(clusters, size))
        self.share = nn.Parameter(torch.full((clusters, classes), 1.0 / classes))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # ‖x‖² is the same for all clusters
        distance = self.centre.square().sum(dim=1) - 2 * features @ self.centre.T
        return self.share[distance.argmin(dim=1)].clamp(min=_LEAST_SHARE).log()


class Components(nn.Module):
    """The nearest class's mean among principal components.

    Parameters: mean (d,), axis (components, d), centre (classes, components), spread (): the variance within a
    class, the same along all axes.
    """

    def __init__(self, components: int, size: int, classes: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(size))
        self.axis = nn.Parameter(torch.zeros(components, size))
        self.centre = nn.Parameter(torch.zeros(classes, components))
        self.spread = nn.Parameter(torch.ones(()))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        projected = (features - self.mean) @ self.axis.T
        return -torch.cdist(projected, self.centre).square() / (2 * self.spread)


def ridge(config: ModelConfig) -> Architecture:
    """Hoerl and Kennard 1970, doi 10.1080/00401706.1970.10488634, on one-hot classes."""
    frozen, size = frozen_features(config)
    return _by_statistics(_zero(Ridge(size, config.classes)), frozen, size)


def logistic(config: ModelConfig) -> Architecture:
    """Logistic regression; of more than two classes, each against the rest."""
    frozen, size = frozen_features(config)
    return _by_statistics(_zero(nn.Linear(size, config.classes)), frozen, size)


def svm(config: ModelConfig) -> Architecture:
    """A support vector machine with squared hinge (L2-SVM), each class against the rest."""
    return logistic(config)


def decision_tree(config: ModelConfig) -> Architecture:
    """One tree by Gini impurity (Breiman et al. 1984), on binned features."""
    frozen, size = frozen_features(config)
    return _by_statistics(Forest(1, config.classical.depth, config.classes, shares=True), frozen, size)


def gradient_boosting(config: ModelConfig) -> Architecture:
    """Second-order boosting on histograms (Chen and Guestrin 2016, arXiv 1603.02754)."""
    frozen, size = frozen_features(config)
    own = config.classical
    trees = own.trees * problems_of(config.classes)
    return _by_statistics(Forest(trees, own.depth, config.classes, shares=False), frozen, size)


def extra_trees(config: ModelConfig) -> Architecture:
    """Trees with splits drawn at random, ahead of all data (Geurts et al. 2006, doi 10.1007/s10994-006-6226-1)."""
    frozen, size = frozen_features(config)
    own = config.classical
    forest = Forest(own.trees, own.depth, config.classes, shares=True)
    nn.init.uniform_(forest.split_value, -own.limit / 2, own.limit / 2)
    with torch.no_grad():
        forest.split_feature.copy_(torch.randint(0, size, forest.split_feature.shape))
    return _by_statistics(forest, frozen, size)


def kmeans(config: ModelConfig) -> Architecture:
    """Lloyd 1982, doi 10.1109/TIT.1982.1056489."""
    frozen, size = frozen_features(config)
    return _by_statistics(Clusters(config.classical.clusters, size, config.classes), frozen, size)


def pca(config: ModelConfig) -> Architecture:
    """Principal components (Pearson 1901), with the nearest class mean among them."""
    frozen, size = frozen_features(config)
    own = config.classical
    if own.components > size:
        raise ConfigError(
            f"model.classical.components up to the {size} features", str(own.components), "lower it"
        )
    return _by_statistics(Components(own.components, size, config.classes), frozen, size)


def _zero(head: nn.Linear) -> nn.Linear:
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _by_statistics(module: nn.Module, frozen: Features, size: int) -> Architecture:
    return Architecture(module, frozen, (size,), by_statistics=True)
