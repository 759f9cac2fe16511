import numpy as np
import pytest

from fedimg.imaging.config import EnhancementConfig, ImagingConfig
from fedimg.imaging.enhancement import enhance
from fedimg.imaging.preprocessing import prepare

RNG = np.random.default_rng(0)
STEP = np.where(np.arange(40) < 20, 0.3, 0.7) * np.ones((40, 1))
NOISY = np.clip(STEP + RNG.normal(0, 0.05, (1, 40, 40)), 0, 1).astype(np.float32)
ALL = [
    EnhancementConfig(denoise="median"),
    EnhancementConfig(denoise="gaussian"),
    EnhancementConfig(denoise="nlm"),
    EnhancementConfig(clahe=True),
    EnhancementConfig(denoise="median", clahe=True),
]


def test_nothing_asked_nothing_done():
    assert enhance(NOISY, EnhancementConfig()) is NOISY


@pytest.mark.parametrize("config", ALL)
def test_shape_range_determinism_and_independent_slices(config):
    stack = np.concatenate([NOISY, NOISY[:, ::-1]])
    out = enhance(stack, config)
    assert out.dtype == np.float32
    assert out.shape == stack.shape
    assert out.min() >= 0
    assert out.max() <= 1
    np.testing.assert_array_equal(out, enhance(stack, config))
    np.testing.assert_array_equal(out[1], enhance(stack[1:], config)[0])
    assert not np.array_equal(out, stack)


@pytest.mark.parametrize("config", ALL)
def test_a_constant_frame_stays_constant(config):
    flat = np.full((1, 16, 16), 0.4, np.float32)
    np.testing.assert_allclose(enhance(flat, config), flat, atol=1e-6)


def test_the_median_is_the_median_of_each_neighbourhood():
    out = enhance(NOISY, EnhancementConfig(denoise="median", median_px=3))[0]
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(NOISY[0], 1, mode="edge"), (3, 3))
    np.testing.assert_array_equal(out, np.median(windows, axis=(2, 3)))


def test_the_gaussian_halves_white_noise_as_theory_says():
    white = RNG.normal(0.5, 0.05, (1, 200, 200)).astype(np.float32)
    out = enhance(white, EnhancementConfig(denoise="gaussian", gaussian_px=1.0))
    # Variance of white noise through a Gaussian of s.d. s: ÷ 4πs² (continuous limit, 1 % off at s = 1).
    assert out.std() == pytest.approx(0.05 / np.sqrt(4 * np.pi), rel=0.05)


def test_nonlocal_means_takes_noise_and_leaves_the_edge():
    out = enhance(NOISY, EnhancementConfig(denoise="nlm", nlm_strength=0.08))[0]
    assert out[:, :18].std() < NOISY[0][:, :18].std() / 2
    assert out[:, 21].mean() - out[:, 18].mean() > 0.35  # of a step of 0.4


def test_clahe_raises_faint_contrast_and_one_tile_is_histogram_equalisation():
    faint = (0.5 + 0.05 * (NOISY - 0.5)).astype(np.float32)
    assert enhance(faint, EnhancementConfig(clahe=True))[0].std() > 3 * faint.std()
    # Without a clip limit and with a single tile every pixel goes to its rank, up to the 256 bins.
    image = RNG.beta(2, 5, (1, 64, 64)).astype(np.float32)
    out = enhance(image, EnhancementConfig(clahe=True, clahe_tiles=1, clahe_clip_limit=1.0))[0]
    rank = np.argsort(np.argsort(image.ravel())) / (image.size - 1)
    assert np.corrcoef(out.ravel(), rank)[0, 1] > 0.99


def test_padding_is_not_enhanced(decoded, noise):
    config = ImagingConfig(image_size=(32, 32), enhancement=EnhancementConfig(clahe=True))
    wide = prepare(decoded(noise((16, 32))), config)[0].image_CDHW[0, 0]
    assert (wide[:8] == -2).all()  # black: (0 − 0.5) ÷ 0.25
    assert (wide[24:] == -2).all()
