"""Every task's measure: bounded rows, releases that say what the outputs said, and other people's metrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_hausdorff_distance
from sklearn import metrics as oracle

from fedimg.errors import ConfigError, DataError
from fedimg.evaluation import measure_of
from fedimg.evaluation.detection import RATES
from fedimg.evaluation.segmentation import hd95
from fedimg.imaging.findings import heat_map

TASKS = ("classification", "multilabel", "regression", "segmentation", "detection")


def firsts(counts):
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def sample(task, counts, generator, *, classes=3):
    """Outputs and labels of patients with so many images, as a network and a site would have them."""
    n = int(sum(counts))
    if task == "classification":
        scores = generator.dirichlet(np.ones(classes), n)
        return scores, generator.integers(0, classes, n)
    if task == "multilabel":
        return generator.random((n, classes)), generator.integers(0, 2, (n, classes)).astype(np.float32)
    if task == "regression":
        return generator.normal(0.5, 0.5, (n, 1)), generator.random(n).astype(np.float32)
    drawn = np.zeros((n, 16, 16), np.int64)
    for image in drawn:
        for _ in range(int(generator.integers(0, 3))):
            y, x = generator.integers(0, 11, 2)
            image[y : y + 4, x : x + 5] = generator.integers(1, classes)
    if task == "segmentation":
        found = np.where(
            generator.random(drawn.shape) < 0.1, generator.integers(0, classes, drawn.shape), drawn
        )
        return found.astype(np.int16), drawn
    boxes = np.concatenate(
        [
            generator.random((n, 8, 1)),
            generator.integers(0, 16, (n, 8, 2)).astype(float),
            generator.integers(1, 8, (n, 8, 2)).astype(float),
            generator.integers(1, classes, (n, 8, 1)).astype(float),
        ],
        axis=2,
    )
    boxes = np.take_along_axis(boxes, np.argsort(-boxes[:, :, :1], axis=1), axis=1)
    return boxes, np.stack([heat_map(one, classes - 1) for one in drawn]) if n else np.zeros(
        (0, classes + 1, 16, 16), np.float32
    )


@pytest.mark.parametrize("task", TASKS)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_a_patient_moves_a_release_by_one_at_most_and_nobody_else_s_row(task, counts, seed):
    generator = np.random.default_rng(seed)
    outputs, labels = sample(task, counts, generator)
    measure = measure_of(task, 3, 12)
    rows = measure.rows(outputs, labels, firsts(counts))
    assert rows.shape == (len(counts), measure.shape[0] * measure.shape[1])
    assert (rows >= 0).all()
    assert (np.linalg.norm(rows, axis=1) <= 1 + 1e-12).all()
    # whoever else is there, a patient's row is the same
    begin = firsts(counts)
    for u in range(len(counts)):
        own = slice(begin[u], begin[u + 1])
        alone = measure.rows(outputs[own], labels[own], firsts([counts[u]]))
        assert np.array_equal(alone[0], rows[u])


@pytest.mark.parametrize("task", TASKS)
def test_a_patient_whose_outputs_cannot_be_used_counts_nothing(task):
    counts = [2, 1]
    outputs, labels = sample(task, counts, np.random.default_rng(0))
    outputs[0] = -1 if task == "segmentation" else np.nan
    rows = measure_of(task, 3, 12).rows(outputs, labels, firsts(counts))
    assert not rows[0].any()
    assert rows[1].any()


@pytest.mark.parametrize("task", TASKS)
def test_a_release_of_another_shape_or_with_infinities_is_refused(task):
    measure = measure_of(task, 3, 12)
    for wrong in (np.zeros((measure.shape[0] + 1, 13)), np.full(measure.shape, np.inf)):
        with pytest.raises((DataError, ConfigError)):
            measure.of_release(wrong, 1.0)


@pytest.mark.parametrize(
    ("task", "close"),
    [("multilabel", 0.02), ("regression", 1e-6), ("segmentation", 0.03), ("detection", 0.02)],
)
def test_a_release_without_noise_says_what_the_outputs_say(task, close):
    """Of patients with one image each: a release weighs patients, detection's outputs weigh findings."""
    generator = np.random.default_rng(1)
    outputs, labels = sample(task, [1] * 600, generator)
    if task == "detection":
        keep = (labels[:, :2] == 1).reshape(600, -1).sum(axis=1) <= 1
        outputs, labels = outputs[keep], labels[keep]
    measure, first = measure_of(task, 3, 64), firsts([1] * len(labels))
    exact = measure.of_outputs(outputs, labels, first, bootstrap=50, seed=0)
    summed = measure.rows(outputs, labels, first).sum(axis=0).reshape(measure.shape)
    released = measure.of_release(summed, 0.0)
    assert measure.headline in released.metrics
    for name, found in released.metrics.items():
        assert found.value == pytest.approx(exact.metrics[name].value, abs=close), name
        assert found.low <= found.value <= found.high
    noisy = measure.of_release(summed + generator.normal(0, 1.0, measure.shape), 1.0)
    for name, found in noisy.metrics.items():
        assert found.low - 0.02 <= exact.metrics[name].value <= found.high + 0.02, name
    lost = measure.of_release(np.zeros(measure.shape), 5.0)
    assert not lost.metrics
    assert measure.headline in lost.omitted


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy")
def test_dice_and_distance_are_monai_s():
    generator = np.random.default_rng(2)
    outputs, labels = sample("segmentation", [1] * 40, generator, classes=2)
    has = (labels == 1).reshape(40, -1).any(axis=1) & (outputs == 1).reshape(40, -1).any(axis=1)
    outputs, labels = outputs[has], labels[has]

    def one_hot(maps):
        return torch.stack([torch.from_numpy(maps == k) for k in (0, 1)], dim=1).float()

    dice = compute_dice(one_hot(outputs), one_hot(labels), include_background=False).mean()
    far = compute_hausdorff_distance(
        one_hot(outputs), one_hot(labels), include_background=False, percentile=95, spacing=[2.0, 0.5]
    ).mean()
    found = measure_of("segmentation", 2, 20, voxel_mm=(2.0, 0.5)).of_outputs(
        outputs, labels, firsts([1] * len(labels)), bootstrap=20, seed=0
    )
    assert found.metrics["dice"].value == pytest.approx(float(dice), abs=1e-6)
    assert found.metrics["hd95_mm"].value == pytest.approx(float(far), abs=1e-5)
    assert hd95(np.zeros((4, 4), bool), np.ones((4, 4), bool), (1.0, 1.0)) is None


