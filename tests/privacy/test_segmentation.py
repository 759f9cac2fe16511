"""Labels of voxels: the unit is still the patient, whatever the number of images and voxels."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.imaging.config import AugmentationConfig
from fedimg.models import ModelConfig, build_model
from fedimg.models.losses import centre_heat_map, cross_entropy, dice_cross_entropy, focal, squared_error
from fedimg.privacy.batches import gather
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.plan import ReleaseSession
from fedimg.training import LocalTraining, train_open, train_private
from fedimg.training.variation import copies_of
from fedimg.values import NoisedSum, SiteDataset

SIDE, CLIP = 16, 0.2


@pytest.fixture(scope="module")
def network():
    config = ModelConfig(name="segresnet", image_size=(SIDE, SIDE), width=8, task="segmentation")
    return build_model(config, 0)


def discs(counts, seed=0):
    """Patients with the given numbers of images: a bright disc in noise, and which pixels are the disc's."""
    generator, number = torch.Generator().manual_seed(seed), sum(counts)
    centre = torch.randint(5, 11, (number, 2, 1, 1), generator=generator)
    rows, columns = torch.arange(SIDE).view(1, SIDE, 1), torch.arange(SIDE).view(1, 1, SIDE)
    labels = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 <= 16).long()
    noise = torch.randn(number, SIDE, SIDE, generator=generator)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    images = (2.0 * labels + 0.5 * noise).unsqueeze(1)
    return SiteDataset(images, labels, tuple(f"p{u:03}" for u in range(len(counts))), first)


def sum_of(network, dataset, patients, engine, loss=None, *, integers=False):
    batch = gather(dataset, np.asarray(patients, np.int64), 99, None, OsEntropy())
    flat = torch.from_numpy(network.initial.copy()).float()
    gradients = PatientGradients(network, loss or PatientLoss(), engine)
    return clipped_sum(gradients, flat, batch, CLIP, integers=integers).vector


def by_hand(network, dataset, patient):
    """One patient's clipped gradient by plain autograd: mean over images of the mean over their voxels."""
    own = dataset.images_of(patient)
    leaf = torch.from_numpy(network.initial.copy()).float().requires_grad_()
    loss = F.cross_entropy(network.apply(leaf, dataset.images[own]), dataset.labels[own])
    gradient = torch.autograd.grad(loss, leaf)[0].double().numpy()
    return gradient * min(1.0, CLIP / np.linalg.norm(gradient))


@pytest.mark.parametrize("engine", ["bookkeeping", "vmap", "autograd"])
def test_a_patients_images_and_voxels_are_clipped_once(network, engine):
    dataset = discs([1, 3, 2])
    alone = [by_hand(network, dataset, u) for u in range(3)]
    assert all(np.linalg.norm(part) == pytest.approx(CLIP) for part in alone)  # the bound is at work
    found = sum_of(network, dataset, [0, 1, 2], engine)
    assert np.linalg.norm(found - sum(alone)) <= 1e-4 * CLIP
    for u in range(3):
        assert np.linalg.norm(sum_of(network, dataset, [u], engine)) <= CLIP * (1 + 1e-6)
        rest = [v for v in range(3) if v != u]
        moved = np.linalg.norm(found - sum_of(network, dataset, rest, engine))
        assert moved <= CLIP * (1 + 1e-5)


def test_strict_sums_of_voxels_are_whole_steps_of_a_checked_norm(network):
    dataset = discs([2, 1])
    exact, rounded = (sum_of(network, dataset, [0, 1], "vmap", integers=flag) for flag in (False, True))
    steps = rounded / integer_grid(CLIP)
    assert np.array_equal(steps, np.rint(steps))
    # less than a step a coordinate and patient
    assert np.linalg.norm(exact - rounded) <= 2 * integer_grid(CLIP) * np.sqrt(exact.size)
    assert np.linalg.norm(sum_of(network, dataset, [0], "vmap", integers=True)) <= CLIP


