import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.imaging.config import CleaningConfig, ImagingConfig, IntensityConfig
from fedimg.imaging.preprocessing import Rejected, prepare, prepare_series, preprocess
from fedimg.values import Quarantine

SAME_SIZE = ImagingConfig(image_size=(32, 32))
FIXTURES = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)


@FIXTURES
@given(
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    frames=st.integers(1, 3),
    mm=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    seed=st.integers(0, 99),
    spacing=st.sampled_from([None, (1.0, 1.0), (0.7, 2.0)]),
    fit=st.sampled_from(["letterbox", "stretch"]),
)
def test_any_good_image_gives_the_same_finite_floats_of_the_configured_shape(
    decoded, noise, height, width, frames, mm, seed, spacing, fit
):
    config = ImagingConfig(image_size=(16, 24), spacing_mm=spacing, fit=fit)
    image = decoded(noise((frames, height, width), seed), (1.0, *mm))
    first, second = prepare(image, config), prepare(image, config)
    assert len(first) == frames
    for one, other in zip(first, second, strict=True):
        assert one.image_CDHW.shape == (1, 1, 16, 24)
        assert one.image_CDHW.dtype == np.float32
        assert np.isfinite(one.image_CDHW).all()
        assert one.image_CDHW.tobytes() == other.image_CDHW.tobytes()
        # (x − 0.5) ÷ 0.25 of x in [0, 1] lies in [−2, 2]
        assert -2 - 1e-5 <= one.image_CDHW.min() <= one.image_CDHW.max() <= 2 + 1e-5
        if spacing is not None:
            assert one.spacing_mm[1:] == pytest.approx(spacing, rel=1e-3)


def test_ct_is_windowed_by_the_public_constants_whatever_the_file_says(decoded, noise):
    hounsfield = noise(low=-1000, high=1000)
    config = replace(SAME_SIZE, intensity=IntensityConfig(hu_window=(40, 400), mean=0.5, std=0.25))
    image = decoded(hounsfield, modality="CT", units="HU", window=(-600.0, 1500.0))
    expected = (np.clip((hounsfield + 160) / 400, 0, 1) - 0.5) / 0.25  # −160 … 240 HU
    np.testing.assert_allclose(prepare(image, config)[0].image_CDHW[0, 0], expected, atol=1e-5)


def test_other_modalities_take_the_files_window_else_percentiles_of_their_own(decoded, noise):
    values = noise(low=0, high=4000)
    with_window = prepare(decoded(values, window=(1000.0, 2000.0)), SAME_SIZE)[0].image_CDHW[0, 0]
    np.testing.assert_allclose(with_window, (np.clip(values / 2000, 0, 1) - 0.5) / 0.25, atol=1e-5)
    low, high = np.quantile(values.astype(np.float64), [0.005, 0.995])
    without = prepare(decoded(values), SAME_SIZE)[0].image_CDHW[0, 0]
    np.testing.assert_allclose(
        without, (np.clip((values - low) / (high - low), 0, 1) - 0.5) / 0.25, atol=1e-4
    )


def test_a_useless_window_in_a_file_is_not_used(decoded, noise):
    values = noise()
    plain = prepare(decoded(values), SAME_SIZE)[0].image_CDHW
    for window in [(50.0, 0.0), (50.0, -3.0), (float("nan"), 10.0), (50.0, float("inf"))]:
        np.testing.assert_array_equal(prepare(decoded(values, window=window), SAME_SIZE)[0].image_CDHW, plain)


@FIXTURES
@given(seed=st.integers(0, 999), fill=st.sampled_from([0.0, 1e6, -5.0]))
def test_what_lies_under_the_mask_of_deidentification_changes_nothing(decoded, noise, seed, fill):
    rng = np.random.default_rng(seed)
    mask = rng.random((1, 32, 32)) < 0.2
    values = noise((1, 32, 32), seed)
    results = [
        prepare(decoded(np.where(mask, under, values), mask_DHW=mask), SAME_SIZE)[0].image_CDHW
        for under in (fill, rng.normal(0, 1e4, values.shape))
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0][0, 0][mask[0]] == -2.0).all()  # black: (0 − 0.5) ÷ 0.25


