"""The network refuses weights it was not tested with, and gives one answer wherever it runs."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from fedimg.dicom.text import network


def test_the_shipped_weights_are_the_pinned_ones_and_small():
    data = network.WEIGHTS.read_bytes()
    assert hashlib.sha256(data).hexdigest() == network.WEIGHTS_SHA256
    assert len(data) <= 2 * 1024 * 1024


def test_one_changed_bit_is_refused():
    data = bytearray(network.WEIGHTS.read_bytes())
    data[-1] ^= 1
    with pytest.raises(network.WeightsError, match="expected text detector weights with SHA-256"):
        network.opened(bytes(data), network.WEIGHTS_SHA256)


def test_missing_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "WEIGHTS", tmp_path / "absent")
    network.shipped.cache_clear()
    with pytest.raises(network.WeightsError, match="reinstall fedimg"):
        network.shipped()
    network.shipped.cache_clear()


@pytest.mark.parametrize("shape", [(1, 1), (9, 30), (64, 64), (100, 1300)])
def test_the_heat_map_has_a_cell_for_four_pixels(shape):
    plane = np.random.default_rng(0).normal(100, 9, shape).astype(np.float32)
    heat = network.heat(network.shipped(), plane, 0.0, 200.0)
    assert heat.shape == (-(-shape[0] // 4), -(-shape[1] // 4))
    assert 0 <= heat.min() <= heat.max() <= 1


def test_tiles_see_what_the_whole_shows(monkeypatch):
    plane = np.random.default_rng(1).normal(100, 9, (320, 400)).astype(np.float32)
    plane[100:110, 40:300:3] = 200
    whole = network.heat(network.shipped(), plane, 0.0, 200.0)
    monkeypatch.setattr(network, "_TILE", 128)
    # Equal but for the rim of the neighbourhoods that are taken coarsely.
    assert np.abs(network.heat(network.shipped(), plane, 0.0, 200.0) - whole).max() < 0.02


def test_the_threads_of_the_caller_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        network.heat(network.shipped(), np.zeros((32, 32), np.float32), 0.0, 1.0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_views_do_not_depend_on_offset_or_slope():
    plane = torch.from_numpy(np.random.default_rng(2).integers(0, 255, (1, 64, 64)).astype(np.float32))
    one = network.views_of(plane, torch.tensor([0.0]), torch.tensor([255.0]))
    scaled = network.views_of(plane * 200 + 5000, torch.tensor([5000.0]), torch.tensor([56_000.0]))
    assert torch.allclose(one, scaled, atol=0.02)
