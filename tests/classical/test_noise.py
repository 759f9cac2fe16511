"""How far noise moves eigenvalues is read off what was released; regression rests on what stands above it."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedimg.classical import moments, newton
from fedimg.classical.moments import noise_of, packed, unpacked


def symmetric_noise(size, std, seed):
    """Off the diagonal of deviation `std`, on it √2 times that."""
    square = np.random.default_rng(seed).normal(scale=std, size=(size, size))
    return (square + square.T) / np.sqrt(2)


@pytest.mark.parametrize("std", [0.01, 3.0])
def test_of_noise_alone_it_is_the_edge_of_the_semicircle(std):
    """Wigner: eigenvalues end at 2·std·√m; at m = 200 the lowest is within a tenth of it."""
    found = [noise_of(symmetric_noise(201, std, seed)) for seed in range(5)]
    assert np.mean(found) == pytest.approx(2 * std * np.sqrt(200), rel=0.1)


def test_of_moments_without_noise_it_is_rounding(examples):
    features, _ = examples(50, 20, 2, 1)
    x = np.concatenate([features.astype(np.float64), np.ones((50, 1))], axis=1)
    assert noise_of(x.T @ x / 50) < 1e-12
    assert noise_of(x[:5].T @ x[:5] / 5) < 1e-12  # fewer patients than features


def test_packing_keeps_the_norm_and_comes_back():
    matrix = symmetric_noise(7, 1.0, 2)
    row = packed(matrix[None])[0]
    assert row.shape == (28,)
    assert np.linalg.norm(row) == pytest.approx(np.linalg.norm(matrix))
    assert np.abs(unpacked(row, 7) - matrix).max() < 1e-15


@pytest.mark.parametrize("name", ["ridge", "logistic", "svm"])
def test_a_noised_regression_rests_on_what_stands_above_the_noise(name, fitted, examples, monkeypatch):
    """With λ as asked for alone ridge follows directions of no variance, which noise has made up; Newton's short steps
    keep the others from it.
    """
    features, labels = examples(4000, 40, 2, 3)
    features[:, 20:] *= 0.02  # as images have: most of their variance is in some directions

    def auroc():
        model = fitted(name, features, labels, rounds=4, noise=1.0, radius=1.2)
        return roc_auc_score(labels, model.probabilities(features)[:, 1])

    raised = auroc()
    monkeypatch.setattr(moments, "noise_of", lambda _matrix: 0.0)
    monkeypatch.setattr(newton, "noise_of", lambda _matrix: 0.0)
    assert raised > 0.72  # 0.8 without noise: what was shrunk is lost in both
    if name == "ridge":
        assert auroc() < raised - 0.02
