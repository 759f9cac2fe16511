"""Scattering against a direct convolution that knows no Fourier transform, and its invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.models.scattering import Scattering, ScatteringGrid, morlet


def _reflected(image, front, total):
    """Mirror without repeating the edge, by index arithmetic."""
    indices = []
    for axis, size in enumerate(image.shape):
        period = 2 * (size - 1)
        position = (np.arange(total[axis]) - front) % period
        indices.append(np.where(position < size, position, period - position))
    return image[np.ix_(*indices)]


def _wavelet(shape, scale, orientation, orientations):
    """The Morlet wavelet from its formula, summed over nine periods along each axis."""
    sigma, xi, slant = 0.8 * 2**scale, 3 * np.pi / 4 / 2**scale, 4 / orientations
    angle = (orientations / 2 - 1 - orientation) * np.pi / orientations
    gabor, gauss = np.zeros(shape, complex), np.zeros(shape)
    for a in range(-4, 5):
        for b in range(-4, 5):
            y = (np.arange(shape[0]) + a * shape[0])[:, None]
            x = (np.arange(shape[1]) + b * shape[1])[None, :]
            u, v = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
            bell = np.exp(-(u**2 + slant**2 * v**2) / (2 * sigma**2)) * slant / (2 * np.pi * sigma**2)
            gauss += bell
            gabor += bell * np.exp(1j * xi * u)
    return gabor - gabor.sum() / gauss.sum() * gauss


def _convolved(kernel, signals, stride):
    """Circular convolution as a sum over all positions: signals (n, H, W) → every `stride`-th sample."""
    rows, columns = kernel.shape
    outputs = []
    for r in range(0, rows, stride):
        for c in range(0, columns, stride):
            around = kernel[np.ix_((r - np.arange(rows)) % rows, (c - np.arange(columns)) % columns)]
            outputs.append((signals * around).sum(axis=(-2, -1)))
    return np.stack(outputs, axis=-1).reshape(len(signals), rows // stride, columns // stride)


def _averaged(signal, size, pad, padded, scales, stride):
    """The Gaussian average of a strided signal around each feature position, in two dimensions at once."""
    sigma, step = 0.8 * 2 ** (scales - 1), 2**scales
    samples = [s // step for s in size]
    result = np.zeros(samples)
    for i in range(samples[0]):
        for j in range(samples[1]):
            y = pad + (size[0] - 1) / 2 + step * (i - (samples[0] - 1) / 2)
            x = pad + (size[1] - 1) / 2 + step * (j - (samples[1] - 1) / 2)
            dy = (np.arange(0, padded[0], stride) - y + padded[0] / 2) % padded[0] - padded[0] / 2
            dx = (np.arange(0, padded[1], stride) - x + padded[1] / 2) % padded[1] - padded[1] / 2
            bell = np.exp(-(dy[:, None] ** 2 + dx[None, :] ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)
            result[i, j] = (signal * bell).sum() * stride**2
    return result


def _direct(image, scales, orientations):
    """The features of one image by sums over pixels only."""
    step, pad = 2**scales, 3 * 2 ** (scales - 1)
    padded = [-(-(s + 2 * pad) // step) * step for s in image.shape]

    def average(signal, stride):
        return _averaged(signal, image.shape, pad, padded, scales, stride)

    plane = _reflected(image, pad, padded)[None]
    zeroth, first, second = [average(plane[0], 1)], [], []
    for j1 in range(scales):
        moduli = []
        for k1 in range(orientations):
            kernel = _wavelet(padded, j1, k1, orientations)
            moduli.append(np.abs(_convolved(kernel, plane, 2**j1))[0])
            first.append(average(moduli[-1], 2**j1))
        second += _direct_second(np.stack(moduli), j1, padded, scales, orientations, average)
    return np.stack(zeroth + first + second)


def _direct_second(moduli, j1, padded, scales, orientations, average):
    """Paths above scale j1, ordered by (θ₁, j₂, θ₂)."""
    paths = {}
    for j2 in range(j1 + 1, scales):
        for k2 in range(orientations):
            kernel = _wavelet(padded, j2, k2, orientations)[:: 2**j1, :: 2**j1] * 4**j1
            values = np.abs(_convolved(kernel, moduli, 2 ** (j2 - j1)))
            for k1 in range(orientations):
                paths[k1, j2, k2] = average(values[k1], 2**j2)
    return [paths[key] for key in sorted(paths)]


@pytest.mark.parametrize(
    ("shape", "scales", "orientations"), [((28, 28), 2, 8), ((16, 21), 2, 4), ((16, 20), 3, 2)]
)
def test_equals_a_direct_convolution(shape, scales, orientations):
    image = np.random.default_rng(5).normal(size=shape)
    expected = _direct(image, scales, orientations)
    found = Scattering(shape, scales, orientations)(torch.from_numpy(image).float()[None, None])[0].numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 2e-6 * np.abs(expected).max()


def test_a_wrong_angle_would_be_seen():
    image = np.random.default_rng(5).normal(size=(16, 21))
    expected = _direct(image, 2, 4)
    found = Scattering((16, 21), 2, 4)(torch.from_numpy(image).float()[None, None])[0].numpy()
    turned = np.concatenate([found[:1], np.roll(found[1:5], 1, axis=0), found[5:]])
    assert np.abs(turned - expected).max() > 1e-2 * np.abs(expected).max()


def test_28_pixels_give_the_published_81_by_7_by_7():
    # Tramèr and Boneh 2021, section 2.1: depth J = 2, L = 8 gives K = 81 channels of (H/4, W/4).
    features = Scattering((28, 28))(torch.zeros(2, 1, 28, 28))
    assert features.shape == (2, 81, 7, 7)
    grid = ScatteringGrid(28, 2)
    assert (grid.pad, grid.padded) == (6, 40)


@given(scale=st.integers(0, 3), orientation=st.integers(0, 7), side=st.integers(16, 48))
@settings(max_examples=25, deadline=None)
def test_a_wavelet_does_not_see_brightness(scale, orientation, side):
    assert abs(morlet((side, side + 4), scale, orientation, 8).sum()) < 1e-10


def test_a_flat_image_has_only_its_brightness():
    features = Scattering((28, 28))(torch.full((1, 1, 28, 28), 3.0))[0]
    # The sampled Gaussian of σ = 1.6 pixels sums to 1 within exp(−2π²σ²) ≈ 1e-22.
    assert torch.allclose(features[0], torch.tensor(3.0), atol=1e-5)
    assert float(features[1:].abs().max()) < 1e-5


def test_a_quarter_turn_turns_the_angles():
    # A turned image has the same first-order features at the turned place and angle (L/2 steps on).
    # At j = 0 nothing is sampled in between, so this is exact.
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    scattering = Scattering((32, 32))
    plain, turned = scattering(image)[0], scattering(torch.rot90(image, 1, (2, 3)))[0]
    expected = torch.rot90(plain[1:9].roll(4, dims=0), 1, (1, 2))
    assert torch.allclose(turned[1:9], expected, atol=1e-5)
    assert not torch.allclose(turned[1:9], torch.rot90(plain[1:9], 1, (1, 2)), atol=1e-2)


def test_a_small_shift_moves_features_less_than_pixels():
    image = torch.randn(1, 1, 28, 29, generator=torch.Generator().manual_seed(2))
    scattering = Scattering((28, 28))
    left, right = image[..., :28], image[..., 1:]
    features = scattering(left)
    moved = (scattering(right) - features).norm() / features.norm()
    assert float(moved) < 0.25 * float((left - right).norm() / left.norm())


def test_each_image_is_treated_alone_and_alike():
    images = torch.randn(19, 2, 24, 24, generator=torch.Generator().manual_seed(3))
    scattering = Scattering((24, 24))
    together = scattering(images)
    assert torch.equal(together, scattering(images))
    assert torch.allclose(together[7:8], scattering(images[7:8]), atol=1e-6)
    # Channels of an image are features of each colour, one after the other.
    assert torch.allclose(together[:, 81:], scattering(images[:, 1:]), atol=1e-6)


def test_too_small_an_image_is_refused():
    with pytest.raises(ConfigError) as refusal:
        Scattering((12, 64), scales=3)
    assert str(refusal.value) == (
        "expected an image larger than 16 pixels for scattering at scales=3; found 12 pixels; "
        "set a smaller model.scales or a larger image size"
    )
