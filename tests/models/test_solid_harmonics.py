"""Solid harmonic scattering against direct convolution, published harmonics, and what it leaves unmoved."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model
from fedimg.models.scattering_classifier import NormalisedSolidHarmonics
from fedimg.models.solid_harmonics import HARMONICS, SolidHarmonics, wavelets

SIDE = 28
CONFIG = ModelConfig(name="scattering", dimensions=3, image_size=(SIDE,) * 3)
POINTS = st.tuples(*[st.floats(-2, 2)] * 3)


@pytest.fixture(scope="module")
def scattering():
    return SolidHarmonics((SIDE,) * 3)


@pytest.fixture(scope="module")
def normalised():
    return NormalisedSolidHarmonics(CONFIG)


def _value(polynomial, point):
    return sum(
        c * math.prod(x**n for x, n in zip(point, powers, strict=True)) for powers, c in polynomial.items()
    )


def _laplacian(polynomial):
    found = {}
    for powers, c in polynomial.items():
        for axis, n in enumerate(powers):
            if n > 1:
                lower = tuple(p - 2 * (k == axis) for k, p in enumerate(powers))
                found[lower] = found.get(lower, 0.0) + c * n * (n - 1)
    return found


def _bodies(centres, side=SIDE, width=2.0):
    """A sum of Gaussians at `centres` (n, 3), in voxels from the middle, each as bright as its number: (1, D, H, W)."""
    at = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 3, indexing="ij"), axis=-1)
    total = sum(
        (k + 1) * np.exp(-((at - centre) ** 2).sum(-1) / (2 * width**2)) for k, centre in enumerate(centres)
    )
    return torch.from_numpy(total).float()[None]


def _rotation(seed):
    """A random proper rotation (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_are_harmonic_and_homogeneous(degree):
    assert len(HARMONICS[degree - 1]) == 2 * degree + 1
    for polynomial in HARMONICS[degree - 1]:
        assert {sum(powers) for powers in polynomial} == {degree}
        assert all(abs(c) < 1e-12 for c in _laplacian(polynomial).values())


@given(point=POINTS, degree=st.integers(1, 3))
def test_squares_of_a_degree_add_up_to_the_distance(point, degree):
    # Unsöld's theorem, of harmonics of which r^l·√(4π / (2l + 1)) is taken out
    squares = sum(_value(p, point) ** 2 for p in HARMONICS[degree - 1])
    assert squares == pytest.approx(sum(x * x for x in point) ** degree, abs=1e-9)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_span_the_spherical_ones(degree):
    """Inner products of values at points: a rotation of one basis into the other keeps them."""
    points = np.random.default_rng(3).normal(size=(40, 3))
    radius = np.linalg.norm(points, axis=1)
    theta, phi = np.arccos(points[:, 2] / radius), np.arctan2(points[:, 1], points[:, 0])
    theirs = np.stack([sph_harm_y(degree, m, theta, phi) for m in range(-degree, degree + 1)])
    theirs = theirs * radius**degree * np.sqrt(4 * np.pi / (2 * degree + 1))
    ours = np.array([[_value(p, point) for point in points] for p in HARMONICS[degree - 1]])
    assert np.allclose(ours.T @ ours, (theirs.conj().T @ theirs).real, atol=1e-9)
    assert not np.allclose(ours[1:].T @ ours[1:], (theirs.conj().T @ theirs).real, atol=1e-2)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_wavelets_are_the_formula_and_see_no_brightness(degree):
    shape, scale = (9, 12, 10), 1
    sigma = 0.6 * 2**scale
    expected = np.zeros((2 * degree + 1, *shape))
    for index in np.ndindex(*shape):
        for shift in product(range(-2, 3), repeat=3):
            r = [(i + s * n) / sigma for i, s, n in zip(index, shift, shape, strict=True)]
            bell = math.exp(-sum(x * x for x in r) / 2) / ((2 * math.pi) ** 1.5 * sigma**3)
            expected[(slice(None), *index)] += [bell * _value(p, r) for p in HARMONICS[degree - 1]]
    expected /= (degree / math.e) ** (degree / 2)
    found = wavelets(shape, scale, degree)
    assert np.abs(found - expected).max() < 1e-12
    assert np.abs(found.sum(axis=(1, 2, 3))).max() < 1e-12


def _reflected(volume, front, total):
    """Mirror without repeating the edge, by index arithmetic."""
    indices = []
    for size, whole in zip(volume.shape, total, strict=True):
        position = (np.arange(whole) - front) % (2 * (size - 1))
        indices.append(np.where(position < size, position, 2 * (size - 1) - position))
    return volume[np.ix_(*indices)]


def _convolved(kernel, signal):
    """Circular convolution as a sum over all shifts."""
    found = np.zeros_like(signal)
    for shift in np.ndindex(*signal.shape):
        found += signal[shift] * np.roll(kernel, shift, axis=(0, 1, 2))
    return found


def test_coefficients_are_those_of_a_direct_convolution():
    """By sums over voxels, with no Fourier transform; the common factor is read off the first coefficient."""
    side, pad, total = 8, 6, (20,) * 3
    volume = np.random.default_rng(5).normal(size=(side,) * 3)
    inside = (slice(pad, pad + side),) * 3
    padded = _reflected(volume, pad, total)

    def modulus(signal, scale, degree):
        return np.sqrt(sum(_convolved(kernel, signal) ** 2 for kernel in wavelets(total, scale, degree)))

    first = modulus(padded, 0, 2)
    expected = {
        (0, 2): first[inside].mean(),
        (1, 1): modulus(padded, 1, 1)[inside].mean(),
        (0, 2, 1): modulus(first, 1, 2)[inside].mean(),
    }
    transform = SolidHarmonics((side,) * 3)
    coefficients = transform(torch.from_numpy(volume).float()[None])[1][0]
    found = dict(zip(transform.paths, coefficients.tolist(), strict=True))
    factor = found[0, 2] / expected[0, 2]
    assert 0.5 < factor < 1.5
    assert found[1, 1] == pytest.approx(factor * expected[1, 1], rel=1e-5)
    assert found[0, 2, 1] == pytest.approx(factor**2 * expected[0, 2, 1], rel=1e-5)
    assert found[0, 2, 1] != pytest.approx(factor * expected[0, 2, 1], rel=1e-2)


def test_what_is_averaged_is_a_gaussian_around_each_cell(scattering):
    volume = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found = scattering(volume)[0].reshape(7, 7, 7)
    padded = _reflected(volume[0].numpy(), 6, (40,) * 3)
    for cell in ((0, 0, 0), (3, 5, 1), (6, 6, 6)):
        # 28 voxels, 7 cells of 4: their centres lie between two voxels
        axes = [np.arange(40) - 6 - (4 * c + 1.5) for c in cell]
        bell = np.exp(-sum(a**2 for a in np.meshgrid(*axes, indexing="ij")) / (2 * 1.6**2))
        assert float(found[cell]) == pytest.approx(
            (padded * bell).sum() / (2 * np.pi * 1.6**2) ** 1.5, abs=1e-4
        )


@pytest.mark.parametrize(("size", "scales"), [((28, 28, 28), 2), ((16, 24, 20), 2), ((28, 28, 28), 3)])
def test_no_frequency_is_amplified_and_one_is_kept_whole(size, scales):
    transform = SolidHarmonics(size, scales)
    shape = transform._shape
    power = sum(bank.abs().double().square().sum(dim=0) for bank in transform._wavelets.values())
    axes = [2 * np.pi * np.fft.fftfreq(n) for n in shape[:2]] + [2 * np.pi * np.fft.rfftfreq(shape[2])]
    # the Gaussian's own transform, with the frequencies that sampling folds onto these
    bells = [
        sum(np.exp(-((0.8 * 2.0 ** (scales - 1) * (w + 2 * np.pi * k)) ** 2) / 2) for k in range(-2, 3))
        for w in axes
    ]
    low = np.einsum("i,j,k->ijk", *bells) ** 2
    total = power.numpy() + low
    assert total.max() == pytest.approx(1.0, abs=1e-5)
    # by a factor larger by a hundredth it would be
    assert (1.01 * power.numpy() + low)[power.numpy() > 0].max() > 1 + 1e-6


@given(seed=st.integers(0, 10**6), sparse=st.booleans())
@settings(max_examples=15, deadline=None)
def test_energy_is_at_most_that_of_the_volume(scattering, seed, sparse):
    """‖S₁‖² + ‖S₂‖² ≤ mean of x², on a torus; mirrored margins are not brighter than a volume that is the same all over."""
    generator = torch.Generator().manual_seed(seed)
    volume = torch.randn(1, SIDE, SIDE, SIDE, generator=generator)
    if sparse:
        volume = volume * (torch.rand(volume.shape, generator=generator) < 0.02)
    coefficients = scattering(volume)[1]
    padded = torch.from_numpy(_reflected(volume[0].numpy(), 6, (40,) * 3))
    # A mean over the inner part of U has a square of at most ‖U‖²/28³.
    assert float(coefficients.square().sum()) <= float(padded.square().sum()) / SIDE**3


@given(shift=st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=10, deadline=None)
def test_moving_a_body_moves_no_coefficient_but_the_places(scattering, shift):
    body = torch.zeros(1, SIDE, SIDE, SIDE)
    body[:, 12:16, 11:17, 13:15] = 1.0
    local, still = scattering(body)
    moved_local, moved = scattering(body.roll(shift, dims=(1, 2, 3)))
    # Of the coarsest second order σ is 1.2: its reach ends within the volume.
    assert torch.allclose(moved, still, rtol=1e-4, atol=1e-6)
    if all(n == 0 for n in shift):
        assert torch.equal(moved_local, local)
    else:
        assert float((moved_local - local).abs().max()) > 1e-3


def test_four_voxels_move_the_places_by_one_cell(scattering):
    body = torch.zeros(1, SIDE, SIDE, SIDE)
    body[:, 12:16, 11:17, 13:15] = 1.0
    still, moved = (scattering(x)[0].reshape(7, 7, 7) for x in (body, body.roll(4, dims=2)))
    assert torch.allclose(moved, still.roll(1, dims=1), atol=1e-6)
    assert not torch.allclose(moved, still, atol=1e-3)


@pytest.mark.parametrize("axes", [(1, 2), (1, 3), (2, 3)])
def test_quarter_turns_and_mirrors_change_no_coefficient(scattering, axes):
    volume = torch.randn(1, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    still = scattering(volume)[1]
    for other in (torch.rot90(volume, 1, axes), volume.flip(axes[0])):
        assert torch.allclose(scattering(other)[1], still, rtol=1e-4)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_turning_a_body_by_any_angle_changes_coefficients_little(scattering, seed):
    """A body that voxels resolve; the bounds are what sampling leaves, and a thicker body is far outside them."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-4, 4, size=(4, 3))
    rotation = _rotation(seed)
    still, turned = (scattering(_bodies(c))[1] for c in (centres, centres @ rotation.T))
    thicker = scattering(_bodies(centres, width=2.5))[1]
    assert float((turned - still).norm()) < 0.01 * float(still.norm())
    assert float((thicker - still).norm()) > 0.1 * float(still.norm())
    coarse = [number for number, path in enumerate(scattering.paths) if path[0] == 1]
    assert torch.allclose(turned[:, coarse], still[:, coarse], rtol=0.003)


def test_a_single_wavelet_would_not_stand_still():
    """What turning leaves alone is the sum over a degree, not each of its wavelets."""
    body = _bodies(np.array([[-4.0, 0, 0], [4.0, 0, 0]]), side=24)[0].numpy()
    turned = np.rot90(body, 1, (0, 1))
    spectra = [np.fft.fftn(w) for w in wavelets((24,) * 3, 1, 1)]
    alone = [np.abs(np.fft.ifftn(np.fft.fftn(x) * spectra[0])).mean() for x in (body, turned)]
    assert abs(alone[0] - alone[1]) > 0.05 * alone[0]


def test_features_are_finite_and_zero_of_a_ball(normalised):
    flat = normalised(torch.full((1, 1, SIDE, SIDE, SIDE), -2.0))[0]
    assert torch.isfinite(flat).all()
    assert float(flat[:343].abs().max()) < 1e-5
    at = np.stack(np.meshgrid(*[np.arange(SIDE) - 13.5] * 3, indexing="ij"))
    ball = 4.0 * (np.sqrt((at**2).sum(axis=0)) < SIDE / 8) - 2.0
    shape = normalised(torch.from_numpy(ball).float()[None, None])[0, 343:]
    assert float(shape.abs().max()) < 1e-3
    assert float(flat[343:].abs().max()) > 1.0


def test_brightness_is_not_seen_and_contrast_by_one_feature_alone(normalised):
    volume = torch.zeros(1, 1, SIDE, SIDE, SIDE)
    volume[..., 9:19, 8:20, 10:18] = 4.0
    still = normalised(volume)
    assert torch.allclose(normalised(volume + 1.0), still, atol=2e-3)
    brighter = normalised(2.0 * volume)[0, 343:] - still[0, 343:]
    assert float(brighter[0]) == pytest.approx(8 * math.log(2), abs=0.05)
    # By how much a floor of 1e-4 holds down coefficients of 1e-2: 8 · ln(1 + 1e-2 / 2).
    assert float(brighter[1:].abs().max()) < 0.04


def test_thickness_is_told_apart_at_equal_volume(normalised):
    """A plate and a block of 256 voxels: what hyperplasia is, and a volume's mean cannot see."""
    plate, block = torch.zeros(1, 1, SIDE, SIDE, SIDE), torch.zeros(1, 1, SIDE, SIDE, SIDE)
    plate[..., 13:14, 6:22, 6:22] = 4.0
    block[..., 12:16, 10:18, 10:18] = 4.0
    assert float(plate.sum()) == float(block.sum())
    difference = normalised(plate)[0, 343:] - normalised(block)[0, 343:]
    assert float(difference.norm()) > 4.0


def test_channels_and_volumes_are_treated_one_by_one():
    images = torch.randn(6, 2, 16, 20, 16, generator=torch.Generator().manual_seed(3))
    config = ModelConfig(name="scattering", dimensions=3, channels=2, image_size=(16, 20, 16))
    features = NormalisedSolidHarmonics(config)
    together = features(images)
    assert together.shape == (6, features.size)
    assert torch.equal(together, features(images))
    assert torch.allclose(together[4:5], features(images[4:5]), atol=1e-4)
    one = NormalisedSolidHarmonics(ModelConfig(name="scattering", dimensions=3, image_size=(16, 20, 16)))
    assert torch.allclose(together[:, one.size :], one(images[:, 1:]), atol=1e-4)


@pytest.mark.parametrize("name", ["scattering", "logistic"])
def test_a_network_of_volumes_is_built(name):
    network = build_model(ModelConfig(name=name, dimensions=3, image_size=(16, 16, 16)), 0)
    logits = network.apply(
        torch.from_numpy(network.initial.copy()).float(), network.features(torch.randn(2, 1, 16, 16, 16))
    )
    assert logits.shape == (2, 2)


def test_too_small_a_volume_is_refused():
    with pytest.raises(ConfigError, match="larger than 6 pixels for scattering at scales=2; found 4 pixels"):
        SolidHarmonics((4, 28, 28))
