"""Scanners: noise, blur and gain are as their sheet says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fedimg.cohort.scanners import acquire, scanner_of

FLAT = np.full((128, 128), 0.5, np.float32)


def seen(modality, values=FLAT, noise=1.0, **changes):
    scanner = replace(scanner_of(0), **changes)
    return acquire(values, modality, scanner, noise, np.random.default_rng(0))


@pytest.mark.parametrize(("modality", "deviation"), [("MR", 0.030), ("CR", 0.022), ("US", 0.015)])
def test_noise_has_its_stated_size(modality, deviation):
    calm = {"gain": 1.0, "gamma": 1.0, "shading": 0.0}
    image = seen(modality, **calm)
    # 128² independent samples: the estimate is good to 0.6 %
    assert image.std() == pytest.approx(deviation * scanner_of(0).noise, rel=0.03)
    assert seen(modality, noise=3.0, **calm).std() == pytest.approx(3 * image.std(), rel=0.03)


def test_ct_noise_grows_with_the_scanner_and_keeps_the_mean():
    flat = np.full((128, 128), 40, np.float32)
    quiet, loud = (
        acquire(flat, "CT", replace(scanner_of(0), noise=n), 1.0, np.random.default_rng(0)) for n in (1, 2)
    )
    assert (loud - 40).std() == pytest.approx(2 * (quiet - 40).std(), rel=1e-3)
    assert quiet.mean() == pytest.approx(40, abs=1)


def test_blur_spreads_an_edge_and_keeps_its_sum():
    point = np.zeros((64, 64), np.float32)
    point[32, 32] = 1
    image = seen("CR", point, noise=0.0, gain=1.0, gamma=1.0, blur_px=2.0)
    assert image.sum() == pytest.approx(1, rel=1e-3)
    spread = (image.sum(0) * (np.arange(64) - 32) ** 2).sum()
    assert spread == pytest.approx(4, rel=0.05)


def test_gain_and_gamma_change_brightness_as_powers():
    image = seen("CR", noise=0.0, gain=1.2, gamma=2.0)
    assert image == pytest.approx(1.2 * 0.25, rel=1e-5)


def test_shading_is_a_matter_of_mr_alone():
    assert seen("MR", noise=0.0, shading=0.3).std() > 0.05
    assert seen("CR", noise=0.0, shading=0.3).std() < 1e-6


def test_every_hospital_has_a_scanner_of_its_own():
    scanners = [scanner_of(h) for h in range(30)]
    assert len(set(scanners)) == 30
    assert scanners[17] == scanner_of(17)
    assert all(250 < s.field_of_view_mm < 450 and 0 < s.noise < 3 for s in scanners)
