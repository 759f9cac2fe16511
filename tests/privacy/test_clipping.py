import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy.batches import gather
from fedimg.privacy.clipping import clipped_sum, clipped_vectors
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.entropy import OsEntropy
from fedimg.values import SiteDataset

FLAT = torch.linspace(-1, 1, 10)
# float32 gradients of equal patients in another chunk differ by rounding
ROUNDING = 1e-5


def total(network, dataset, clip, *, who=None, chunk=0, engine="vmap", cap=99, flat=FLAT, loss=None):
    who = np.arange(dataset.number_of_patients) if who is None else np.asarray(who, np.int64)
    loss = loss or PatientLoss()
    batch = gather(dataset, who, cap, loss.augment, OsEntropy())
    return clipped_sum(PatientGradients(network, loss, engine, chunk), flat, batch, clip)


def by_hand(network, dataset, clip, flat=FLAT):
    """Independent oracle: a plain loop over patients in float64 with autograd."""
    result = np.zeros(flat.numel())
    for u in range(dataset.number_of_patients):
        leaf = flat.double().requires_grad_()
        index = dataset.images_of(u)
        loss = F.cross_entropy(network.apply(leaf, dataset.images[index].double()), dataset.labels[index])
        gradient = torch.autograd.grad(loss, leaf)[0].numpy()
        result += gradient * min(1.0, clip / np.linalg.norm(gradient))
    return result


@pytest.mark.parametrize("clip", [0.01, 0.5, 100.0])
def test_the_sum_is_that_of_a_plain_loop_over_patients(linear, patients, clip):
    dataset = patients([1, 4, 2, 2, 1, 3])
    clipped = total(linear, dataset, clip)
    assert clipped.vector.dtype == np.float64
    assert clipped.sensitivity == clip
    assert np.linalg.norm(clipped.vector - by_hand(linear, dataset, clip)) < ROUNDING * clip


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    clip=st.sampled_from([0.01, 0.3, 2.0]),
    scale=st.sampled_from([1e-3, 1.0, 1e3, 1e10]),
    seed=st.integers(0, 1000),
)
def test_adding_one_patient_moves_the_sum_by_at_most_c(linear, patients, counts, clip, scale, seed):
    dataset = patients(counts, seed=seed, scale=scale)
    everyone = total(linear, dataset, clip).vector
    for u in range(len(counts)):
        others = total(linear, dataset, clip, who=[v for v in range(len(counts)) if v != u]).vector
        assert np.linalg.norm(everyone - others) <= clip * (1 + ROUNDING)


def test_one_patients_share_is_at_most_c_to_a_millionth(linear, patients):
    """float64 norms and scaling: measured on one patient alone, where nothing else rounds."""
    for seed in range(20):
        share = np.linalg.norm(total(linear, patients([2], seed=seed, scale=50), 0.3).vector)
        assert share <= 0.3 * (1 + 1e-6)


def test_sixteen_images_have_the_same_sensitivity_as_one(linear, patients):
    """The unit is the patient. Clipping per image instead fails this very check."""
    dataset = patients([16], scale=20)
    clip = 0.5
    assert np.linalg.norm(total(linear, dataset, clip).vector) <= clip * (1 + 1e-6)
    singles = SiteDataset(dataset.images, dataset.labels, tuple(f"{i:02d}" for i in range(16)), np.arange(17))
    assert np.linalg.norm(total(linear, singles, clip).vector) > clip * (1 + 1e-6)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("engine", ["vmap", "autograd"])
def test_a_patient_without_a_finite_gradient_contributes_zero(linear, patients, poison, engine):
    dataset = patients([2, 3, 1])
    clean = total(linear, dataset, 1.0, who=[0, 2], engine=engine).vector
    dataset.images[3, 0, 0, 0] = poison
    everyone = total(linear, dataset, 1.0, engine=engine).vector
    moved = np.linalg.norm(everyone - clean)
    assert moved <= (1 + ROUNDING if poison == 3e38 else ROUNDING)
    assert np.isfinite(everyone).all()


@pytest.mark.parametrize("label", [-1, 2, 10**12])
def test_a_label_that_is_no_class_contributes_zero_instead_of_an_error(linear, patients, label):
    dataset = patients([2, 3, 1])
    clean = total(linear, dataset, 1.0, who=[0, 2]).vector
    dataset.labels[4] = label
    assert np.linalg.norm(total(linear, dataset, 1.0).vector - clean) < ROUNDING


def test_a_zero_gradient_is_not_divided_by(linear, patients):
    dataset = patients([1])
    zero = PatientLoss(class_weights=(0.0, 0.0))
    assert (total(linear, dataset, 1.0, loss=zero).vector == 0).all()


def test_the_empty_batch_gives_zeros(linear, patients):
    clipped = total(linear, patients([2, 2]), 0.7, who=[])
    assert (clipped.vector == np.zeros(10)).all()
    assert clipped.sensitivity == 0.7


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_chunks_do_not_change_the_sum(convolutional, patients, chunk):
    dataset = patients([1, 3, 2, 1, 3, 3, 1, 2], side=6)
    flat = torch.linspace(-0.5, 0.5, 146)
    whole = total(convolutional, dataset, 0.2, flat=flat, chunk=1000).vector
    other = total(convolutional, dataset, 0.2, flat=flat, chunk=chunk).vector
    assert np.linalg.norm(whole - other) <= 1e-6 * np.linalg.norm(whole)


def test_histogram_vectors_are_clipped_by_patient():
    vectors = np.array([[0.6, 0.8], [3.0, 4.0], [math.nan, 0.0], [math.inf, 0.0], [0.0, 0.0], [1e200, 0.0]])
    assert clipped_vectors(vectors, 1.0).vector == pytest.approx([1.2, 1.6])
    assert clipped_vectors(np.zeros((0, 3)), 1.0).vector.tolist() == [0, 0, 0]


def test_vectors_of_another_shape_are_refused():
    with pytest.raises(ConfigError, match="one vector a patient"):
        clipped_vectors(np.zeros(4), 1.0)


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_norm_that_bounds_nothing_is_refused(linear, patients, clip):
    with pytest.raises(ConfigError, match="a finite clip norm > 0"):
        total(linear, patients([1]), clip)


def test_a_patient_who_makes_a_library_fail_contributes_zero_and_the_others_all(patients, linear):
    """An error would be an answer about this patient: the site would decline, and the wire would show it."""
    dataset = patients([2, 2, 2, 2])
    dataset.images[2:4] = 99.0
    told = []

    def fragile(logits, labels):
        if bool((logits.abs() > 20).any()):
            raise RuntimeError("bad image")
        return torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    flat, chosen = torch.linspace(-1, 1, 10), np.array([0, 2, 3])
    gradients = PatientGradients(linear, PatientLoss(example_loss=fragile), "autograd")
    found = clipped_sum(gradients, flat, batch_of(dataset, np.arange(4)), 1.0, told.append)
    expected = clipped_sum(gradients, flat, batch_of(dataset, chosen), 1.0)
    assert np.array_equal(found.vector, expected.vector)
    assert np.abs(expected.vector).max() > 0
    assert {str(fault) for fault in told} == {"bad image"}


def test_settings_that_fail_for_every_patient_are_an_error(patients, linear):
    gradients = PatientGradients(linear, PatientLoss(class_weights=(1.0, 1.0, 1.0)), "autograd")
    with pytest.raises(ConfigError, match="2 class weights"):
        clipped_sum(gradients, torch.zeros(10), batch_of(patients([1]), np.arange(1)), 1.0)


def batch_of(dataset, chosen):
    return gather(dataset, chosen, 4, None, OsEntropy())
