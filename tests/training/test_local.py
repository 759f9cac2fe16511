"""The local step against torch.optim, and what a round of open training promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedimg.errors import ConfigError
from fedimg.training import Batch, LocalTraining, State, local_step, minibatches, permutation, train_open


def trained_by_torch(module, dataset, config, entropy):
    """The same round with an ordinary module, autograd and torch.optim.SGD."""
    start = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=config.learning_rate, momentum=config.momentum)
    factors = torch.tensor(config.class_weights or [1.0, 1.0, 1.0])
    for indices in minibatches(dataset, config, entropy):
        optimizer.zero_grad()
        labels = dataset.labels[indices]
        losses = nn.functional.cross_entropy(module(dataset.images[indices]), labels, reduction="none")
        distance = nn.utils.parameters_to_vector(module.parameters()) - start
        ((losses * factors[labels]).mean() + 0.5 * config.proximal_mu * distance.square().sum()).backward()
        if config.gradient_norm:
            nn.utils.clip_grad_norm_(module.parameters(), config.gradient_norm)
        optimizer.step()
    return nn.utils.parameters_to_vector(module.parameters()).detach()


@pytest.mark.parametrize(
    "config",
    [
        LocalTraining(batch_size=4, learning_rate=0.2),
        LocalTraining(batch_size=5, local_epochs=3, momentum=0.9, learning_rate=0.05),
        LocalTraining(batch_size=4, local_epochs=2, proximal_mu=0.5),
        LocalTraining(batch_size=7, images_per_patient=2, class_weights=(0.5, 1.0, 3.0)),
        LocalTraining(batch_size=4, local_epochs=3, momentum=0.9, gradient_norm=0.2),
    ],
    ids=["sgd", "momentum", "fedprox", "weighted", "bounded"],
)
def test_a_round_equals_torch_optim(config, network, site, seeded, small_module):
    dataset = site((3, 1, 5, 2))
    start = network.initial.clone()
    ours = train_open(network, start, dataset, config, seeded(1))
    theirs = trained_by_torch(small_module(), dataset, config, seeded(1))
    assert float((ours - theirs).abs().max()) < 1e-6
    assert float((ours - start).abs().max()) > 1e-3
    assert torch.equal(start, network.initial)
    if config.gradient_norm:  # it was longer somewhere
        longer = train_open(network, start, dataset, replace(config, gradient_norm=0.0), seeded(1))
        assert float((ours - longer).abs().max()) > 1e-3


def test_padding_has_no_influence_and_a_batch_of_padding_changes_nothing(network, site):
    dataset = site((4,))
    config = LocalTraining(momentum=0.9, proximal_mu=0.3)
    generator = torch.Generator().manual_seed(3)
    state = State(network.initial, torch.randn(network.number_of_parameters, generator=generator))
    anchor = network.initial + 1
    real = Batch(dataset.images, dataset.labels, torch.ones(4))
    padded = Batch(
        torch.cat([dataset.images, torch.full((2, 1, 16, 16), 9.0)]),
        torch.cat([dataset.labels, torch.tensor([0, 2])]),
        torch.tensor([1.0, 1, 1, 1, 0, 0]),
    )
    for plain, with_padding in zip(
        local_step(network, state, real, anchor, config),
        local_step(network, state, padded, anchor, config),
        strict=True,
    ):
        torch.testing.assert_close(plain, with_padding, rtol=0, atol=1e-6)
    still = local_step(network, state, real._replace(weights=torch.zeros(4)), anchor, config)
    assert torch.equal(still.params, state.params)
    assert torch.equal(still.velocity, state.velocity)


def test_a_site_without_images_sends_the_global_model_back(network, site, seeded):
    trained = train_open(network, network.initial, site(()), LocalTraining(), seeded(0))
    assert torch.equal(trained, network.initial)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.integers(0, 4),
    st.integers(1, 7),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_an_epoch_visits_every_patient_and_no_image_twice(site, seeded, patients, limit, batch_size, seed):
    dataset = site(tuple(patients), size=1)
    config = LocalTraining(batch_size=batch_size, images_per_patient=limit, local_epochs=2)
    batches = list(minibatches(dataset, config, seeded(seed)))
    per_epoch = sum(min(n, limit or n) for n in patients)
    visited = np.concatenate(batches)
    assert len(visited) == 2 * per_epoch
    for epoch in (visited[:per_epoch], visited[per_epoch:]):
        assert len(set(epoch)) == per_epoch
        owner = np.searchsorted(dataset.first_image, epoch, side="right") - 1
        assert np.bincount(owner, minlength=len(patients)).tolist() == [min(n, limit or n) for n in patients]
    assert all(len(b) <= batch_size for b in batches)


def test_the_shuffle_is_uniform_over_orders(seeded):
    counts: dict[tuple[int, ...], int] = {}
    entropy = seeded(7)
    for _ in range(6000):
        order = tuple(permutation(3, entropy))
        counts[order] = counts.get(order, 0) + 1
    # χ² with 5 degrees of freedom: 20.5 is exceeded with probability 0.001; the seed is fixed.
    assert len(counts) == 6
    assert sum((c - 1000) ** 2 / 1000 for c in counts.values()) < 20.5


def test_another_entropy_gives_another_order(seeded):
    assert permutation(50, seeded(1)).tolist() != permutation(50, seeded(2)).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"learning_rate": 0.0},
            "expected training.learning_rate to be a positive number; found 0.0; correct training.learning_rate",
        ),
        (
            {"momentum": 1.0},
            "expected training.momentum to be a number in [0, 1); found 1.0; correct training.momentum",
        ),
        (
            {"optimizer": "adam"},
            "expected training.optimizer to be sgd; found adam; correct training.optimizer",
        ),
        (
            {"gradient_norm": float("nan")},
            "expected training.gradient_norm to be a number ≥ 0; found nan; correct training.gradient_norm",
        ),
        (
            {"batch_size": 0},
            "expected training.batch_size to be an integer ≥ 1; found 0; correct training.batch_size",
        ),
        (
            {"class_weights": (1.0, -1.0)},
            "expected training.class_weights to be a positive number for each class; found (1.0, -1.0); correct training.class_weights",
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError) as refused:
        replace(LocalTraining(), **changes)
    assert str(refused.value) == message
