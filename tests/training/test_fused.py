"""Fused training is the loop's training: for any sizes, and for every operator swapped in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fedimg.models.build import build_model
from fedimg.models.config import ModelConfig
from fedimg.training import FusedTraining, LocalTraining, train_open, train_open_fused
from fedimg.training.fused_operators import fused_operators
from fedimg.values import SiteDataset


def both_ways(network, site, seeded, sizes, config):
    datasets = [site((1,) * n, seed=k) for k, n in enumerate(sizes)]
    loop = [
        train_open(network, network.initial, dataset, config, seeded(k)) for k, dataset in enumerate(datasets)
    ]
    entropies = [seeded(k) for k in range(len(sizes))]
    return torch.stack(loop), train_open_fused(network, network.initial, datasets, config, entropies)


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    batch_size=st.integers(1, 6),
    momentum=st.sampled_from([0.0, 0.9]),
    proximal_mu=st.sampled_from([0.0, 0.2]),
    chunk=st.integers(1, 4),
)
@settings(max_examples=15, deadline=None)
def test_fused_equals_the_loop(network, site, seeded, sizes, batch_size, momentum, proximal_mu, chunk):
    config = LocalTraining(
        batch_size=batch_size,
        local_epochs=2,
        momentum=momentum,
        proximal_mu=proximal_mu,
        learning_rate=0.01,
        chunk=chunk,
    )
    loop, fused = both_ways(network, site, seeded, sizes, config)
    assert float((loop - fused).abs().max()) < 1e-6


def test_empty_clients_keep_the_global_model_exactly(network, site, seeded):
    entropies = [seeded(0), seeded(1)]
    for datasets in ([site(()), site((1, 1))], [site(()), site(())]):
        trained = train_open_fused(network, network.initial, datasets, LocalTraining(momentum=0.5), entropies)
        assert torch.equal(trained[0], network.initial)
    assert train_open_fused(network, network.initial, [], LocalTraining(), []).shape == (
        0,
        network.initial.numel(),
    )


def test_a_client_that_diverges_does_not_reach_its_neighbours(network, site, seeded):
    datasets = [site((1,) * 6, seed=k) for k in range(3)]
    datasets[0].images.fill_(float("nan"))
    datasets = [datasets[0], datasets[1].of_patients(torch.arange(3).numpy()), datasets[2]]
    config = LocalTraining(batch_size=2)
    fused = train_open_fused(network, network.initial, datasets, config, [seeded(k) for k in range(3)])
    assert not fused[0].isfinite().all()
    for k in (1, 2):
        alone = train_open(network, network.initial, datasets[k], config, seeded(k))
        assert float((fused[k] - alone).abs().max()) < 1e-6


def test_a_traced_step_gives_the_same_values(network, site, seeded):
    """Enough chunks of one shape that the later ones run traced, against the loop."""
    config = LocalTraining(batch_size=3, chunk=2, learning_rate=0.05)
    training = FusedTraining(network, config)
    datasets = [site((1,) * 6, seed=k) for k in range(30)]
    fused = training.train(network.initial, datasets, [seeded(k) for k in range(30)])
    assert len(training._traced) == 2  # from the global model, and from each client's own
    again = training.train(network.initial + 0.5, datasets, [seeded(k) for k in range(30)])
    for start, trained in ((network.initial, fused), (network.initial + 0.5, again)):
        for k in (0, 29):
            alone = train_open(network, start, datasets[k], config, seeded(k))
            assert float((trained[k] - alone).abs().max()) < 1e-6


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(name="cnn", image_size=(16, 16), width=4),
        ModelConfig(name="cnn", dimensions=3, image_size=(8, 8, 8), width=2),
        ModelConfig(name="segresnet", image_size=(8, 8), width=8),
    ],
    ids=["cnn", "cnn, volumes", "segresnet"],
)
def test_shipped_networks_can_be_fused(config, seeded):
    """Their operators (normalisation, in-place residuals, 3-D) meet the layout that fusion leaves."""
    network = build_model(config, 0)
    params = torch.from_numpy(network.initial.astype(np.float32))
    generator = torch.Generator().manual_seed(0)
    first = np.arange(5)
    datasets = [
        SiteDataset(
            torch.randn(4, 1, *config.image_size, generator=generator),
            torch.tensor([0, 1, 1, 0]),
            ("a", "b", "c", "d"),
            first,
        )
        for _ in range(2)
    ]
    training = LocalTraining(batch_size=2, learning_rate=0.01)
    fused = train_open_fused(network, params, datasets, training, [seeded(0), seeded(1)])
    for k, dataset in enumerate(datasets):
        alone = train_open(network, params, dataset, training, seeded(k))
        assert float((fused[k] - alone).abs().max()) < 1e-6
        assert float((alone - params).abs().max()) > 1e-4


class Strided(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.max_pool2d(images, (3, 2), stride=(2, 1), padding=1)


class Reused(nn.Module):
    """The rectified values are pooled and also used as they are; many windows hold nothing positive."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rectified = torch.relu(images - 1)
        return nn.functional.max_pool2d(rectified, 3) + rectified[..., 2::3, 2::3].square()


