"""Heads of one network against networks of one task each: the same losses, the same gradients, and nothing of a label that is none."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model
from fedimg.models.heads import build_several, heads_of
from fedimg.models.losses import OF_HEAD, build_loss
from fedimg.models.outputs import activated
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import PatientGradients
from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.privacy.patient_loss import PatientLoss
from fedimg.training import LocalTraining, train_open, train_open_fused
from fedimg.values import SiteDataset

HEADS = ("classification", "regression", "segmentation")
NONE = {
    "classification": (math.nan, math.inf, -1.0, 3.0, 0.5),
    "regression": (math.nan, math.inf, -math.inf),
    "segmentation": (math.nan, math.inf, 3.0, -1.0, 0.5),
    "multilabel": (math.nan, math.inf, 2.0, 0.5),
}


def config_of(heads=HEADS, **changes):
    asked = {
        "name": "filter_bank",
        "task": "several",
        "image_size": (8, 8),
        "width": 4,
        "scales": 1,
        "classes": 3,
    }
    return ModelConfig(**asked | {"heads": tuple(heads)} | changes)


def network_of(config):
    """A network whose zeros are numbers, so that everything has a gradient."""
    network = build_model(config, 0)
    generator = torch.Generator().manual_seed(1)
    return network, 0.3 * torch.randn(network.number_of_parameters, generator=generator)


def labels_of(config, number, seed=0):
    """A row an image, of labels that are all there."""
    generator = np.random.default_rng(seed)
    parts = []
    for head in heads_of(config):
        size = math.prod(head.config.label_shape)
        most = {"classification": config.classes, "segmentation": config.classes, "multilabel": 2}
        drawn = (
            generator.random((number, size))
            if head.task == "regression"
            else generator.integers(0, most[head.task], (number, size))
        )
        parts.append(drawn.astype(np.float32))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def loss_of(config, weights=None):
    names = [OF_HEAD[head] for head in config.heads]
    return build_several(config, names, weights or (1.0,) * len(names), ())


def gradient(network, flat, images, loss):
    return torch.func.grad(lambda p: loss(network.apply(p, images)).mean())(flat)


@settings(max_examples=20, deadline=None)
@given(
    heads=st.sampled_from(
        [HEADS, HEADS[::-1], ("regression", "classification"), ("multilabel", "regression")]
    ),
    seed=st.integers(0, 99),
    weights=st.lists(st.floats(0.01, 100), min_size=3, max_size=3),
)
def test_the_loss_is_the_weighted_sum_of_what_each_task_s_own_loss_says(heads, seed, weights):
    config, weights = config_of(heads), weights[: len(heads)]
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(4, *config.output_shape, generator=generator, dtype=torch.float64)
    labels = labels_of(config, 4, seed)
    expected, begin, known = torch.zeros(4, dtype=torch.float64), 0, 0
    for one, weight in zip(config.each, weights, strict=True):
        size, length = math.prod(one.output_shape), math.prod(one.label_shape)
        own = labels[:, known : known + length].reshape(4, *one.label_shape)
        own = own if one.task in ("regression", "multilabel") else own.long()
        alone = build_loss(OF_HEAD[one.task])(
            outputs[:, begin : begin + size].reshape(4, *one.output_shape), own
        )
        expected, begin, known = expected + weight * alone, begin + size, known + length
    assert (begin, known) == (config.outputs, config.label_shape[0])
    found = loss_of(config, weights)(outputs, labels)
    assert torch.allclose(found, expected, rtol=1e-6)
    rows = torch.func.vmap(lambda a, b: loss_of(config, weights)(a[None], b[None])[0])(outputs, labels)
    assert torch.allclose(rows, found)


@pytest.mark.parametrize("missing", HEADS)
def test_without_one_head_s_labels_the_gradient_is_that_of_the_others_alone(missing):
    config = config_of()
    network, flat = network_of(config)
    images, labels = network.features(torch.randn(5, 1, 8, 8)), labels_of(config, 5)
    own = next(head for head in network.heads if head.task == missing)
    labels[:, own.labels] = math.nan
    found = gradient(network, flat, images, lambda out: loss_of(config)(out, labels))
    weights = [1e-30 if head == missing else 1.0 for head in config.heads]  # zero is no weight
    there = labels_of(config, 5)
    expected = gradient(network, flat, images, lambda out: loss_of(config, weights)(out, there))
    assert found.norm() > 0
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kept", ["classification", "regression"])
def test_a_linear_network_with_one_head_s_labels_has_the_gradient_of_the_network_of_that_task(kept):
    """The same features; the head's own weights have the single network's gradient, the other's none at all."""
    heads = ("classification", "regression")
    several = config_of(heads, name="scattering", image_size=(16, 16))
    single = replace(several, task=kept, heads=())
    network, alone = build_model(several, 0), build_model(single, 0)
    images = network.features(torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    weight = torch.randn(4, images.shape[1], generator=torch.Generator().manual_seed(1)) / 100
    bias = torch.tensor([0.1, -0.2, 0.3, 0.4])
    own = next(head for head in network.heads if head.task == kept)
    labels = labels_of(several, 6)
    taken = labels[:, own.labels][:, 0]
    labels[:, [k for k in range(2) if k != own.labels.start]] = math.nan
    found = gradient(
        network, torch.cat([weight.flatten(), bias]), images, lambda out: loss_of(several)(out, labels)
    )
    loss, truth = build_loss(OF_HEAD[kept]), taken if kept == "regression" else taken.long()
    expected = gradient(
        alone,
        torch.cat([weight[own.outputs].flatten(), bias[own.outputs]]),
        images,
        lambda out: loss(out, truth),
    )
    by_row = found[: weight.numel()].view_as(weight)
    assert torch.allclose(
        torch.cat([by_row[own.outputs].flatten(), found[weight.numel() :][own.outputs]]), expected, atol=1e-7
    )
    others = [k for k in range(4) if not own.outputs.start <= k < own.outputs.stop]
    assert not by_row[others].any()
    assert not found[weight.numel() :][others].any()


@pytest.mark.parametrize(
    ("heads", "task", "wrong"),
    [(HEADS, task, wrong) for task in HEADS for wrong in NONE[task]]
    + [(("multilabel", "regression"), "multilabel", wrong) for wrong in NONE["multilabel"]],
)
def test_a_label_that_is_none_adds_exactly_nothing(heads, task, wrong):
    config = config_of(heads, name="filter_bank" if "segmentation" in heads else "cnn")
    network, flat = network_of(config)
    images, labels = network.features(torch.randn(1, 1, 8, 8)), labels_of(config, 1)
    own = next(head for head in network.heads if head.task == task)
    missing = labels.clone()
    missing[:, own.labels] = math.nan
    labels[0, own.labels.start] = wrong  # one voxel of a map is enough
    both = [
        gradient(network, flat, images, lambda out, y=y: loss_of(config)(out, y)) for y in (labels, missing)
    ]
    assert torch.isfinite(both[0]).all()
    assert torch.equal(*both)
    nothing = torch.full_like(labels, math.nan)
    assert not gradient(network, flat, images, lambda out: loss_of(config)(out, nothing)).any()


@pytest.mark.parametrize("engine", ["vmap", "autograd", "bookkeeping"])
def test_each_engine_gives_a_patient_of_several_heads_the_same_gradient_and_none_passes_the_bound(engine):
    config = config_of()
    network, flat = network_of(config)
    images = network.features(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)))
    labels = labels_of(config, 6)
    labels[0, network.heads[0].labels] = math.nan
    labels[1, network.heads[2].labels] = math.inf
    labels[2] = math.nan
    loss = PatientLoss(example_loss=loss_of(config))
    grouped, known = images.unflatten(0, (3, 2)), labels.unflatten(0, (3, 2))
    rows = PatientGradients(network, loss, engine).of(flat, grouped, known)
    for u in range(3):
        own = slice(2 * u, 2 * u + 2)
        plain = gradient(network, flat, images[own], lambda out, own=own: loss.example_loss(out, labels[own]))
        assert torch.allclose(rows[u], plain, rtol=1e-4, atol=1e-6)
    for u in range(3):
        batch = PatientBatch(grouped[u], known[u], np.array([0, 2]))
        clipped = clipped_sum(PatientGradients(network, loss, engine), flat, batch, 1e-3)
        assert np.linalg.norm(clipped.vector) <= 1e-3 * (1 + 1e-6)
    # features that are not finite leave their patient out, as of any task
    broken = grouped.clone()
    broken[1] = math.nan
    batch = PatientBatch(broken.flatten(0, 1), labels, np.array([0, 2, 4, 6]))
    whole = clipped_sum(PatientGradients(network, loss, engine), flat, batch, 1e-3).vector
    without = PatientBatch(grouped[[0, 2]].flatten(0, 1), labels[[0, 1, 4, 5]], np.array([0, 2, 4]))
    expected = clipped_sum(PatientGradients(network, loss, engine), flat, without, 1e-3).vector
    assert np.allclose(whole, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "dimensions", "heads"),
    [
        *((name, d, HEADS) for name in ("basic_unet", "filter_bank") for d in (2, 3)),
        ("unet", 2, ("segmentation", "classification")),
        ("segresnet", 2, ("segmentation", "regression")),
        *((name, d, HEADS[:2]) for name in ("cnn", "scattering", "segresnet") for d in (2, 3)),
        ("resnet18", 2, ("multilabel", "regression")),
    ],
)
def test_every_kind_of_network_has_the_heads_that_it_can(name, dimensions, heads):
    config = config_of(heads, name=name, dimensions=dimensions, image_size=(32,) * dimensions, width=8)
    network = build_model(config, 0)
    features = network.features(torch.rand(2, 1, *config.image_size))
    flat = torch.from_numpy(network.initial.astype(np.float32))
    rows = network.apply(flat, features)
    assert rows.shape == (2, *config.output_shape)
    found = network.outputs(network.initial, features)
    begin = 0
    for head in network.heads:
        own = activated(head.task, head.logits(rows)).double().flatten(1).detach().numpy()
        assert np.allclose(found[:, begin : begin + own.shape[1]], own, atol=1e-5)
        begin += own.shape[1]
    assert begin == found.shape[1]
    assert len(network.outputs(network.initial, features[:0])) == 0


