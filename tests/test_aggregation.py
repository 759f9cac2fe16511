"""Station 7: the mean equals the plain sum; the optimisers equal their papers' recursions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedimg.aggregation import AggregationConfig, ServerOptimizer, weighted_mean
from fedimg.errors import ConfigError, FederationError, MessageError
from fedimg.values import AggregatedUpdate, NoisedUpdate


def update(site: str, values: list[float], round_number: int = 1) -> NoisedUpdate:
    return NoisedUpdate(site, round_number, "update", np.array(values, dtype=np.float64), ("r",))


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(-10, 10), st.floats(0.1, 100)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_mean_equals_the_plain_sum_in_any_order(
    rows: list[tuple[float, float, float]], random: object
) -> None:
    updates = [update(f"site-{i}", [a, b]) for i, (a, b, _) in enumerate(rows)]
    weights = {f"site-{i}": w for i, (_, _, w) in enumerate(rows)}
    expected = np.average([[a, b] for a, b, _ in rows], axis=0, weights=[w for *_, w in rows])
    result = weighted_mean(updates, weights, 2)
    assert np.allclose(result.vector, expected, rtol=1e-12, atol=1e-12)
    assert np.array_equal(weighted_mean(updates[::-1], weights, 2).vector, result.vector)


def test_nobody_answering_is_an_error_and_not_an_empty_round() -> None:
    with pytest.raises(FederationError, match="at least one site's update; found none"):
        weighted_mean([], {"a": 1.0}, 2)


@pytest.mark.parametrize(
    "updates",
    [
        [update("a", [1, 2]), update("a", [1, 2])],
        [update("a", [1, 2]), update("stranger", [1, 2])],
        [update("a", [1, 2]), update("b", [1, 2], round_number=2)],
        [update("a", [1, 2, 3])],
    ],
)
def test_what_is_not_one_update_a_site_is_refused(updates: list[NoisedUpdate]) -> None:
    with pytest.raises(MessageError):
        weighted_mean(updates, {"a": 1.0, "b": 1.0}, 2)


def test_fedavg_moves_by_the_mean_update() -> None:
    server = ServerOptimizer(AggregationConfig(), np.array([1.0, 2.0]))
    server.apply(AggregatedUpdate(1, np.array([0.5, -1.0]), ("a",)))
    assert np.allclose(server.vector, [1.5, 1.0])


def test_fedavgm_is_the_heavy_ball_recursion() -> None:
    server = ServerOptimizer(AggregationConfig("fedavgm", learning_rate=0.5, momentum=0.9), np.zeros(2))
    position, velocity = np.zeros(2), np.zeros(2)
    for round_number in range(1, 6):
        step = np.array([round_number, -1.0])
        server.apply(AggregatedUpdate(round_number, step, ("a",)))
        velocity = 0.9 * velocity + step
        position = position + 0.5 * velocity
    assert np.allclose(server.vector, position)


def test_fedadam_is_algorithm_2_with_bias_correction() -> None:
    config = AggregationConfig("fedadam", learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3)
    server = ServerOptimizer(config, np.zeros(1))
    x, m, v = 0.0, 0.0, 0.0
    for t in range(1, 6):
        delta = 0.3 * t
        server.apply(AggregatedUpdate(t, np.array([delta]), ("a",)))
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        x += 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-3)
    assert np.allclose(server.vector, [x])


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam"])
def test_restored_state_continues_bit_for_bit(name: str) -> None:
    config = AggregationConfig(name, ema=0.5)  # type: ignore[arg-type]
    steps = [AggregatedUpdate(t, np.array([0.1 * t, -0.2]), ("a",)) for t in range(1, 7)]
    unbroken = ServerOptimizer(config, np.zeros(2))
    broken = ServerOptimizer(config, np.zeros(2))
    for step in steps:
        unbroken.apply(step)
    for step in steps[:3]:
        broken.apply(step)
    resumed = ServerOptimizer(config, np.ones(2))
    resumed.restore(broken.state())
    for step in steps[3:]:
        resumed.apply(step)
    assert np.array_equal(resumed.vector, unbroken.vector)
    assert np.array_equal(resumed.released, unbroken.released)


@given(
    ema=st.floats(0.01, 0.99),
    steps=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
)
def test_the_released_model_is_the_debiased_average_of_all_rounds(ema: float, steps: list[float]) -> None:
    server = ServerOptimizer(AggregationConfig("fedavg", ema=ema), np.full(1, 100.0))
    models = []
    for number, step in enumerate(steps, start=1):
        server.apply(AggregatedUpdate(number, np.array([step]), ("a",)))
        models.append(float(server.vector[0]))
    weights = np.array([ema ** (len(models) - i) for i in range(1, len(models) + 1)])
    assert np.allclose(server.released, [(weights * models).sum() / weights.sum()], atol=1e-9)


def test_without_averaging_the_newest_model_is_released() -> None:
    server = ServerOptimizer(AggregationConfig("fedavg", ema=0.0), np.zeros(1))
    for number in (1, 2):
        server.apply(AggregatedUpdate(number, np.array([0.3]), ("a",)))
    assert np.array_equal(server.released, server.vector)


@pytest.mark.parametrize(
    ("key", "value"), [("ema", 1.0), ("momentum", -0.1), ("learning_rate", 0.0), ("beta2", 1.5)]
)
def test_a_setting_that_cannot_work_is_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"aggregation.{key} to be .*; found {value}"):
        AggregationConfig(**{key: value})


def test_a_checkpoint_of_another_model_is_refused() -> None:
    server = ServerOptimizer(AggregationConfig(), np.zeros(2))
    with pytest.raises(MessageError, match="a checkpoint of 2 parameters; found 3"):
        server.restore({"parameters": torch.zeros(3), "average": torch.zeros(3)})


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadam"])
def test_the_first_stages_are_taken_as_they_are_and_the_optimiser_begins_behind_them(name: str) -> None:
    config = AggregationConfig(name, learning_rate=0.5, ema=0.5)  # type: ignore[arg-type]
    centred = ServerOptimizer(config, np.zeros(2), (2, 3))
    for number, moved in ((1, 0.0), (2, 6.0), (3, 9.0)):
        before = centred
        centred = ServerOptimizer(config, np.zeros(2), (2, 3))
        centred.restore(before.state())  # what waits is in the checkpoint
        centred.apply(AggregatedUpdate(number, np.array([0.0, 3.0]), ("a",)))
        assert np.allclose(centred.vector, [0.0, moved])
        assert np.allclose(centred.released, centred.vector)
    usual = ServerOptimizer(config, np.array([0.0, 9.0]))
    for number in (1, 2, 3):
        step = np.array([0.1 * number, 0.0])
        usual.apply(AggregatedUpdate(number, step, ("a",)))
        centred.apply(AggregatedUpdate(number + 3, step, ("a",)))
        assert np.array_equal(centred.vector, usual.vector)
        assert np.array_equal(centred.released, usual.released)
