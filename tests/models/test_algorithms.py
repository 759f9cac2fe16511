"""Algorithms added by others: what they may return, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedimg.aggregation import AggregationConfig, ServerOptimizer
from fedimg.errors import FederationError, MessageError
from fedimg.models.algorithms import Algorithm, AlgorithmServer
from fedimg.values import AggregatedUpdate


def _momentum():
    """FedAvgM (Hsu et al. 2019) in the form of an extension."""

    def init(parameters):
        return {"parameters": parameters, "velocity": np.zeros_like(parameters)}

    def apply(state, update):
        velocity = 0.9 * state["velocity"] + update.vector
        return {"parameters": state["parameters"] + velocity, "velocity": velocity}

    return SimpleNamespace(init=init, apply=apply)


def _updates(count):
    random = np.random.default_rng(0)
    return [AggregatedUpdate(n, random.normal(size=4), ("a", "b")) for n in range(1, count + 1)]


def _answering(state):
    return SimpleNamespace(init=lambda p: {"parameters": p}, apply=lambda s, u: state)


def test_written_as_an_extension_fedavgm_is_the_built_in_one():
    own = AlgorithmServer(_momentum(), np.ones(4))
    built_in = ServerOptimizer(AggregationConfig(name="fedavgm", momentum=0.9), np.ones(4))
    for update in _updates(5):
        own.apply(update)
        built_in.apply(update)
        assert np.allclose(own.vector, built_in.vector, atol=1e-12)
        assert np.allclose(own.released, built_in.released, atol=1e-12)


def test_a_released_average_is_what_is_evaluated():
    server = AlgorithmServer(_answering({"parameters": np.ones(4), "released": np.full(4, 0.5)}), np.zeros(4))
    server.apply(_updates(1)[0])
    assert np.array_equal(server.vector, np.ones(4))
    assert np.array_equal(server.released, np.full(4, 0.5))


def test_an_algorithm_cannot_be_changed_from_outside():
    server = AlgorithmServer(_momentum(), np.ones(4))
    server.vector[:] = 7
    server.state()["parameters"][:] = 7
    assert np.array_equal(server.vector, np.ones(4))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"velocity": np.zeros(4)}, 'expected a state with "parameters" from the algorithm; found none'),
        (
            {"parameters": np.zeros(5)},
            r"expected parameters of shape \(4,\) from the algorithm; found \(5,\)",
        ),
        ({"parameters": np.zeros(4), "released": np.zeros(1)}, r"released of shape \(4,\)"),
        (
            {"parameters": np.zeros(4), "v": np.array(np.nan)},
            "finite values in the state .* found others in v",
        ),
    ],
)
def test_a_state_that_cannot_be_used_is_refused(state, message):
    server = AlgorithmServer(_answering(state), np.zeros(4))
    with pytest.raises(FederationError, match=message):
        server.apply(_updates(1)[0])


def test_a_checkpoint_of_another_algorithm_is_refused():
    with pytest.raises(MessageError, match="expected a checkpoint of parameters, velocity; found parameters"):
        AlgorithmServer(_momentum(), np.ones(4)).restore({"parameters": torch.zeros(4)})


def test_an_object_without_apply_is_no_algorithm():
    assert isinstance(_momentum(), Algorithm)
    assert not isinstance(SimpleNamespace(init=print), Algorithm)
