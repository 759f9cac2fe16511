"""Losses of single examples, by image and by voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.dice import DiceCELoss, DiceLoss
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models.config import SEVERAL
from fedimg.models.losses import (
    BUILTIN,
    OF_TASK,
    WEIGHTED,
    binary_cross_entropy,
    build_loss,
    cross_entropy,
    dice_balanced,
    dice_cross_entropy,
    focal,
)


@settings(max_examples=20, deadline=None)
@given(
    number=st.integers(1, 3), classes=st.integers(2, 4), spatial=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_dice_with_cross_entropy_is_monais_image_by_image(number, classes, spatial, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, classes, *spatial, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (number, *spatial), generator=generator)
    theirs = DiceCELoss(to_onehot_y=True, softmax=True)
    expected = [theirs(logits[i : i + 1], labels[i : i + 1, None]) for i in range(number)]
    assert torch.allclose(dice_cross_entropy(logits, labels), torch.stack(expected), rtol=1e-9)


@pytest.mark.parametrize("name", OF_TASK["segmentation"])
def test_a_loss_of_voxels_is_one_value_an_image_from_that_image_alone(name):
    loss = build_loss(name, label_shape=(3, 2))
    logits = torch.randn(4, 3, 3, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24).view(4, 3, 2) % 3
    together = loss(logits, labels)
    assert together.shape == (4,)
    assert torch.allclose(together, torch.cat([loss(logits[i, None], labels[i, None]) for i in range(4)]))
    rows = torch.func.vmap(lambda a, b: loss(a[None], b[None])[0])(logits, labels)
    assert torch.allclose(rows, together)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=4), st.integers(0, 99))
def test_weights_of_voxels_are_the_formula(weights, seed):
    """Voxel by voxel, class by class; the Dice term as MONAI weighs it. Never divided by the sum of weights."""
    generator, classes, weights = torch.Generator().manual_seed(seed), len(weights), tuple(weights)
    logits = torch.randn(2, classes, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 3, 4), generator=generator)
    for n in range(2):
        log_p = torch.log_softmax(logits[n], dim=0)
        plain, weighed = [], []
        for y in range(3):
            for x in range(4):
                own = int(labels[n, y, x])
                each = -float(log_p[own, y, x])
                plain.append(weights[own] * each)
                weighed.append(weights[own] * (1 - np.exp(-each)) ** 2 * each)
        one = logits[n : n + 1], labels[n : n + 1]
        assert float(cross_entropy(*one, weights)) == pytest.approx(sum(plain) / 12)
        assert float(focal(*one, weights)) == pytest.approx(sum(weighed) / 12)
        theirs = DiceLoss(to_onehot_y=True, softmax=True, weight=torch.tensor(weights, dtype=torch.float64))
        dice = float(theirs(one[0], one[1][:, None]))
        assert float(dice_cross_entropy(*one, weights)) == pytest.approx(dice + sum(plain) / 12)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=4), st.integers(0, 99))
def test_a_finding_s_weight_counts_where_it_is_there(weights, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, len(weights), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, logits.shape, generator=generator).double()
    found = binary_cross_entropy(logits, labels, tuple(weights))
    p = torch.sigmoid(logits)
    for n in range(3):
        terms = [
            -(w * np.log(float(p[n, k])) if labels[n, k] else np.log(1 - float(p[n, k])))
            for k, w in enumerate(weights)
        ]
        assert float(found[n]) == pytest.approx(sum(terms) / len(terms))


@pytest.mark.parametrize("name", sorted({name for task in WEIGHTED for name in OF_TASK[task]}))
def test_weights_of_one_change_nothing_and_another_number_of_them_is_refused(name):
    logits = torch.randn(3, 2, 4, 4)
    labels = torch.randint(0, 2, (3, 4, 4))
    if name == "binary_cross_entropy":
        logits, labels = torch.randn(3, 2), torch.randint(0, 2, (3, 2)).float()
    loss = BUILTIN[name]
    assert torch.allclose(loss(logits, labels, (1.0, 1.0)), loss(logits, labels))
    assert not torch.allclose(loss(logits, labels, (1.0, 5.0)), loss(logits, labels))
    with pytest.raises(ConfigError, match="2 class weights; found 3"):
        loss(logits, labels, (1.0, 1.0, 1.0))


def test_every_built_in_loss_is_of_some_task():
    assert {name for names in OF_TASK.values() for name in names} == {*BUILTIN, SEVERAL}


def test_voxels_count_alike_in_cross_entropy():
    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    assert torch.allclose(cross_entropy(logits, labels).mean(), F.cross_entropy(logits, labels))


def test_dice_of_whole_images_is_refused():
    with pytest.raises(
        ConfigError, match="labels of voxels for the loss dice_cross_entropy; found labels of images"
    ):
        dice_cross_entropy(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ConfigError, match="labels of voxels for the loss dice_balanced"):
        dice_balanced(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(0, 99))
def test_a_balanced_loss_is_the_formula_voxel_by_voxel(classes, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, classes, 3, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (1, 3, 4), generator=generator)
    p, own = torch.softmax(logits[0], dim=0), labels[0]
    each = {True: [], False: []}
    for y in range(3):
        for x in range(4):
            each[bool(own[y, x])].append(-np.log(float(p[own[y, x], y, x])))
    expected = np.mean(each[False]) if each[False] else 0.0
    if each[True]:
        expected = 0.2 * np.mean(each[True]) + 0.8 * expected
        there = [k for k in range(1, classes) if (own == k).any()]
        overlaps = [float(2 * p[k][own == k].sum() / (p[k].sum() + (own == k).sum() + 1e-5)) for k in there]
        expected += 1 - np.mean(overlaps)
    assert float(dice_balanced(logits, labels)) == pytest.approx(expected)


def test_a_balanced_loss_hears_a_finding_of_one_voxel_in_a_thousand():
    """Where nothing is found yet, what it says of the one voxel does not fade with the others' number."""
    pulls = {}
    for side in (10, 32):
        labels = torch.zeros(1, side, side, dtype=torch.int64)
        labels[0, 3, 3] = 1
        for loss in (dice_balanced, dice_cross_entropy):
            logits = torch.zeros(1, 2, side, side, dtype=torch.float64)
            logits[:, 0] = 2.0
            logits.requires_grad_()
            loss(logits, labels).sum().backward()
            pulls[loss, side] = -float(logits.grad[0, 1, 3, 3])
    # a fifth of 1 − p, p = 0.12, whatever Dice adds
    assert pulls[dice_balanced, 32] > 0.2 * 0.88
    assert pulls[dice_balanced, 32] > 10 * pulls[dice_cross_entropy, 32]
