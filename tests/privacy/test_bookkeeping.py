"""One pass over many patients against one autograd call a patient, and against rows written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fedimg.privacy import bookkeeping
from fedimg.privacy.batches import gather
from fedimg.privacy.bookkeeping import NoRuleError
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.layer_gradients import Geometry, Weight

FLAT = torch.linspace(-0.5, 0.5, 146)


class Functional:
    """A torch module as a function of its flat parameters."""

    def __init__(self, module, dtype=torch.float64):
        self.module = module.to(dtype)
        self.shapes = {name: p.shape for name, p in module.named_parameters()}
        self.flat = torch.cat([p.detach().flatten() for p in module.parameters()])

    def apply(self, flat, images):
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        parameters = {n: p.view(s) for (n, s), p in zip(self.shapes.items(), parts, strict=True)}
        return torch.func.functional_call(self.module, parameters, (images,))


def randomised(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return module


def patients_of(shape, patients, images, classes=3, seed=1, spatial=()):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(patients, images, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, classes, (patients, images, *spatial), generator=generator)


def assert_agrees(network, images, labels, loss=None):
    """Rows, norms and weighted sums, in float64 to 10⁻¹⁰ of the norm."""
    loss = loss or PatientLoss()
    expected = PatientGradients(network, loss, "autograd").of(network.flat, images, labels)
    layers = PatientGradients(network, loss, "bookkeeping").layers(network.flat, images, labels)
    found = bookkeeping.rows(layers, len(images), network.flat)
    assert ((found - expected).norm(dim=1) <= 1e-10 * expected.norm(dim=1)).all()
    norms = bookkeeping.squared_norms(layers, images).sqrt()
    assert torch.allclose(norms, expected.norm(dim=1), rtol=1e-9)
    weights = torch.linspace(0.1, 1.0, len(images), dtype=torch.float64)
    total = torch.zeros_like(network.flat)
    for layer in layers:
        part = layer.weighted(weights)
        total[layer.offset : layer.offset + len(part)] += part
    assert (total - weights @ expected).norm() <= 1e-10 * expected.norm()
    return layers


class Pooled(nn.Module):
    """A layer under test, made into logits."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images):
        return torch.tanh(self.layers(images)).flatten(2).mean(2)