def test_a_round_lesion_stays_round_and_keeps_its_millimetres(decoded, disc, noise):
    spacing, size = (0.5, 1.25), (120, 60)  # 60 mm × 75 mm
    lesion = disc(size, spacing, 20.0)
    config = ImagingConfig(image_size=(48, 48), intensity=IntensityConfig(mean=0.0, std=1.0))
    image = decoded(lesion, (1.0, *spacing), window=(50.0, 100.0))
    for changed in (config, replace(config, spacing_mm=(1.0, 1.0))):
        out = prepare(image, changed)[0]
        plane, (_, mm_h, mm_w) = out.image_CDHW[0, 0], out.spacing_mm
        area_mm2 = plane.sum() * mm_h * mm_w
        assert area_mm2 == pytest.approx(np.pi * 10**2, rel=0.02)
        rows, columns = (plane.max(axis=axis) > 0.5 for axis in (1, 0))
        assert rows.sum() * mm_h == pytest.approx(20, abs=2 * mm_h)
        assert columns.sum() * mm_w == pytest.approx(20, abs=2 * mm_w)


def test_patient_and_label_come_from_the_record(decoded, noise, record):
    volume = preprocess(decoded(noise()), record(patient="key-7", label=3), SAME_SIZE)[0]
    assert (volume.patient_key, volume.label) == ("key-7", 3)


def test_bad_frames_of_a_cine_are_left_out_and_the_others_kept_in_order(decoded, noise):
    frames = np.stack([noise(seed=1), np.full((32, 32), 7), noise(seed=2), noise(seed=1), noise(seed=3)])
    frames[4, 0, 0] = np.nan
    kept = prepare(decoded(frames, window=(50.0, 100.0)), SAME_SIZE)
    alone = [prepare(decoded(noise(seed=s), window=(50.0, 100.0)), SAME_SIZE)[0] for s in (1, 2)]
    assert len(kept) == 2  # blank, repeated and NaN frames are gone
    for one, other in zip(kept, alone, strict=True):
        np.testing.assert_array_equal(one.image_CDHW, other.image_CDHW)


def test_frames_of_a_long_cine_are_taken_evenly(decoded, noise):
    frames = np.stack([noise(seed=s) for s in range(11)])
    config = replace(SAME_SIZE, frames_per_file=3, intensity=IntensityConfig(file_window=True))
    kept = prepare(decoded(frames, window=(50.0, 100.0)), config)
    every = prepare(decoded(frames, window=(50.0, 100.0)), replace(config, frames_per_file=None))
    assert [any(np.array_equal(k.image_CDHW, e.image_CDHW) for k in kept) for e in every] == [
        i in (0, 5, 10) for i in range(11)
    ]


def test_a_volume_is_one_example_with_three_dimensions(decoded, noise):
    config = ImagingConfig(dimensions=3, image_size=(8, 16, 16))
    (volume,) = prepare(decoded(noise((12, 20, 20)), (2.0, 1.0, 1.0)), config)
    assert volume.image_CDHW.shape == (1, 8, 16, 16)
    assert volume.spacing_mm == pytest.approx((3.0, 1.25, 1.25))  # 24 mm ÷ 8, 20 mm ÷ 16


def test_a_series_of_files_gives_what_the_volume_gives(decoded, noise):
    config = ImagingConfig(dimensions=3, unit="series", image_size=(8, 16, 16))
    pixels = noise((12, 20, 20))
    slices = []
    for d in range(12):
        affine = np.diag([1.0, 1.0, 2.0, 1.0])
        affine[2, 3] = 2.0 * d
        slices.append(decoded(pixels[d], (9.9, 1.0, 1.0), affine))
    (stacked,) = prepare_series(slices[::-1], config)
    (whole,) = prepare(decoded(pixels, (2.0, 1.0, 1.0)), config)
    np.testing.assert_array_equal(stacked.image_CDHW, whole.image_CDHW)
    assert stacked.spacing_mm == whole.spacing_mm


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda a: np.full_like(a, 3), Quarantine.PIXELS_BLANK),
        (lambda a: np.where(np.arange(32 * 32).reshape(32, 32) < 5, 900, 3), Quarantine.PIXELS_BLANK),
        (lambda a: np.where(a > 40, 40, a), Quarantine.PIXELS_CLIPPED),
        (lambda a: np.where(a > 99, np.nan, a), Quarantine.PIXELS_NOT_FINITE),
        (lambda a: np.where(a > 99, np.inf, a), Quarantine.PIXELS_NOT_FINITE),
        (lambda a: a[:, :7], Quarantine.WRONG_SHAPE),
        (lambda a: a[None, None], Quarantine.WRONG_SHAPE),
        (lambda a: a.ravel(), Quarantine.WRONG_SHAPE),
        (lambda a: a[None, :0], Quarantine.WRONG_SHAPE),
    ],
)
@pytest.mark.parametrize("config", [SAME_SIZE, ImagingConfig(dimensions=3, image_size=(4, 16, 16))])
def test_spoilt_images_are_rejected_with_their_reason(decoded, noise, spoil, reason, config):
    with pytest.raises(Rejected) as refusal:
        prepare(decoded(spoil(noise())), config)
    assert refusal.value.reason is reason


