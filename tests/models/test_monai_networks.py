"""Every network of MONAI that is offered is fit for patient-level privacy, in two and three dimensions."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model

OFFERED = [
    ("densenet121", (32, 32)),
    ("efficientnet_b0", (32, 32)),
    ("resnet18", (28, 28)),
    ("segresnet", (28, 20)),
    ("efficientnet_b0", (16, 16, 16)),
    ("segresnet", (16, 12, 16)),
]


@pytest.mark.parametrize(("name", "size"), OFFERED)
def test_gradients_are_those_of_each_example_alone(name, size):
    config = ModelConfig(name=name, dimensions=len(size), image_size=size, width=8)
    network = build_model(config, 0)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network._module.modules())
    flat = torch.from_numpy(network.initial.copy()).float()
    images = torch.randn(2, *config.image_shape, generator=torch.Generator().manual_seed(4))
    labels = torch.tensor([0, 1])

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


def test_unequal_sides_are_refused_where_the_network_wants_equal_ones():
    with pytest.raises(ConfigError, match=r"expected equal sides in model.image_size for efficientnet_b0"):
        build_model(ModelConfig(name="efficientnet_b0", image_size=(32, 40)), 0)


def test_a_width_that_segresnet_cannot_group_is_refused():
    with pytest.raises(ConfigError, match=r"expected model.width divisible by 4 for segresnet; found 6"):
        build_model(ModelConfig(name="segresnet", image_size=(32, 32), width=6), 0)
