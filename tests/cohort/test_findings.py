"""Ready findings: what is written of them is what the volume shows, measured by another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fedimg.cohort.chest import Chest
from fedimg.cohort.exams import BY_FINDING
from fedimg.cohort.findings import Body, Order, body_of
from fedimg.imaging.measurements.thorax import cardiothoracic_ratio

CT = [name for name, exam in BY_FINDING.items() if exam.modality == "CT"]
FIELD = 340.0


def made(finding: str, seed: int, *, sick: bool, contrast: float = 1.0, size: int = 96) -> Body:
    exam = BY_FINDING[finding]
    order = Order(size, 16, FIELD * exam.field, exam, sick, contrast)
    return body_of(finding, order, np.random.default_rng([seed, 3]))


@pytest.mark.parametrize("finding", CT)
@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_sick_and_healthy_differ_in_the_finding_alone(finding, seed):
    sick, hidden = made(finding, seed, sick=True), made(finding, seed, sick=True, contrast=0.0)
    assert sick.positive and sick.mask.any() and sick.measure > 0
    changed = np.abs(sick.values - hidden.values) > 1
    # the finding, and 6 mm around it: a rim of oedema and the half-filled voxels
    near = ndimage.distance_transform_edt(~sick.mask, sampling=(8.0, sick.pixel_mm, sick.pixel_mm))
    assert not changed[near > 18].any()
    assert changed[sick.mask].mean() > 0.8
    healthy = made(finding, seed, sick=False)
    assert not healthy.positive and not healthy.mask.any() and healthy.measure == 0


@pytest.mark.parametrize(("finding", "low", "high"), [("haemorrhage", 50, 90), ("infarct", 15, 25)])
@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_strokes_have_their_density_and_stand_out_of_the_brain(finding, low, high, seed):
    body = made(finding, seed, sick=True)
    core = ndimage.binary_erosion(body.mask, np.ones((1, 3, 3)))
    inside = body.values[core if core.any() else body.mask]
    assert low <= inside.mean() <= high
    brain = body.values[(body.values > 25) & (body.values < 42) & ~body.mask]
    assert 28 < np.median(brain) < 40
    assert (inside.mean() > 45) == (finding == "haemorrhage")


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_an_infarct_lies_on_one_side(seed):
    body = made("infarct", seed, sick=True)
    columns = np.nonzero(body.mask)[2] * body.pixel_mm - FIELD * BY_FINDING["infarct"].field / 2
    assert (columns > 8).any() != (columns < -8).any()  # a tilted head's midline is up to 5 mm aside


@pytest.mark.parametrize("finding", ["haemorrhage", "infarct"])
def test_the_stated_volume_is_the_mask_s(finding):
    body = made(finding, 5, sick=True)
    step = float(np.diff(body.zs_mm).mean())
    assert body.measure == pytest.approx(body.mask.sum() * body.pixel_mm**2 * step / 1000, rel=1e-5)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_a_nodule_lies_in_air_and_has_its_diameter(seed):
    body = made("nodule", seed, sick=True, size=192)  # a fine grid, on which a diameter can be measured
    assert 14 <= body.measure <= 30
    hidden = made("nodule", seed, sick=True, contrast=0.0, size=192)
    assert np.median(hidden.values[body.mask]) < -700
    areas = body.mask.sum((1, 2)) * body.pixel_mm**2
    step = float(np.diff(body.zs_mm).mean())
    widest = 2 * np.sqrt(areas.max() / np.pi)
    # the best slice is at most 0.35 of a step from the middle; vessels and lobes do not change the mask
    least = 2 * np.sqrt((body.measure / 2) ** 2 - (0.36 * step) ** 2)
    assert 0.85 * least <= widest <= 1.15 * body.measure
    assert np.percentile(body.values[body.mask], 90) > -460


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_coronary_calcium_is_dense_lies_on_the_heart_and_is_scored_as_agatston_says(seed):
    body = made("calcium", seed, sick=True)
    hidden = made("calcium", seed, sick=True, contrast=0.0)
    assert (body.values[body.mask] > 130).all() and (hidden.values[body.mask] <= 130).all()
    step = float(np.diff(body.zs_mm).mean())
    total = 0.0
    for plane, inside in zip(body.values, body.mask, strict=True):
        labels, count = ndimage.label(inside, np.ones((3, 3)))
        for k in range(1, count + 1):
            peak = plane[labels == k].max()
            weight = 1 if peak < 200 else 2 if peak < 300 else 3 if peak < 400 else 4
            total += (labels == k).sum() * body.pixel_mm**2 * weight
    assert body.measure == pytest.approx(total * step / 3, rel=1e-4)
    # the heart is 80 to 110 mm wide, and its middle is in the field's
    x = np.nonzero(body.mask)[2]
    assert (np.abs(x * body.pixel_mm - FIELD * 0.62 / 2) < 75).all()


@pytest.mark.parametrize("finding", ["nodule", "calcium", "haemorrhage"])
def test_healthy_bodies_have_what_resembles_the_finding(finding):
    """Brightness alone does not tell: as bright as a finding are vessels, bone, valves, veins and a pineal gland."""
    inside = {
        "nodule": lambda v: _in_lungs(v, -500),
        "calcium": lambda v: (v > 130) & (v < 900),
        "haemorrhage": lambda v: (v > 50) & (v < 400),
    }[finding]
    counts = [int(inside(made(finding, seed, sick=False).values).sum()) for seed in range(12)]
    sizes = [int(made(finding, seed, sick=True).mask.sum()) for seed in range(12)]
    assert np.median(counts) > np.median(sizes)


def _in_lungs(values: np.ndarray, least: float) -> np.ndarray:
    air = ndimage.binary_closing(values < -600, np.ones((1, 5, 5)))
    return air & (values > least)


def test_a_bleed_is_told_from_the_other_stroke():
    """One in four without the one has the other: the darkest brain of some is an infarct's."""
    volumes = [made("haemorrhage", seed, sick=False).values for seed in range(40)]
    dark = [((v > 15) & (v < 25)).sum() for v in volumes]
    assert np.percentile(dark, 90) > 1.4 * np.percentile(dark, 40)
    with_one = [
        ((v > 50) & (v < 90)).sum() for v in (made("infarct", k, sick=False).values for k in range(40))
    ]
    assert np.percentile(with_one, 90) > 1.4 * np.percentile(with_one, 40)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_the_stated_ratio_is_that_of_the_outlines(seed, sick):
    body = made("cardiomegaly", seed, sick=sick, size=128)
    assert body.positive == (body.measure > 0.5) == sick
    assert 0.38 <= body.measure <= 0.62 and not 0.495 < body.measure < 0.505
    heart = body.mask[0]
    rng = np.random.default_rng([seed, 3])
    of_body = rng.spawn(2)[1]
    chest = Chest.draw(of_body, body.measure)
    x = (np.arange(128) + 0.5) / 128 * FIELD - FIELD / 2
    thorax = np.broadcast_to(np.abs(x) < chest.wide, heart.shape)
    found = cardiothoracic_ratio(heart, thorax)
    # each width is good to a pixel of 2.7 mm of some 250
    assert found == pytest.approx(body.measure, abs=0.02)


