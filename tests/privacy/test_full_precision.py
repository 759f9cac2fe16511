"""Clipped sums by layers keep the bits that their norms were taken of."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fedimg.privacy import clipping
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.full_precision import full_precision
from fedimg.privacy.layer_gradients import Geometry, Weight


def settings():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_within_no_bits_are_dropped_on_an_accelerator_and_after_it_all_is_as_it_was():
    before = settings()
    assert before[0]  # torch's default: else this test would prove nothing
    with full_precision(torch.device("cuda")):
        assert settings() == (False, False)
    assert settings() == before
    with pytest.raises(KeyError), full_precision(torch.device("cuda")):
        raise KeyError
    assert settings() == before
    with full_precision(torch.device("cpu")):
        assert settings() == before


def test_sums_by_layers_are_made_within(convolutional, monkeypatch):
    inside, seen = [], []
    weighted = Weight.weighted

    @contextmanager
    def watched(device):
        inside.append(device.type)
        yield
        inside.clear()

    def noted(self, weights):
        seen.append(list(inside))
        return weighted(self, weights)

    monkeypatch.setattr(clipping, "full_precision", watched)
    monkeypatch.setattr(Weight, "weighted", noted)
    generator = torch.Generator().manual_seed(0)
    batch = PatientBatch(
        torch.randn(4, 1, 6, 6, generator=generator), torch.tensor([0, 1, 0, 1]), np.arange(5)
    )
    gradients = PatientGradients(convolutional, PatientLoss(), "bookkeeping")
    clipping.clipped_sum(gradients, torch.linspace(-0.5, 0.5, 146), batch, 1.0)
    assert seen
    assert all(found == ["cpu"] for found in seen)


def eleven_bits(values):
    """float32 as TF32 has it, rounded to the nearest."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def test_eleven_bits_would_pass_the_margin_and_all_of_them_do_not():
    """What the guard is for, emulated: the norm of a layer's own weighted gradient over what its norm promised."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 32, 4, 4, generator=generator).relu()
    back = torch.randn(32, 32, 4, 4, generator=generator)
    layer = Weight(0, Geometry((32, 32, 3, 3), 1, (1, 1), (1, 1), (1, 1)), inputs, back)
    short = Weight(0, layer.geometry, eleven_bits(inputs), eleven_bits(back))
    promised, margin = layer.squared_norms().sqrt(), 2.0**-17

    def excess(of):
        alone = torch.eye(len(inputs), dtype=torch.float64)
        return max(float(of.weighted(one).double().norm() / one.dot(promised)) for one in alone) - 1

    assert excess(layer) < margin / 4
    assert excess(short) > margin