@pytest.mark.parametrize("engine", ["bookkeeping", "vmap", "autograd"])
def test_a_voxel_that_is_no_class_leaves_its_patient_out_and_moves_nobody(network, engine):
    dataset = discs([1, 2, 1])
    clean = sum_of(network, dataset, [0, 2], engine)
    dataset.labels[2, 3, 4] = 7
    found = sum_of(network, dataset, [0, 1, 2], engine)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - clean) <= 1e-5 * CLIP


def overlap(network, params, dataset):
    """Dice of the disc, over all pixels of a set."""
    found = network.probabilities(params.numpy(), dataset.images).argmax(axis=1) == 1
    truth = dataset.labels.numpy() == 1
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


class Noiseless:
    """A session without noise or ledger: 10⁵ parameters need more patients than a test has to rise above noise."""

    def __init__(self, loss):
        self.loss = loss
        self.plan = SimpleNamespace(expected_batch_size=8.0)

    def gradient_step(self, params, dataset, network):
        batch = gather(dataset, np.arange(dataset.number_of_patients), 2, None, OsEntropy())
        gradients = PatientGradients(network, self.loss, "bookkeeping")
        return NoisedSum(clipped_sum(gradients, params, batch, 1.0).vector, 0.0, "none")


def test_along_clipped_sums_a_network_learns_to_find_discs(network):
    start = torch.from_numpy(network.initial.copy()).float()
    config = LocalTraining(learning_rate=0.1, momentum=0.5, local_steps=12)
    session = Noiseless(PatientLoss(example_loss=dice_cross_entropy))
    after = train_private(network, start, discs([2, 1, 1, 2, 1, 1, 1, 1]), session, config)
    others = discs([1] * 10, seed=1)
    assert overlap(network, after, others) > 0.8 > overlap(network, start, others)


def test_a_step_on_voxels_is_charged_and_noised_like_any_other(network, plan_of, ledger_for):
    plan = plan_of(declared=8, noise=1.5, sampling_rate=1.0, l2_clip_norm=CLIP)
    ledger = ledger_for(plan)
    session = ReleaseSession(plan, ledger, OsEntropy())
    flat = torch.from_numpy(network.initial.copy()).float()
    dataset = discs([2, 1])
    noised = session.gradient_step(flat, dataset, network)
    assert ledger.statement.runs["run"].charged == {"train": 1}
    assert session.faults == ()
    # 4·10⁵ normal numbers: their mean square is within 2 % of the variance but for a chance of 10⁻¹⁸
    noise = noised.vector - sum_of(network, dataset, [0, 1], "vmap")
    assert np.square(noise).mean() == pytest.approx((1.5 * CLIP) ** 2, rel=0.02)


def test_copies_of_a_patient_s_image_move_with_their_labels_and_are_one_clipped_gradient(network):
    """By hand: the gradient of the mean over all copies of all of a patient's images, clipped once."""
    dataset, config = discs([2, 1]), AugmentationConfig(copies=3, rotation_degrees=25, shift_fraction=0.1)
    loss = PatientLoss(example_loss=dice_cross_entropy, augment=copies_of(config))
    flat = torch.from_numpy(network.initial.copy()).float()
    batch = gather(dataset, np.arange(2), 2, loss.augment, InsecureSeededEntropy(1))
    assert np.diff(batch.first_image).tolist() == [6, 3]
    assert batch.labels.shape == (9, SIDE, SIDE)
    bright = batch.images[:, 0] - batch.images[:, 0].flatten(1).amin(dim=1)[:, None, None]
    found = clipped_sum(PatientGradients(network, loss, "vmap"), flat, batch, CLIP).vector
    expected = np.zeros(len(found))
    for first, last in ((0, 6), (6, 9)):
        leaf = flat.clone().requires_grad_()
        own = dice_cross_entropy(network.apply(leaf, batch.images[first:last]), batch.labels[first:last])
        row = torch.autograd.grad(own.mean(), leaf)[0].double().numpy()
        expected += row * min(1.0, CLIP / np.linalg.norm(row))
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)
    # a disc is bright, and so is what is labelled one after the move
    inside, outside = bright[batch.labels == 1].mean(), bright[batch.labels == 0].mean()
    assert inside > outside + 0.5
    plain = gather(dataset, np.arange(2), 2, None, InsecureSeededEntropy(1))
    assert not torch.equal(batch.labels[:3], plain.labels[:1].expand(3, -1, -1))