def test_the_heart_s_width_can_be_read_off_the_radiograph_alone():
    """Along one row, from the spine outwards, until it is as bright as between heart and lung."""
    stated, read = [], []
    for seed in range(20):
        body = made("cardiomegaly", seed, sick=bool(seed % 2), size=128)
        heart = body.mask[0]
        row = int(heart.sum(axis=1).argmax())
        profile = ndimage.gaussian_filter(body.values[0], 1.0)[row - 2 : row + 3].mean(axis=0)
        middle = int(np.nonzero(heart[row])[0].mean())
        lung = np.percentile(profile[30:98], 10)
        # Otsu's threshold has no say where the spine is as bright as can be: halfway up to the heart's own rim
        rim = np.median(profile[middle + 8 : middle + 14])
        dark = profile < (lung + rim) / 2
        left = middle - int(dark[middle::-1].argmax())
        right = middle + int(dark[middle:].argmax())
        stated.append(heart[row].sum())
        read.append(right - left)
    assert np.abs(np.subtract(stated, read)).mean() < 5
    assert np.corrcoef(stated, read)[0, 1] > 0.9


def test_the_heart_is_denser_than_lung_on_the_radiograph():
    body = made("cardiomegaly", 1, sick=True, size=128)
    heart = body.values[0][body.mask[0]]
    lung = body.values[0][40:70, 24:34]
    assert body.values.min() >= 0 and body.values.max() <= 1
    assert np.median(heart) > np.median(lung) + 0.2


@pytest.mark.parametrize("finding", sorted(BY_FINDING))
def test_a_body_is_a_function_of_its_seed(finding):
    one, again, other = (made(finding, seed, sick=True) for seed in (4, 4, 5))
    assert (one.values == again.values).all() and (one.mask == again.mask).all()
    assert not (one.values == other.values).all()
    assert np.isfinite(one.values).all() and one.values.dtype == np.float32


def test_slices_are_positive_where_they_show_the_finding():
    body = made("haemorrhage", 2, sick=True)
    phantoms = body.phantoms()
    assert [p.positive for p in phantoms] == [bool(m.any()) for m in body.mask]
    heart = made("cardiomegaly", 2, sick=False).phantoms()[0]
    assert heart.lesion.any() and heart.positive is False  # an outline, and no finding
