"""Losses of single examples, by image and by voxel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses.dice import DiceCELoss
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models.config import SEVERAL
from fedimg.models.losses import BUILTIN, OF_TASK, build_loss, cross_entropy, dice_cross_entropy


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