OPERATORS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "strided, without bias": nn.Conv2d(4, 6, (3, 5), stride=2, padding=(1, 2), bias=False),
    "dilated": nn.Conv2d(4, 6, 3, dilation=2),
    "grouped": nn.Conv2d(4, 6, 3, groups=2),
    "same": nn.Conv2d(4, 6, 3, padding="same"),
    "pooling": nn.MaxPool2d(2),
    "pooling, odd size": nn.MaxPool2d(3, stride=2),
    "pooling, overlapping": Strided(),
    "pooling, ceiling": nn.MaxPool2d(2, ceil_mode=True),
    "rectified pooling": nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)),
    "rectified pooling, ceiling": nn.Sequential(
        nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)
    ),
    "rectified and reused": Reused(),
}


@pytest.mark.parametrize("name", list(OPERATORS))
@pytest.mark.parametrize("shared", ["nothing", "images", "weights"])
def test_a_swapped_operator_has_the_values_and_gradients_of_its_own(name, shared):
    """Per-client gradients of images and weights against one ordinary autograd call a client."""
    operator, clients = OPERATORS[name], 3
    if shared == "images" and not list(operator.parameters()):
        pytest.skip("an operator without weights has nothing of its own for each client")
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(clients, 2, 4, 9, 9, generator=generator)
    weights = {n: torch.randn(clients, *p.shape, generator=generator) for n, p in operator.named_parameters()}
    if shared == "images":
        images = images[:1].expand(clients, -1, -1, -1, -1)
    if shared == "weights":
        weights = {n: w[:1].expand(clients, *w.shape[1:]) for n, w in weights.items()}

    def value(weights, images):
        output = torch.func.functional_call(operator, weights, (images,))
        return (
            output * torch.sin(torch.arange(output.numel(), dtype=torch.float32)).view(output.shape)
        ).sum()

    gradients = torch.func.grad(value, argnums=(0, 1))
    dims = (None if shared == "weights" else 0, None if shared == "images" else 0)
    given_weights = {n: w[0] for n, w in weights.items()} if shared == "weights" else weights
    given_images = images[0] if shared == "images" else images
    with fused_operators(torch.device("cpu")):
        for_weights, for_images = torch.func.vmap(gradients, in_dims=dims)(given_weights, given_images)
    for k in range(clients):
        alone_weights, alone_images = gradients({n: w[k] for n, w in weights.items()}, images[k])
        torch.testing.assert_close(for_images[k], alone_images, rtol=1e-5, atol=1e-5)
        for n in weights:
            torch.testing.assert_close(for_weights[n][k], alone_weights[n], rtol=1e-5, atol=1e-4)