def test_weights_of_the_network_as_its_library_knows_it_come_along(tmp_path):
    alone = ModelConfig(name="basic_unet", task="segmentation", image_size=(32, 32), width=4)
    trained = build_model(alone, 5)
    save_file(trained.state_dict(trained.initial), tmp_path / "alone.safetensors")
    config = replace(
        alone,
        task="several",
        heads=("classification", "segmentation"),
        weights=str(tmp_path / "alone.safetensors"),
    )
    found = build_model(config, 0)
    both = found.state_dict(found.initial), trained.state_dict(trained.initial)
    shared = [name for name in both[1] if "final_conv" not in name]
    assert shared
    assert all(torch.equal(both[0][f"backbone.{name}"], both[1][name]) for name in shared)
    save_file(both[0], tmp_path / "both.safetensors")
    again = build_model(replace(config, weights=str(tmp_path / "both.safetensors")), 9)
    assert np.array_equal(again.initial, found.initial)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": ("classification",)}, "two or more of"),
        ({"heads": ()}, "two or more of"),
        ({"heads": ("classification", "classification")}, "each once"),
        ({"heads": ("classification", "detection")}, "two or more of"),
        ({"heads": ("classification", "several")}, "two or more of"),
        ({"heads": ("classification", "multilabel")}, "beside a number only"),
        ({"heads": ("segmentation", "multilabel")}, "beside a number only"),
        ({"heads": ("multilabel", "regression"), "classes": 60}, "at most 52 findings"),
        ({"heads": HEADS, "task": "regression"}, "model.heads with model.task=several only"),
        ({"heads": ("classification", "regression"), "classes": 1}, "model.classes ≥ 2"),
        ({"heads": HEADS, "target_range": (1.0, 1.0)}, "model.target_range"),
    ],
)
def test_heads_that_do_not_go_together_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        config_of(**{"heads": HEADS} | changes)