def test_black_surroundings_are_no_reason_to_reject(decoded, disc):
    # An ultrasound fan or a chest in a wide field: most pixels share the *lowest* value.
    prepare(decoded(disc((32, 32), (1, 1), 12.0)), SAME_SIZE)


def test_broken_geometry_is_rejected(decoded, noise):
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    nan = np.diag([1.0, 1.0, np.nan, 1.0])
    for image in (
        decoded(noise(), (1.0, 0.0, 1.0), np.eye(4)),
        decoded(noise(), (1.0, float("nan"), 1.0), np.eye(4)),
        decoded(noise(), (1.0, 1.0, 9e-4), np.eye(4)),
        decoded(noise(), (1001.0, 1.0, 1.0), np.eye(4)),
        decoded(noise(), affine=flat),
        decoded(noise(), affine=nan),
        decoded(noise(), mask_DHW=np.zeros((1, 3, 3), bool)),
    ):
        with pytest.raises(Rejected) as refusal:
            prepare(image, SAME_SIZE)
        assert refusal.value.reason is Quarantine.WRONG_SHAPE


def test_resampling_cannot_be_made_to_fill_the_memory(decoded, noise):
    tiny_pixels = replace(SAME_SIZE, spacing_mm=(0.01, 0.01), cleaning=CleaningConfig(largest_voxels=10**6))
    with pytest.raises(Rejected, match="too large"):
        prepare(decoded(noise(), (1.0, 1.0, 1.0)), tiny_pixels)


def test_the_message_says_what_why_and_what_to_do(decoded):
    with pytest.raises(Rejected) as refusal:
        prepare(decoded(np.zeros((4, 32, 5))), SAME_SIZE)
    assert str(refusal.value) == (
        "expected pixels and geometry that fit the task; "
        "found a side of 5 px, least 8 (wrong_shape); convert it first"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (64,)}, r"imaging.image_size of 2 numbers from 1 to 16384, \(H, W\); found \(64,\)"),
        ({"dimensions": 3}, r"imaging.image_size of 3 numbers from 1 to 16384, \(D, H, W\)"),
        ({"unit": "series"}, "each frame is one example in 2 dimensions"),
        ({"spacing_mm": (1.0, 0.0)}, "imaging.spacing_mm of 2 numbers from 0.001 to 1000"),
        ({"intensity": IntensityConfig(std=0.0)}, "imaging.intensity.std"),
        ({"intensity": IntensityConfig(percentiles=(9.0, 9.0))}, "0 ≤ low < high ≤ 100"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        ImagingConfig(**changes)


def test_the_digest_moves_with_every_key_that_moves_pixels():
    start = ImagingConfig()
    assert start.digest == ImagingConfig().digest
    changed = [
        replace(start, image_size=(64, 65)),
        replace(start, spacing_mm=(1.0, 1.0)),
        replace(start, fit="stretch"),
        replace(start, channels=3),
        replace(start, frames_per_file=4),
        replace(start, intensity=IntensityConfig(mean=0.4)),
        replace(start, cleaning=CleaningConfig(blank_fraction=0.02)),
        replace(start, enhancement=replace(start.enhancement, clahe=True)),
    ]
    assert len({c.digest for c in [start, *changed]}) == 1 + len(changed)
    assert replace(start, augmentation=replace(start.augmentation, copies=4)).digest == start.digest


def test_the_default_way_is_quick_enough_for_a_hospital(decoded, noise):
    # The floor is 300 images a second and core; measured 8,000 (64²) and 1,800 (96² → 64²).
    images = [decoded(noise((96, 96), seed)) for seed in range(30)]
    config = ImagingConfig()
    best = min(_seconds(images, config) for _ in range(3))
    assert len(images) / best >= 300


def _seconds(images, config):
    start = time.perf_counter()
    for image in images:
        prepare(image, config)
    return time.perf_counter() - start
