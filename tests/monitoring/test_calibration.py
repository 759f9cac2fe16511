"""Temperature scaling against torch's own minimiser, over sites, and of released histograms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.evaluation import score_histograms
from fedimg.monitoring import calibration


def drawn(n, classes, temperature, seed=None):
    """Logits whose probabilities are right once they are divided by `temperature`."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2.0, (n, classes))
    p = calibration.calibrated(logits, 1.0)
    labels = (generator.random(n)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return logits * temperature, labels


def by_torch(logits, labels):
    """LBFGS on the negative log-likelihood, as in the paper's own code."""
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    z, y = torch.tensor(logits), torch.tensor(labels)
    search = torch.optim.LBFGS([log_t], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        search.zero_grad()
        found = torch.nn.functional.cross_entropy(z / log_t.exp(), y)
        found.backward()
        return found

    search.step(closure)
    return float(log_t.detach().exp())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_it_is_the_minimum(classes, temperature):
    logits, labels = drawn(800, classes, temperature)
    found = calibration.of_examples(logits, labels, bootstrap=20)
    assert found.value.value == pytest.approx(by_torch(logits, labels), rel=1e-4)
    assert found.value.low <= found.value.value <= found.value.high
    assert not found.bounded
    best = calibration.loss(logits, labels, found.value.value)
    assert all(best < calibration.loss(logits, labels, found.value.value * off) for off in (0.9, 1.1))


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(2, 4), st.integers(0, 2**31))
def test_sites_that_add_up_find_the_pooled_temperature(sites, classes, seed):
    logits, labels = drawn(300, classes, 2.0, seed)
    shares = np.array_split(np.arange(300), sites)
    summed, _ = calibration.fitted(
        lambda s: np.sum([calibration.sums(logits[own], labels[own], s) for own in shares], axis=0)
    )
    pooled, _ = calibration.fitted(lambda s: calibration.sums(logits, labels, s))
    assert summed == pytest.approx(pooled, rel=1e-9)


def test_the_derivatives_are_those_of_the_loss():
    logits, labels = drawn(60, 3, 1.0)
    step, s = 1e-5, 0.7
    count, slope, curvature = calibration.sums(logits, labels, s)
    total = [60 * calibration.loss(logits, labels, 1 / (s + k * step)) for k in (-1, 0, 1)]
    assert count == 60
    assert slope == pytest.approx((total[2] - total[0]) / (2 * step), rel=1e-6)
    assert curvature == pytest.approx((total[2] - 2 * total[1] + total[0]) / step**2, rel=1e-3)


@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_released_histograms_find_nearly_the_same(temperature):
    logits, labels = drawn(20_000, 2, temperature)
    p = calibration.calibrated(logits, 1.0)
    table = score_histograms(p, labels, np.arange(20_001), 20).sum(axis=0).reshape(2, 20)
    exact = calibration.of_examples(logits, labels, bootstrap=0).value.value
    found = calibration.of_histograms(table, 0.0, bootstrap=20)
    # a bin's middle stands for all of its scores, and the outer bins are open
    assert found.value.value == pytest.approx(exact, rel=0.12)


def test_noise_widens_the_interval_and_does_not_bias():
    logits, labels = drawn(4000, 2, 1.5)
    p = calibration.calibrated(logits, 1.0)
    table = score_histograms(p, labels, np.arange(4001), 20).sum(axis=0).reshape(2, 20)
    plain = calibration.of_histograms(table, 0.0, bootstrap=50)
    generator, sigma = np.random.default_rng(), 10.0
    noisy = [
        calibration.of_histograms(table + sigma * generator.standard_normal(table.shape), sigma, bootstrap=50)
        for _ in range(60)
    ]
    values = np.array([one.value.value for one in noisy])
    assert abs(values.mean() - plain.value.value) < 4 * values.std() / np.sqrt(60) + 0.02
    widths = [one.value.high - one.value.low for one in noisy]
    assert np.median(widths) > plain.value.high - plain.value.low
    covered = np.mean([one.value.low <= plain.value.value <= one.value.high for one in noisy])
    assert covered > 0.85


def test_scores_that_separate_have_no_temperature():
    logits = np.array([[3.0, -3.0]] * 5 + [[-3.0, 3.0]] * 5)
    found = calibration.of_examples(logits, np.repeat([0, 1], 5), bootstrap=5)
    assert (found.value.value, found.bounded) == (calibration.LEAST, True)
    wrong = calibration.of_examples(logits, np.repeat([1, 0], 5), bootstrap=5)
    assert (wrong.value.value, wrong.bounded) == (calibration.MOST, True)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        ([[1.0, np.nan]], [0]),
        ([[1.0, 2.0]], [2]),
        ([[1.0, 2.0]], [-1]),
        ([[1.0]], [0]),
        ([[1.0, 2.0]], [0, 1]),
    ],
)
def test_what_cannot_be_used_is_refused(logits, labels):
    with pytest.raises(DataError):
        calibration.of_examples(logits, labels)


def test_without_examples_there_is_nothing_to_calibrate_on():
    with pytest.raises(DataError, match="held-out examples"):
        calibration.of_examples(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(DataError, match="through the noise"):
        calibration.of_histograms(np.full((2, 20), 0.5), 10.0)
