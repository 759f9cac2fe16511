"""The shipped weights: theirs alone, right on generated images they never saw, and unsure of anything else."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedimg.cohort import anatomy
from fedimg.cohort.scanners import acquire, scanner_of
from fedimg.sorting import classifier
from fedimg.sorting.answer import UNKNOWN
from fedimg.sorting.classifier import CLASSES, THRESHOLD, features, opened, shipped

rng = np.random.default_rng(2024)


def held_out(modality, count=25):
    """Of scanners of hospitals 5 to 8, which the training script leaves out."""
    for number in range(count):
        scanner = scanner_of(4 + number % 4)
        values = {
            "CT": lambda: anatomy.chest_ct(rng, 80, [0.0], None, 1.0)[0].values,
            "MR": lambda: anatomy.head_mr(rng, 80, [0.0], None, 1.0)[0].values,
            "CR": lambda: anatomy.chest_cr(rng, 80, None, 1.0).values,
            "US": lambda: anatomy.ultrasound(rng, (140, 160), 1, None, 1.0)[0].values,
        }[modality]()
        yield acquire(values, modality, scanner, 1.0, rng)


@pytest.mark.parametrize("modality", ["CT", "MR", "CR", "US"])
def test_it_knows_what_the_generated_hospitals_show(modality):
    looks = [shipped().look(image) for image in held_out(modality)]
    assert not [shown for shown, p in looks if shown.modality not in (modality, UNKNOWN) and p >= THRESHOLD]
    assert sum(shown.modality == modality for shown, _ in looks) >= 0.8 * len(looks)  # by chance: a fifth


def test_it_answers_nothing_for_what_is_no_image_of_a_body():
    y, x = np.mgrid[0:64, 0:64]
    strange = [
        np.zeros((64, 64)),
        rng.normal(size=(64, 64)),
        ((x // 8 + y // 8) % 2).astype(float),
        x.astype(float),
        (np.hypot(x - 32, y - 32) < 20).astype(float),
    ]
    for image in strange:
        shown, probability = shipped().look(image.astype(np.float32))
        assert shown.modality == UNKNOWN or probability < THRESHOLD


def test_a_shuffled_network_would_be_noticed():
    """The same test on wrong weights: exchanged outputs give wrong answers that are sure."""
    right = shipped()
    wrong = classifier.ViewClassifier(
        right.mean,
        right.scale,
        right.first,
        right.first_bias,
        np.roll(right.second, 1, 1),
        np.roll(right.second_bias, 1),
    )
    assert any(wrong.look(image)[0].modality not in ("CT", UNKNOWN) for image in held_out("CT", 5))


def test_what_the_header_says_leaves_other_classes_out():
    image = next(held_out("CR"))
    shown, _ = shipped().look(image, frozenset({"CT"}))
    assert shown.modality in ("CT", UNKNOWN)


def test_probabilities_sum_to_one():
    shares = shipped().probabilities(next(held_out("MR")))
    assert shares.shape == (len(CLASSES),)
    assert shares.sum() == pytest.approx(1, abs=1e-5)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 90), st.integers(1, 90)),
        elements=st.floats(-3000, 5000, width=32),
    )
)
def test_any_frame_has_features(frame):
    own = features(frame)
    assert own.shape == (266,)
    assert np.isfinite(own).all()


@given(st.integers(0, 1000), st.integers(8, 90), st.floats(0.5, 20), st.floats(-500, 500))
def test_features_do_not_depend_on_the_unit(seed, side, gain, offset):
    frame = np.random.default_rng(seed).uniform(-1000, 1000, (side, side)).astype(np.float32)
    changed = (frame * gain + offset).astype(np.float32)
    # Of 2000 values' range float32 rounds to under a ten-thousandth; histogram bins may gain or lose a pixel.
    assert np.abs(features(frame) - features(changed))[:256].max() < 1e-3


def test_the_weights_are_the_ones_of_the_record():
    record = json.loads(classifier.WEIGHTS.with_suffix(".json").read_text())
    assert record["weights_sha256"] == classifier.WEIGHTS_SHA256
    assert hashlib.sha256(classifier.WEIGHTS.read_bytes()).hexdigest() == classifier.WEIGHTS_SHA256


def test_other_weights_are_refused():
    data = bytearray(classifier.WEIGHTS.read_bytes())
    data[-1] ^= 1
    with pytest.raises(classifier.WeightsError, match="reinstall fedimg"):
        opened(bytes(data), classifier.WEIGHTS_SHA256)