def test_a_patient_s_slices_are_one_volume_to_dice():
    labels = np.zeros((3, 8, 8), np.int64)
    labels[0, :4], labels[1, 0, 0] = 1, 1
    outputs = labels.astype(np.int16)
    outputs[1] = 0  # the last slice's one voxel is missed
    found = measure_of("segmentation", 2, 20).of_outputs(
        outputs, labels, firsts([2, 1]), bootstrap=10, seed=0
    )
    assert found.metrics["dice"].value == pytest.approx(2 * 32 / (32 + 33))
    assert found.metrics["specificity"].value == 1
    assert found.metrics["recall"].value == 1


def test_findings_are_scikit_learn_s():
    outputs, labels = sample("multilabel", [1] * 300, np.random.default_rng(3))
    outputs = (outputs + labels) / 2
    found = measure_of("multilabel", 3, 20).of_outputs(
        outputs, labels, firsts([1] * 300), bootstrap=20, seed=0
    )
    assert found.metrics["auroc"].value == pytest.approx(
        oracle.roc_auc_score(labels, outputs, average="macro")
    )
    assert found.metrics["f1"].value == pytest.approx(
        oracle.f1_score(labels.astype(int), outputs >= 0.5, average="macro")
    )
    assert found.metrics["auroc_2"].value == pytest.approx(oracle.roc_auc_score(labels[:, 2], outputs[:, 2]))


