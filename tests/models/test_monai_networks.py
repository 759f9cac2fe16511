"""Every network of MONAI that is offered is fit for patient-level privacy, in two and three dimensions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from torch import nn
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model, extension_digests

OFFERED = [
    ("densenet121", (32, 32), "classification"),
    ("efficientnet_b0", (32, 32), "classification"),
    ("resnet18", (28, 28), "classification"),
    ("segresnet", (28, 20), "classification"),
    ("efficientnet_b0", (16, 16, 16), "classification"),
    ("segresnet", (16, 12, 16), "classification"),
    ("segresnet", (16, 24), "segmentation"),
    ("basic_unet", (32, 48), "segmentation"),
    ("unet", (32, 32), "segmentation"),
    ("segresnet", (16, 8, 16), "segmentation"),
    ("basic_unet", (32, 32, 32), "segmentation"),
    ("unet", (32, 32, 32), "segmentation"),
]


@pytest.mark.parametrize(("name", "size", "task"), OFFERED)
def test_gradients_are_those_of_each_example_alone(name, size, task):
    config = ModelConfig(name=name, dimensions=len(size), image_size=size, width=8, task=task)
    network = build_model(config, 0)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network._module.modules())
    flat = torch.from_numpy(network.initial.copy()).float()
    images = torch.randn(2, *config.image_shape, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(2).view(2, *(1,) * len(network.label_shape)).expand(2, *network.label_shape)

    def loss(parameters, image, label):
        return F.cross_entropy(network.apply(parameters, image), label)

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        flat, images[:, None], labels[:, None]
    )
    leaf = flat.clone().requires_grad_()
    together = torch.autograd.grad(loss(leaf, images, labels), leaf)[0]
    # The mean of the rows is the gradient of the batch exactly where no example touches another.
    # 1e-3: float32 sums of millions of terms in another order, through a ReLU that may flip at zero.
    assert float((rows.mean(dim=0) - together).norm()) < 1e-3 * float(together.norm())
    assert float((rows[0] - rows[1]).norm()) > 0.1 * float(together.norm())


def test_segresnet_of_voxels_is_monais_own_and_takes_its_weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs = SegResNet(spatial_dims=2, init_filters=8, in_channels=1, out_channels=3)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    config = ModelConfig(
        name="segresnet",
        image_size=(16, 24),
        width=8,
        classes=3,
        task="segmentation",
        weights=str(tmp_path / "theirs.pt"),
    )
    ours, images = build_model(config, 0), torch.randn(2, 1, 16, 24)
    logits = ours.apply(torch.from_numpy(ours.initial.copy()).float(), images)
    assert torch.allclose(logits, theirs.eval()(images), atol=1e-6)
    scores = ours.probabilities(ours.initial, images)
    assert scores.shape == (2, 3, 16, 24)
    assert ours.probabilities(ours.initial, images[:0]).shape == (0, 3, 16, 24)


def test_a_last_convolution_with_other_classes_is_trained_anew(tmp_path):
    config = ModelConfig(name="basic_unet", image_size=(32, 32), width=4, task="segmentation")
    three = build_model(replace(config, classes=3), 1)
    torch.save(three.state_dict(three.initial), tmp_path / "three.pt")
    two = build_model(replace(config, weights=str(tmp_path / "three.pt")), 0)
    fresh = build_model(config, 0)
    taken, new = two.state_dict(two.initial), fresh.state_dict(fresh.initial)
    for name, value in three.state_dict(three.initial).items():
        assert torch.equal(taken[name], new[name] if name.startswith("final_conv") else value)


def test_unequal_sides_are_refused_where_the_network_wants_equal_ones():
    with pytest.raises(ConfigError, match=r"expected equal sides in model.image_size for efficientnet_b0"):
        build_model(ModelConfig(name="efficientnet_b0", image_size=(32, 40)), 0)


@pytest.mark.parametrize(("task", "groups", "width"), [("classification", 4, 6), ("segmentation", 8, 12)])
def test_a_width_that_segresnet_cannot_group_is_refused(task, groups, width):
    with pytest.raises(
        ConfigError, match=rf"expected model.width divisible by {groups} for segresnet; found {width}"
    ):
        build_model(ModelConfig(name="segresnet", image_size=(32, 32), width=width, task=task), 0)


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("segresnet", (20, 16), r"sides divisible by 8 in model.image_size for segresnet; found \[20, 16\]"),
        ("basic_unet", (32, 40), r"sides divisible by 16, at least 32, in model.image_size for basic_unet"),
        (
            "unet",
            (16, 32),
            r"sides divisible by 16, at least 32, in model.image_size for unet; found \[16, 32\]",
        ),
    ],
)
def test_sides_that_do_not_come_back_are_refused(name, size, words):
    with pytest.raises(ConfigError, match=words):
        build_model(ModelConfig(name=name, image_size=size, task="segmentation"), 0)


@pytest.mark.parametrize(
    ("name", "task", "words"),
    [
        (
            "resnet18",
            "segmentation",
            r"model.task=segmentation \(basic_unet, filter_bank, segresnet, unet\); found resnet18",
        ),
        (
            "unet",
            "classification",
            r"model.task=classification \(cnn, .*densenet121, .*segresnet, svm\); found unet",
        ),
    ],
)
def test_a_network_without_that_task_is_refused_with_those_that_have_it(name, task, words):
    with pytest.raises(ConfigError, match=words):
        build_model(ModelConfig(name=name, image_size=(32, 32), task=task), 0)
    with pytest.raises(ConfigError, match=words):  # before any code is imported or data taken in
        extension_digests(ModelConfig(name=name, image_size=(32, 32), task=task))
    with pytest.raises(ConfigError, match=r"model.task to be one of .*; found counting"):
        ModelConfig(name=name, task="counting")