LAYERS = {
    "plain": (nn.Conv2d(2, 3, 3), (2, 7, 6)),
    "strided, padded, dilated": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=(2, 1), dilation=(1, 2)), (2, 9, 8)),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 5, 5)),
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), (4, 5, 5)),
    "pointwise": (nn.Conv2d(4, 3, 1), (4, 5, 5)),
    "pointwise, strided": (nn.Conv2d(4, 3, 1, stride=2), (4, 5, 5)),
    "many channels, few positions": (nn.Sequential(nn.Conv2d(2, 48, 3, 2, 1), nn.Conv2d(48, 40, 3, 1, 1)), (2, 6, 6)),
    "volume": (nn.Conv3d(2, 3, 3, stride=2, padding=1), (2, 5, 6, 7)),
    "volume, few positions": (nn.Sequential(nn.Conv3d(1, 32, 3, 2, 1), nn.Conv3d(32, 32, 3, 1, 1)), (1, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1, output_padding=1), (2, 4, 5)),
    "transposed volume": (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 3, 2, 3)),
    "group normalisation": (nn.Sequential(nn.Conv2d(1, 6, 3), nn.GroupNorm(3, 6)), (1, 6, 6)),
    "slopes": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU(4)), (1, 6, 6)),
    "one slope": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.PReLU()), (1, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_with_a_rule_gives_the_gradients_of_one_call_a_patient(layer, images):
    module, shape = LAYERS[layer]
    assert_agrees(Functional(Pooled(randomised(module))), *patients_of(shape, 4, images))


class Tokens(nn.Module):
    """A matrix met at many positions of an example, and at one."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, images):
        return self.last(torch.tanh(self.first(images.flatten(1, 2))).mean(1))


@pytest.mark.parametrize("images", [1, 2])
def test_a_matrix_that_meets_many_positions_counts_them_all(images):
    assert_agrees(Functional(Tokens()), *patients_of((2, 3, 5), 4, images))


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    images=st.integers(1, 3), side=st.integers(5, 7), seed=st.integers(0, 99),
)  # fmt: skip
def test_norms_by_gram_matrices_are_the_norms_of_the_rows(
    kernel, stride, padding, dilation, images, side, seed
):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2 * images, 2, side, side + 1, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, 2, kernel, kernel, generator=generator, dtype=torch.float64)
    back = torch.randn(
        F.conv2d(inputs, weight, None, stride, padding, dilation).shape, generator=generator
    ).double()
    pairs = ((value, value) for value in (stride, padding, dilation))
    layer = Weight(0, Geometry(tuple(weight.shape), images, *pairs), inputs, back)
    assert torch.allclose(layer.squared_norms(), layer.rows().square().sum(1), rtol=1e-9)


def test_both_forms_are_met_in_the_default_network_like_one():
    layers = assert_agrees(
        Functional(Pooled(randomised(LAYERS["many channels, few positions"][0]))),
        *patients_of((2, 6, 6), 4, 1),
    )
    assert {type(layer).__name__ for layer in layers} == {"Weight", "Written"}


class Segmenter(nn.Module):
    """A small U with a skip: (N, 1, H, W) → (N, 3, H, W)."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.head = nn.Conv2d(5, 3, 1)

    def forward(self, images):
        return self.head(torch.cat([self.up(torch.tanh(self.down(images))), images], dim=1))


def voxelwise(logits, labels):
    return F.cross_entropy(logits, labels, reduction="none").flatten(1).mean(1)


def test_a_patients_voxels_are_one_patients_and_engines_agree():
    network = Functional(Segmenter())
    images, labels = patients_of((1, 6, 6), 4, 2, spatial=(6, 6))
    loss = PatientLoss(example_loss=voxelwise)
    assert_agrees(network, images, labels, loss)
    by_vmap = PatientGradients(network, loss, "vmap").of(network.flat, images, labels)
    slow = PatientGradients(network, loss, "autograd").of(network.flat, images, labels)
    assert ((by_vmap - slow).norm(dim=1) <= 1e-10 * slow.norm(dim=1)).all()
    labels[2, 1, 0, 3] = 9
    rows = PatientGradients(network, loss, "bookkeeping").of(network.flat, images, labels)
    assert rows.isnan().any(dim=1).tolist() == [False, False, True, False]


def total(network, dataset, clip, flat, *, engine="bookkeeping", chunk=0, who=None, told=None):
    who = np.arange(dataset.number_of_patients) if who is None else np.asarray(who, np.int64)
    batch = gather(dataset, who, 99, None, OsEntropy())
    failed = (lambda _fault: None) if told is None else told.append
    return clipped_sum(
        PatientGradients(network, PatientLoss(), engine, chunk), flat, batch, clip, failed
    ).vector


@settings(max_examples=8, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    clip=st.sampled_from([1e-3, 0.3, 100.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e3, 1e10, 1e25]),
    seed=st.integers(0, 99),
)
def test_a_patient_moves_the_sum_by_at_most_c_and_chunks_by_rounding(
    convolutional, patients, counts, clip, scale, seed
):
    dataset = patients(counts, side=6, seed=seed, scale=scale)
    everyone = total(convolutional, dataset, clip, FLAT)
    by_rows = total(convolutional, dataset, clip, FLAT, engine="vmap")
    assert np.linalg.norm(everyone - by_rows) <= 2e-5 * clip * len(counts)
    for chunk in (1, 4):
        other = total(convolutional, dataset, clip, FLAT, chunk=chunk)
        assert np.linalg.norm(everyone - other) <= 2e-6 * clip * len(counts)
    for u in range(len(counts)):
        alone = total(convolutional, dataset, clip, FLAT, who=[u])
        assert np.linalg.norm(alone) <= clip
        rest = [v for v in range(len(counts)) if v != u]
        without = total(convolutional, dataset, clip, FLAT, who=rest)
        assert np.linalg.norm(everyone - without) <= clip * (1 + 1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_a_patient_without_a_finite_norm_contributes_zero_and_moves_nobody(convolutional, patients, value):
    dataset = patients([2, 1, 2, 2, 1], side=6)
    clean = total(convolutional, dataset, 0.5, FLAT, who=[0, 1, 2, 4])
    dataset.images[dataset.images_of(3)[0]] = value
    if value == 1e38:
        dataset.images[dataset.images_of(3)[0], 0, 0, 0] = float("nan")
    found = total(convolutional, dataset, 0.5, FLAT)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - clean) <= 1e-6


def test_an_empty_batch_is_a_sum_of_nothing(convolutional, patients):
    found = total(convolutional, patients([1, 2], side=6), 1.0, FLAT, who=[])
    assert found.shape == (146,)
    assert not found.any()


class Doubled:
    """Uses its weight twice, once transformed."""

    def apply(self, flat, images):
        weight = flat[:72].view(2, 36)
        return F.linear(images.flatten(1), weight * 2, flat[72:74])


class Shared:
    def apply(self, flat, images):
        features = F.linear(images.flatten(1), flat[:36].view(1, 36)) + 0
        return torch.cat([features, F.linear(images.flatten(1) ** 2, flat[:36].view(1, 36))], 1)


@pytest.mark.parametrize("network", [Doubled(), Shared()])
def test_a_network_without_a_rule_is_left_to_other_engines(patients, network):
    """Never a wrong gradient: `auto` passes by, and where it was asked for, patients go one by one."""
    dataset, flat = patients([1, 1, 1], side=6), torch.linspace(-1, 1, 74)
    batch = dataset.images.unsqueeze(1), dataset.labels.unsqueeze(1)
    with pytest.raises(NoRuleError):
        PatientGradients(network, PatientLoss(), "bookkeeping").of(flat, *batch)
    assert PatientGradients(network, PatientLoss(), "auto").settled(flat, batch[0]).engine != "bookkeeping"
    found, slow = (total(network, dataset, 0.1, flat, engine=e) for e in ("bookkeeping", "autograd"))
    assert np.array_equal(found, slow)


def test_an_input_changed_in_place_is_seen():
    class Changing:
        def apply(self, flat, images):
            features = torch.tanh(images.flatten(1))
            logits = F.linear(features, flat[:72].view(2, 36), flat[72:])
            features.mul_(2)
            return logits

    with pytest.raises(NoRuleError, match="changed in place"):
        PatientGradients(Changing(), PatientLoss(), "bookkeeping").of(
            torch.linspace(-1, 1, 74), torch.randn(2, 1, 1, 6, 6), torch.zeros(2, 1, dtype=torch.int64)
        )