def test_errors_of_numbers_are_scikit_learn_s_in_the_number_s_units():
    generator = np.random.default_rng(4)
    truth = generator.random(400).astype(np.float32)
    outputs = (truth + generator.normal(0, 0.1, 400))[:, None]
    measure = measure_of("regression", 1, 20, target_range=(10.0, 60.0))
    found = measure.of_outputs(outputs, truth, firsts([1] * 400), bootstrap=100, seed=0).metrics
    years, said = 10 + 50 * truth.astype(float), 10 + 50 * outputs[:, 0]
    assert found["mae"].value == pytest.approx(oracle.mean_absolute_error(years, said), rel=1e-6)
    assert found["rmse"].value == pytest.approx(oracle.root_mean_squared_error(years, said), rel=1e-6)
    assert found["r2"].value == pytest.approx(oracle.r2_score(years, said), rel=1e-5)
    assert found["bias"].value == pytest.approx((said - years).mean(), rel=1e-5)
    assert found["mae"].low < found["mae"].value < found["mae"].high


def test_detection_equals_a_threshold_by_threshold_count():
    """The FROC curve by moving a threshold over all scores and counting, with the rule of the first hit."""
    outputs, labels = sample("detection", [1] * 60, np.random.default_rng(5), classes=2)
    drawn = sum(int((one[0] == 1).sum()) for one in labels)

    def counts(threshold):
        hits = alarms = 0
        for found, target in zip(outputs, labels, strict=True):
            places, taken = np.argwhere(target[0] == 1), set()
            for score, y, x, *_ in found:
                within = [
                    k
                    for k, (cy, cx) in enumerate(places)
                    if abs(y - cy) <= target[1, cy, cx] / 2 and abs(x - cx) <= target[2, cy, cx] / 2
                ]
                if score < threshold:
                    continue
                free = [k for k in within if k not in taken]
                hits, alarms = hits + bool(free), alarms + (not within)
                taken |= set(free[:1])
        return hits / drawn, alarms / len(labels)

    curve = [counts(t) for t in np.unique(outputs[:, :, 0])]
    best = {rate: max([s for s, a in curve if a <= rate], default=0.0) for rate in RATES}
    found = measure_of("detection", 2, 20).of_outputs(outputs, labels, firsts([1] * 60), bootstrap=20, seed=0)
    assert found.metrics["sensitivity_at_1"].value == pytest.approx(best[1.0])
    assert found.metrics["froc"].value == pytest.approx(np.mean(list(best.values())))
    assert 0 <= found.metrics["ap50"].value <= found.metrics["ap10"].value <= 1


def test_a_perfect_detector_is_perfect_and_a_blind_one_is_not():
    labels = np.zeros((2, 3, 20, 20), np.float32)
    drawn = np.zeros((2, 20, 20), np.int64)
    drawn[0, 3:8, 10:16] = 1
    labels[0], labels[1] = heat_map(drawn[0]), heat_map(drawn[1])
    perfect = np.zeros((2, 2, 6))
    perfect[0, 0] = (0.9, 5, 12, 5, 6, 1)
    perfect[:, 1] = (0.01, 1, 1, 2, 2, 1)
    perfect[1, 0] = (0.02, 9, 9, 2, 2, 1)
    measure = measure_of("detection", 2, 20)
    good = measure.of_outputs(perfect, labels, firsts([1, 1]), bootstrap=10, seed=0).metrics
    assert good["sensitivity_at_quarter"].value == 1
    assert good["ap50"].value == 1
    blind = perfect.copy()
    blind[0, 0, 1:3] = 18
    bad = measure.of_outputs(blind, labels, firsts([1, 1]), bootstrap=10, seed=0).metrics
    assert bad["froc"].value == 0
    assert bad["ap10"].value == 0


def test_an_unknown_task_is_refused():
    with pytest.raises(ConfigError, match="task that can be measured"):
        measure_of("generation", 2, 20)
