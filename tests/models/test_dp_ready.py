"""What mixes examples, keeps data or acts at random is replaced, or refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.nets.resnet import resnet18
from torch import nn
from torch.nn import functional as F

from fedimg.errors import ModelError
from fedimg.models.dp_ready import check, group_count, make_dp_ready
from fedimg.models.out_of_place import OutOfPlace, in_place_operators


class Head(nn.Module):
    """(B, 1, 6, 6) → (B, 2), with one thing done wrong in `twist`."""

    def __init__(self, twist=lambda x: x, extra=None):
        super().__init__()
        self.convolution, self.extra = nn.Conv2d(1, 8, 3), extra or nn.Identity()
        self.twist, self.linear = twist, nn.Linear(8, 2)

    def forward(self, images):
        return self.linear(self.twist(F.silu(self.extra(self.convolution(images)))).mean(dim=(2, 3)))


def _verdict(module):
    return check(module, (1, 6, 6), (2,))


def _refusal(module):
    with pytest.raises(ModelError) as refusal:
        _verdict(module)
    return str(refusal.value)


@given(st.integers(1, 2048))
def test_groups_divide_the_channels_and_are_not_tiny(channels):
    groups = group_count(channels)
    assert channels % groups == 0
    assert 1 <= groups <= 32
    assert groups == 1 or channels // groups >= 4


def test_a_plain_network_passes():
    assert _verdict(Head()) is False


def test_every_batch_norm_of_a_monai_resnet_is_replaced():
    # `norm=` reaches one of its layers only, which is why replacing is not left to the library.
    asked = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2, norm=("group", {"num_groups": 4}))
    left = [m for m in asked.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(left) > 8
    ready = make_dp_ready(asked)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in ready.modules())
    assert not list(ready.buffers())
    assert check(ready, (1, 32, 32), (2,)) is True  # it adds in place


def test_replacing_keeps_scale_and_shift():
    module = nn.Sequential(nn.BatchNorm2d(12))
    with torch.no_grad():
        module[0].weight.copy_(torch.arange(12.0))
    ready = make_dp_ready(module)
    assert isinstance(ready[0], nn.GroupNorm)
    assert ready[0].num_groups == 3
    assert torch.equal(ready[0].weight, torch.arange(12.0))


def test_a_norm_that_is_the_whole_module_is_replaced():
    assert isinstance(make_dp_ready(nn.BatchNorm1d(8)), nn.GroupNorm)


def test_dropout_running_statistics_and_inplace_are_taken_out():
    module = nn.Sequential(
        nn.Dropout(0.5), nn.InstanceNorm2d(4, track_running_stats=True), nn.ReLU(inplace=True)
    )
    ready = make_dp_ready(module)
    assert isinstance(ready[0], nn.Identity)
    assert not list(ready.buffers())
    assert ready[2].inplace is False
    assert not ready.training


@given(st.integers(0, 99))
def test_instance_norm_with_a_scale_becomes_the_same_function_with_a_rule(seed):
    generator = torch.Generator().manual_seed(seed)
    old = nn.InstanceNorm3d(3, affine=True, eps=1e-3)
    with torch.no_grad():
        old.weight.copy_(torch.randn(3, generator=generator))
        old.bias.copy_(torch.randn(3, generator=generator))
    new = make_dp_ready(old)
    images = torch.randn(2, 3, 4, 2, 3, generator=generator) * 5
    assert isinstance(new, nn.GroupNorm)
    assert torch.allclose(new(images), old(images), atol=1e-5)


class Voxels(nn.Module):
    """(B, 1, 6, 6) → (B, 2, 6, 6), with one thing done wrong in `twist`."""

    def __init__(self, twist=lambda x: x):
        super().__init__()
        self.convolution, self.twist = nn.Conv2d(1, 2, 3, padding=1), twist

    def forward(self, images):
        return self.twist(torch.tanh(self.convolution(images)))


def test_a_network_of_voxels_passes_where_it_is_asked_for():
    assert check(Voxels(), (1, 6, 6), (2, 6, 6)) is False
    with pytest.raises(
        ModelError, match=r"finite logits of shape \(3, 2\); found shape \(3, 2, 6, 6\); return one row"
    ):
        check(Voxels(), (1, 6, 6), (2,))
    with pytest.raises(ModelError, match=r"finite logits of shape \(3, 2, 6, 6\); found shape \(3, 2\)"):
        check(Head(), (1, 6, 6), (2, 6, 6))
    with pytest.raises(ModelError, match=r"found shape \(3, 2, 5, 6\)"):
        check(Voxels(lambda x: x[:, :, 1:]), (1, 6, 6), (2, 6, 6))


@pytest.mark.parametrize(
    "twist",
    [
        lambda x: x - x.mean(dim=0, keepdim=True),
        lambda x: x / x.abs().amax(),
        lambda x: x.cumsum(dim=0).flip(0),
    ],
)
def test_voxels_that_move_with_another_examples_are_refused(twist):
    with pytest.raises(ModelError, match="one that moves with its neighbours"):
        check(Voxels(twist), (1, 6, 6), (2, 6, 6))


def test_batch_norm_is_refused():
    assert _refusal(Head(extra=nn.BatchNorm2d(8))) == (
        "expected no batch normalisation; found BatchNorm2d at extra; pass it through make_dp_ready"
    )


def test_a_buffer_is_refused():
    module = Head()
    module.register_buffer("seen", torch.zeros(1))
    assert "no buffers, which would carry data past the noise; found seen" in _refusal(module)


def test_a_frozen_parameter_is_refused():
    module = Head()
    module.linear.weight.requires_grad_(False)
    assert "found linear.weight, torch.float32, requires_grad=False" in _refusal(module)


def test_a_layer_that_centres_the_batch_is_refused():
    # Has no buffer and no batch-norm type: only the probe can see it.
    assert "one that moves with its neighbours" in _refusal(Head(lambda x: x - x.mean(dim=0, keepdim=True)))


def test_a_neighbour_that_only_scales_is_refused_too():
    assert "one that moves with its neighbours" in _refusal(Head(lambda x: x / x.abs().amax()))


def test_chance_is_refused():
    assert "two different outputs" in _refusal(Head(lambda x: F.dropout(x, 0.5, training=True)))


def test_wrong_outputs_are_refused():
    with pytest.raises(ModelError, match=r"expected finite logits of shape \(3, 5\); found shape \(3, 2\)"):
        check(Head(), (1, 6, 6), (5,))
    assert "finite logits" in _refusal(Head(lambda x: x / 0))


def test_an_image_too_small_for_the_network_is_told():
    with pytest.raises(ModelError, match=r"a network that takes examples of 1 × 2 × 2.*use larger images"):
        check(Head(), (1, 2, 2), (2,))


def test_code_that_cannot_be_differentiated_by_torch_func_is_refused():
    class Old(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x * 2

        @staticmethod
        def backward(context, gradient):
            return gradient * 2

    assert "a network that torch.func can differentiate" in _refusal(Head(Old.apply))


def test_augmented_assignment_is_run_out_of_place():
    def add(x):
        y = x * 1
        y += x
        return y

    module = Head(add)
    images = torch.ones(2, 1, 6, 6)
    assert in_place_operators(module, images) == {"add_"}
    assert _verdict(module) is True
    plain = module(images)
    with OutOfPlace():
        assert in_place_operators(module, images) == set()
        assert torch.equal(module(images), plain)


def test_an_in_place_call_whose_result_is_dropped_is_refused():
    def drop(x):
        y = x * 1
        y.mul_(3)
        return y

    assert "an in-place call whose result is dropped" in _refusal(Head(drop))


def test_writing_into_a_slice_is_refused():
    def write(x):
        y = x * 1
        y[:, 0] = 0
        return y

    assert "expected no in-place operator; found fill_" in _refusal(Head(write))