def test_a_loss_of_voxels_must_be_a_mean_over_them(network):
    """(N, H, W) times a factor (N,) would go through wherever W = N, and mix patients."""

    def unreduced(logits, labels):
        return F.cross_entropy(logits, labels, reduction="none")

    dataset = discs([1] * SIDE)
    with pytest.raises(ConfigError, match="one value an image with labels of voxels; found 3 axes"):
        PatientLoss(example_loss=unreduced).each(torch.zeros(SIDE, 2, SIDE, SIDE), dataset.labels)


@pytest.mark.parametrize("engine", ["vmap", "autograd", "bookkeeping"])
@pytest.mark.parametrize("example_loss", [cross_entropy, dice_cross_entropy, focal])
def test_weights_of_voxels_are_inside_a_patient_s_gradient(network, engine, example_loss):
    """As by hand with the loss's own third argument; other weights give another gradient."""
    dataset, weights = discs([2, 1]), (0.5, 3.0)
    loss = PatientLoss(class_weights=weights, example_loss=example_loss)
    flat = torch.from_numpy(network.initial.copy()).float()
    found = sum_of(network, dataset, [0, 1], engine, loss)
    expected = np.zeros(len(found))
    for u in (0, 1):
        leaf, own = flat.clone().requires_grad_(), dataset.images_of(u)
        value = example_loss(network.apply(leaf, dataset.images[own]), dataset.labels[own], weights).mean()
        row = torch.autograd.grad(value, leaf)[0].double().numpy()
        expected += row * min(1.0, CLIP / np.linalg.norm(row))
    assert np.linalg.norm(found - expected) <= 1e-3 * np.linalg.norm(expected)
    alike = sum_of(network, dataset, [0, 1], engine, replace(loss, class_weights=None))
    assert np.linalg.norm(found - alike) > 1e-2 * np.linalg.norm(expected)


def test_an_open_step_weighs_voxels_by_the_same_factors(network):
    dataset, config = discs([2, 1]), LocalTraining(batch_size=3, learning_rate=1.0, class_weights=(0.5, 3.0))
    start = torch.from_numpy(network.initial.copy()).float()
    leaf = start.clone().requires_grad_()
    value = dice_cross_entropy(network.apply(leaf, dataset.images), dataset.labels, (0.5, 3.0)).mean()
    step = torch.autograd.grad(value, leaf)[0]
    after = train_open(network, start, dataset, config, InsecureSeededEntropy(1), dice_cross_entropy)
    assert torch.allclose(after - start, -step, atol=1e-5)


def test_what_has_no_classes_takes_no_weights():
    numbers = PatientLoss(class_weights=(1.0, 2.0), example_loss=squared_error)
    with pytest.raises(ConfigError, match="no class weights with labels that are numbers"):
        numbers.each(torch.zeros(3, 1), torch.zeros(3))
    maps = PatientLoss(class_weights=(1.0, 2.0), example_loss=centre_heat_map)
    with pytest.raises(ConfigError, match="no class weights with labels that are numbers"):
        maps.each(torch.zeros(3, 3, 4, 4), torch.zeros(3, 3, 4, 4))
    with pytest.raises(ConfigError, match="2 class weights; found 3"):
        PatientLoss(class_weights=(1.0, 2.0, 3.0)).each(torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long())
