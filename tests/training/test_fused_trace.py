"""A traced step is the step: bit for bit, on other values than those it was traced with."""

from __future__ import annotations

import pytest
import torch

from fedimg.training import Batch, LocalTraining, State, local_step
from fedimg.training.fused_layout import rows_beside_channels
from fedimg.training.fused_operators import fused_operators
from fedimg.training.fused_trace import signature, traced

CLIENTS, IMAGES = 3, 4
CONFIGS = {
    "sgd": LocalTraining(),
    "momentum": LocalTraining(momentum=0.9),
    "fedprox": LocalTraining(proximal_mu=0.3),
    "weighted": LocalTraining(momentum=0.5, proximal_mu=0.1, class_weights=(0.5, 1.0, 3.0)),
}


def arguments(network, seed, *, shared):
    """(state, batch, anchor) of one fused step; `shared` clients still have the global model."""
    generator = torch.Generator().manual_seed(seed)
    anchor = torch.randn(network.number_of_parameters, generator=generator) / 4
    shape = anchor.shape if shared else (CLIENTS, *anchor.shape)
    state = State(torch.randn(shape, generator=generator) / 4, torch.randn(shape, generator=generator))
    index = torch.arange(CLIENTS * IMAGES).view(CLIENTS, IMAGES)
    images = torch.randn(CLIENTS * IMAGES, 1, 16, 16, generator=generator)
    labels = torch.randint(0, 3, (CLIENTS, IMAGES), generator=generator)
    weights = (torch.rand(CLIENTS, IMAGES, generator=generator) < 0.7).float()
    weights[0] = 0
    return state, Batch(rows_beside_channels(images, index), labels, weights), anchor


@pytest.mark.parametrize("shared", [True, False], ids=["first step", "later step"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_trace_repeats_the_step_on_other_values(name, shared, network):
    def step(state, batch, anchor):
        return local_step(network, state, batch, anchor, CONFIGS[name])

    fused = torch.func.vmap(step, in_dims=(None if shared else 0, 0, None))
    with fused_operators(torch.device("cpu")):
        repeat = traced(fused, *arguments(network, 0, shared=shared))
        for seed in (1, 2):
            given = arguments(network, seed, shared=shared)
            expected, found = fused(*given), State(*repeat(*given))
            assert torch.equal(found.params, expected.params)
            assert torch.equal(found.velocity, expected.velocity)
            assert not torch.equal(found.params[1], given[0].params if shared else given[0].params[1])


def test_views_are_joined_and_nothing_unread_is_left():
    def step(x):
        unread = x * 3
        chain = x.unsqueeze(0).permute(2, 1, 0).view(6, 4)[1:5].t()
        return chain.exp() + x.view(4, 6).view(2, 12).view(24)[4:20].view(4, 4), unread.shape[0]

    x = torch.arange(24.0).view(4, 6)
    repeat = traced(step, x)
    nodes = [node for node in repeat.__self__.graph.nodes if node.op == "call_function"]
    assert sorted(str(node.target) for node in nodes) == [
        "aten.add.Tensor",
        "aten.as_strided.default",
        "aten.as_strided.default",
        "aten.exp.default",
    ]
    other = torch.randn(4, 6)
    assert torch.equal(repeat(other)[0], step(other)[0])


def test_parameters_are_written_in_pieces_only_where_nobody_else_reads_the_gradient():
    def step(params, first, second, scale):
        gradient = torch.cat([first, second], dim=1)
        return torch.addcmul(params, gradient, scale), gradient.sum()

    def alone(params, first, second, scale):
        return torch.addcmul(params, torch.cat([first, second], dim=1), scale)

    generator = torch.Generator().manual_seed(0)
    for params in (torch.randn(5, generator=generator), torch.randn(3, 5, generator=generator)):
        given = (params, torch.randn(3, 2), torch.randn(3, 3), torch.randn(3, 1))
        for function, gathers in ((step, True), (alone, False)):
            repeat = traced(function, *given)
            targets = [node.target for node in repeat.__self__.graph.nodes]
            assert (torch.ops.aten.cat.default in targets) == gathers
            for found, expected in zip(repeat(*given), function(*given), strict=True):
                assert torch.equal(found, expected)


def test_a_gradient_gathered_in_another_way_is_left_as_it_is():
    """Rows instead of columns, a factor for each column, a factor beside the product."""

    def rows(params, first, second, scale):
        return torch.addcmul(params, torch.cat([first, second], dim=0), scale)

    def columns(params, first, second, scale):
        return torch.addcmul(params, torch.cat([first, second], dim=1), scale)

    def halved(params, first, second, scale):
        return torch.addcmul(params, torch.cat([first, second], dim=1), scale, value=0.5)

    square, wide = (torch.randn(4, 4), torch.randn(2, 4), torch.randn(2, 4)), (torch.randn(4, 2),) * 2
    for function, given in (
        (rows, (*square, torch.randn(4, 1))),
        (columns, (square[0], *wide, torch.randn(4, 4))),
        (halved, (square[0], *wide, torch.randn(4, 1))),
    ):
        repeat = traced(function, *given)
        assert torch.ops.aten.cat.default in [node.target for node in repeat.__self__.graph.nodes]
        assert torch.equal(repeat(*given), function(*given))


def test_the_signature_sees_strides_and_offsets():
    x = torch.zeros(4, 4)
    assert signature(x) == signature(torch.ones(4, 4))
    assert signature(x) != signature(x.t().clone(memory_format=torch.preserve_format).t()[:, :3])
    assert signature(x[:2, :2]) != signature(x[2:, 2:])
    assert signature(torch.zeros(4, 2).t()) != signature(torch.zeros(2, 4))
    assert signature(x) != signature(x.double())
    assert signature(State(x, x)) != signature(State(x, x[0]))
