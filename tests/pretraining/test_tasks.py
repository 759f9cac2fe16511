"""Tasks whose answers every image holds itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.config import compose
from fedimg.errors import ConfigError
from fedimg.models import build_model
from fedimg.pretraining.tasks import MASKED, filled_in, masked, task_of, turned


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.booleans())
def test_an_image_turned_back_by_its_answer_is_itself(seed, deep):
    images = torch.randn(6, 2, *((3,) if deep else ()), 8, 8, generator=generator(seed))
    seen, answers = turned(images, torch.zeros(6), generator(seed))
    assert answers.dtype == torch.int64
    for image, original, quarters in zip(seen, images, answers.tolist(), strict=True):
        assert np.array_equal(np.rot90(image.numpy(), -quarters, (-2, -1)), original.numpy())


def test_all_turns_are_equally_likely():
    _, answers = turned(torch.zeros(4000, 1, 4, 4), torch.zeros(4000), generator())
    counts = torch.bincount(answers, minlength=4)
    assert ((counts - 1000).abs() < 5 * (4000 * 0.25 * 0.75) ** 0.5).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(16, 24), (5, 7), (2, 16, 16), (3, 3)]))
def test_what_is_missing_is_zero_and_only_that_counts(seed, spatial):
    images = torch.randn(4, 1, *spatial, generator=generator(seed))
    seen, answers = masked(images, torch.zeros(4), generator(seed))
    original, missing = answers[:, :1], answers[:, 1:]
    assert torch.equal(original, images)
    assert set(missing.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(seen, torch.where(missing > 0, 0.0, images))
    outputs = torch.randn(4, 2, *spatial, generator=generator(seed + 1))
    found = filled_in(outputs, answers)
    elsewhere = torch.where(missing > 0, outputs[:, :1], 99.0)
    assert torch.allclose(filled_in(torch.cat([elsewhere, 7 * outputs[:, 1:]], dim=1), answers), found)
    for n in range(4):
        gone = missing[n, 0] > 0
        expected = (
            (outputs[n, 0][gone] - images[n, 0][gone]).abs().mean() if gone.any() else torch.tensor(0.0)
        )
        assert float(found[n]) == pytest.approx(float(expected), abs=1e-5)


def test_as_much_is_missing_as_is_said():
    _, answers = masked(torch.zeros(400, 1, 16, 16), torch.zeros(400), generator())
    assert float(answers[:, 1].mean()) == pytest.approx(MASKED, abs=5 * (0.24 / 400 / 64) ** 0.5)


@pytest.mark.parametrize(
    ("overrides", "method"),
    [
        (["model=cnn"], "rotations"),
        (["experiment=multilabel"], "rotations"),
        (["experiment=regression"], "rotations"),
        (["model=basic_unet", "model.width=8"], "inpainting"),
        (["model=unet", "model.width=8", "model.classes=3"], "inpainting"),
        (["experiment=detection", "model=unet", "model.width=8"], "inpainting"),
        (["model=segresnet", "model.task=segmentation", "data.voxels=masks", "model.width=8",
          "training.loss=dice_cross_entropy"], "inpainting"),
    ],
)  # fmt: skip
def test_a_task_s_network_has_the_asked_one_s_layers_below_the_last(overrides, method):
    config = compose([*overrides, "imaging.image_size=[32,32]"])
    asked = build_model(config.model, 0)
    task = task_of(config, "self_supervised")
    assert task.method == method
    network = build_model(task.model, 0)
    own, theirs = (dict(zip(n.layout.names, n.layout.shapes, strict=True)) for n in (asked, network))
    assert own.keys() == theirs.keys()
    assert {name for name in own if own[name] != theirs[name]} <= asked.head == network.head


def test_what_a_method_cannot_take_is_refused():
    with pytest.raises(ConfigError, match="as high as they are wide"):
        task_of(compose(["model=cnn", "imaging.image_size=[32,40]"]), "self_supervised")
    with pytest.raises(ConfigError, match="3 channels that are to be filled in"):
        task_of(compose(["model=basic_unet", "imaging.channels=3"]), "self_supervised")