@pytest.mark.parametrize(
    ("name", "heads"),
    [("logistic", HEADS[:2]), ("cnn", HEADS), ("scattering", HEADS), ("basic_unet", HEADS[:2])],
)
def test_a_network_that_cannot_have_these_heads_is_refused(name, heads):
    with pytest.raises(ConfigError, match=r"a network for model\.task=several"):
        build_model(config_of(heads, name=name, image_size=(32, 32)), 0)


def test_many_clients_in_one_pass_learn_what_each_learns_alone():
    """Rows of labels are padded as rows, and a missing label stays its own client's."""
    config = config_of(HEADS[:2], name="cnn")
    network, flat = network_of(config)
    generator = torch.Generator().manual_seed(3)
    parts = []
    for client, count in enumerate((5, 3, 0)):
        labels = labels_of(config, count, client)
        labels[: count // 2, network.heads[1].labels] = math.nan
        images = torch.randn(count, 1, 8, 8, generator=generator)
        parts.append(SiteDataset(images, labels, tuple(f"{k}" for k in range(count)), np.arange(count + 1)))
    training = LocalTraining(loss="several", learning_rate=0.05, batch_size=2)
    draws = [[InsecureSeededEntropy(0, f"{k}") for k in range(3)] for _ in range(2)]
    together = train_open_fused(network, flat, parts, training, draws[0], loss_of(config))
    for k, part in enumerate(parts):
        alone = train_open(network, flat, part, training, draws[1][k], loss_of(config))
        assert torch.allclose(together[k], alone, atol=1e-5)
        assert torch.isfinite(together[k]).all()


def test_a_score_that_reads_the_outline_follows_from_it_and_teaches_it():
    config = config_of(("classification", "segmentation"), classes=2, reads_voxels=True)
    network, params = network_of(config)
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    features = network.features(images)
    rows = network.apply(params, features)
    # by hand: the image's logits are one linear layer of channels and of the class's probability, mean and maximum
    tensors = network.layout.unflatten(params)
    weight, bias = tensors["of_image.weight"], tensors["of_image.bias"]
    assert weight.shape == (2, 2 * (config.width + 1))
    own = torch.softmax(network.heads[1].logits(rows), dim=1)[:, 1].flatten(1)
    k = config.width
    changed = weight.clone()
    changed[:, [k, 2 * k + 1]] = 0
    without = network.apply(network.layout.flatten({**tensors, "of_image.weight": changed}), features)
    added = own.mean(1, keepdim=True) * weight[:, k] + own.amax(1, keepdim=True) * weight[:, 2 * k + 1]
    assert torch.allclose(rows[:, :2] - without[:, :2], added, atol=1e-5)
    assert torch.equal(rows[:, 2:], without[:, 2:])
    assert bias.shape == (2,)


def test_without_reading_the_outline_a_network_is_called_as_ever():
    plain = build_model(config_of(("classification", "segmentation")), 0)
    reading = build_model(config_of(("classification", "segmentation"), reads_voxels=True), 0)
    assert plain.digest != reading.digest
    assert plain.number_of_parameters < reading.number_of_parameters


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": ("classification", "regression"), "reads_voxels": True, "name": "cnn"},
        {"task": "segmentation", "heads": (), "reads_voxels": True},
    ],
)
def test_reading_outlines_that_there_are_none_of_is_refused(changes):
    with pytest.raises(ConfigError, match="reads_voxels"):
        config_of(**changes)
