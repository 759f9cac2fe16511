"""Without noise a federation learns what one hospital with all the data would, by another's program or by hand."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.tree import DecisionTreeClassifier

from fedimg.classical.histograms import Bins

SITES = pytest.mark.parametrize("sites", [1, 3, 8])
CLASSES = pytest.mark.parametrize("classes", [2, 3])
N, D = 611, 5  # not divisible by the number of sites


@SITES
@CLASSES
def test_ridge_regression_is_that_of_scikit_learn(fitted, examples, sites, classes):
    features, labels = examples(N, D, classes, 1)
    model = fitted("ridge", features, labels, sites, classes=classes, regularisation=0.02)
    twin = RidgeRegression(alpha=0.02 * N, solver="svd").fit(
        features.astype(np.float64), np.eye(classes)[labels]
    )
    assert np.abs(model["weight"] - twin.coef_).max() < 1e-8
    assert np.abs(model["bias"] - twin.intercept_).max() < 1e-8
    assert model.rounds == 1


@SITES
def test_principal_components_are_those_of_scikit_learn(fitted, examples, sites):
    features, labels = examples(N, D, 3, 2)
    features = features * np.array([3, 2, 1.5, 1, 0.5], dtype=np.float32) + 1
    model = fitted("pca", features, labels, sites, classes=3, components=3)
    exact = features.astype(np.float64)
    twin = PCA(3, svd_solver="full").fit(exact)
    signs = np.sign((model["axis"] * twin.components_).sum(axis=1))
    assert np.abs(model["axis"] - signs[:, None] * twin.components_).max() < 1e-8
    assert np.abs(model["mean"] - exact.mean(axis=0)).max() < 1e-8
    projected = (exact - exact.mean(axis=0)) @ model["axis"].T
    for k in range(3):
        assert np.abs(model["centre"][k] - projected[labels == k].mean(axis=0)).max() < 1e-8
    within = [((projected[labels == k] - model["centre"][k]) ** 2).sum() for k in range(3)]
    assert model["spread"] == pytest.approx(sum(within) / N / 3, abs=1e-8)


@SITES
def test_k_means_is_that_of_scikit_learn_from_the_same_centres(fitted, examples, sites):
    features, labels = examples(N, D, 2, 3)
    start = fitted("kmeans", features, labels, sites, rounds=1 + 1, clusters=4, least_weight=0.0)
    model = fitted("kmeans", features, labels, sites, rounds=21, clusters=4, least_weight=0.0)
    exact = features.astype(np.float64)
    # round 2 is Lloyd's first step from centres that can be computed by hand
    draws = start.network.layout.unflatten(torch.from_numpy(start.network.initial.copy()))
    first = exact.mean(axis=0) + exact.std(axis=0) * draws["centre"].numpy()
    twin = KMeans(4, init=first, n_init=1, max_iter=20, tol=0.0, algorithm="lloyd").fit(exact)
    assert np.abs(model["centre"] - twin.cluster_centers_).max() < 1e-8
    after_one = KMeans(4, init=first, n_init=1, max_iter=1, tol=0.0, algorithm="lloyd").fit(exact)
    assert np.abs(start["centre"] - after_one.cluster_centers_).max() < 1e-8


@SITES
@CLASSES
def test_logistic_regression_is_that_of_scikit_learn(fitted, examples, sites, classes):
    features, labels = examples(N, D, classes, 4)
    model = fitted("logistic", features, labels, sites, 60, classes, regularisation=0.01, radius=4.0)
    inside = np.linalg.norm(features, axis=1) < 4 * np.sqrt(D)
    assert inside.all()
    for k in [1] if classes == 2 else range(3):
        twin = LogisticRegression(C=1 / (0.01 * N), solver="newton-cholesky", tol=1e-12)
        twin.fit(features.astype(np.float64), labels == k)
        assert np.abs(model["weight"][k] - twin.coef_[0]).max() < 1e-8
        assert abs(model["bias"][k] - twin.intercept_[0]) < 1e-8


@SITES
def test_the_support_vector_machine_is_the_minimum_of_its_objective(fitted, examples, sites):
    features, labels = examples(N, D, 2, 5)
    exact, target = features.astype(np.float64), np.where(labels == 1, 1.0, -1.0)
    model = fitted("svm", features, labels, sites, 80, regularisation=0.01, radius=4.0)

    def objective(w):
        short = np.maximum(0, 1 - target * (exact @ w[:-1] + w[-1]))
        slope = -target * short
        value = 0.5 * (short**2).mean() + 0.005 * (w[:-1] ** 2).sum()
        return value, np.append(exact.T @ slope / N + 0.01 * w[:-1], slope.mean())

    found = np.append(model["weight"][1], model["bias"][1])
    assert np.abs(objective(found)[1]).max() < 1e-10
    best = minimize(objective, np.zeros(D + 1), jac=True, method="BFGS", options={"gtol": 1e-9})
    assert np.abs(found - best.x).max() < 1e-6


@SITES
@CLASSES
def test_a_decision_tree_is_one_that_is_grown_by_hand(fitted, examples, sites, classes):
    features, labels = examples(N, D, classes, 6)
    model = fitted(
        "decision_tree", features, labels, sites, classes=classes, depth=3, regularisation=1e-12, bins=12
    )
    cells = Bins.of(model.config.classical).cells(features.astype(np.float64))
    expected = np.zeros((N, classes))

    def grow(rows, depth):
        """Breiman's algorithm on the rows themselves."""
        best, cut = 0.0, None
        if depth:
            for feature in range(D):
                for cell in range(11):
                    left = rows[cells[rows, feature] <= cell]
                    right = rows[cells[rows, feature] > cell]
                    if min(len(left), len(right)) < 0.005 * N:
                        continue
                    gain = gini(rows) * len(rows) - gini(left) * len(left) - gini(right) * len(right)
                    if gain > best + 1e-9 * len(rows):
                        best, cut = gain, (left, right)
        if cut is None:
            expected[rows] = np.bincount(labels[rows], minlength=classes) / len(rows)
            return
        for side in cut:
            grow(side, depth - 1)

    def gini(rows):
        return 1 - ((np.bincount(labels[rows], minlength=classes) / max(1, len(rows))) ** 2).sum()

    grow(np.arange(N), 3)
    assert np.abs(scored(model, cells, classes) - expected).max() < 1e-8
    twin = DecisionTreeClassifier(max_depth=3, min_samples_leaf=4, random_state=0).fit(cells, labels)
    assert np.abs(twin.predict_proba(cells) - expected).max() < 1e-8


def scored(model, cells, classes):
    """The tree's leaves in float64, by walking it."""
    edges = Bins.of(model.config.classical).edges
    found = np.zeros((len(cells), classes))
    for row, cell in enumerate(cells):
        node = 0
        for _ in range(model.config.classical.depth):
            feature = int(model["split_feature"][0, node])
            right = feature >= 0 and cell[feature] > np.searchsorted(edges, model["split_value"][0, node])
            node = 2 * node + 1 + int(right)
        found[row] = model["leaf"][0, node - (2**model.config.classical.depth - 1)]
    return found


@SITES
def test_boosting_is_one_that_is_grown_by_hand_on_equal_bins(fitted, examples, sites):
    features, labels = examples(N, D, 2, 7)
    own = {"depth": 2, "trees": 4, "bins": 8, "learning_rate": 0.3, "regularisation": 0.01}
    model = fitted("gradient_boosting", features, labels, sites, **own)
    cells = Bins.of(model.config.classical).cells(features.astype(np.float64))
    share = labels.mean()
    logit = np.full(N, np.log(share / (1 - share)))
    assert model["base"][1] == pytest.approx(logit[0], abs=1e-12)
    for tree in range(4):
        p = 1 / (1 + np.exp(-logit))
        gradient, curvature, step = p - labels, p * (1 - p), np.zeros(N)

        def score(rows, gradient=gradient, curvature=curvature):
            return gradient[rows].sum() ** 2 / (curvature[rows].sum() + 0.01 * N)

        def grow(rows, depth, gradient=gradient, curvature=curvature, step=step, score=score):
            best, cut = 0.0, None
            if depth:
                for feature in range(D):
                    for cell in range(7):
                        sides = rows[cells[rows, feature] <= cell], rows[cells[rows, feature] > cell]
                        if min(curvature[side].sum() for side in sides) < 0.005 * N:
                            continue
                        gain = sum(map(score, sides)) - score(rows)
                        if gain > best + 1e-9:
                            best, cut = gain, sides
            if cut is None:
                step[rows] = -0.3 * gradient[rows].sum() / (curvature[rows].sum() + 0.01 * N)
                return
            for side in cut:
                grow(side, depth - 1)

        grow(np.arange(N), 2)
        logit = logit + step
        leaves = model["leaf"][tree][:, 1]
        assert np.abs(np.sort(np.unique(step)) - np.sort(np.unique(leaves))).max() < 1e-8
    odds = model.probabilities(features)[:, 1]
    assert np.abs(odds - 1 / (1 + np.exp(-logit))).max() < 1e-6  # the network scores in float32


def test_boosting_is_that_of_scikit_learn_on_equal_bins(fitted, examples):
    """To the float32 that it has gradients in."""
    features, labels = examples(N, D, 2, 8)
    own = {"depth": 3, "trees": 5, "bins": 10, "regularisation": 0.01, "least_weight": 0.0}
    model = fitted("gradient_boosting", features, labels, 3, **own)
    cells = Bins.of(model.config.classical).cells(features.astype(np.float64))
    twin = HistGradientBoostingClassifier(
        learning_rate=0.3,
        max_iter=5,
        max_depth=3,
        max_leaf_nodes=None,
        min_samples_leaf=1,
        l2_regularization=0.01 * N,
        early_stopping=False,
    ).fit(cells.astype(np.float64), labels)
    found = twin.predict_proba(cells.astype(np.float64))
    assert np.abs(model.probabilities(features) - found).max() < 1e-4


@SITES
@CLASSES
def test_leaves_of_random_trees_hold_the_shares_of_who_falls_into_them(fitted, examples, sites, classes):
    features, labels = examples(N, D, classes, 9)
    model = fitted(
        "extra_trees", features, labels, sites, classes=classes, trees=7, depth=3, regularisation=0.05
    )
    splits, values = model["split_feature"].astype(int), model["split_value"]
    assert np.array_equal(splits, np.round(model["split_feature"]))
    expected = np.zeros((7, 8, classes))
    for tree in range(7):
        for row, label in zip(features, labels, strict=True):
            node = 0
            for _ in range(3):
                node = 2 * node + 1 + int(row[splits[tree, node]] > values[tree, node])
            expected[tree, node - 7, label] += 1
    filled = expected / N + 0.05 / classes
    assert np.abs(model["leaf"] - filled / filled.sum(axis=2, keepdims=True)).max() < 1e-8
