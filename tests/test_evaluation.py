"""Evaluation against scikit-learn, against pair counting, and of noised histograms against the truth."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as oracle

from fedimg.errors import ConfigError, DataError
from fedimg.evaluation import evaluate_scores, histogram_bins, report_from_histograms, score_histograms
from fedimg.evaluation.intervals import patient_weights

ALL_METRICS = {"auroc", "pr_auc", "accuracy", "precision", "recall", "specificity", "f1", "brier", "ece"}


def two_columns(positive):
    positive = np.asarray(positive, dtype=np.float64)
    return np.stack([1 - positive, positive], axis=1)


def tied_scores(generator, n, *, levels=12):
    """Scores on few distinct levels, so that ties are the rule, and labels that follow them."""
    positive = generator.integers(0, levels + 1, n) / levels
    return positive, (generator.random(n) < 0.2 + 0.6 * positive).astype(np.int64)


@st.composite
def graded_sets(draw):
    n = draw(st.integers(4, 60))
    scores = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 8))) / 8
    labels = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 1)))
    labels[:2] = 0, 1
    return scores, labels


# ------------------------------------------------------------------------------ point estimates


@given(graded_sets())
def test_two_class_metrics_agree_with_scikit_learn(graded):
    scores, labels = graded
    report = evaluate_scores(two_columns(scores), labels, bootstrap=0)
    called = (scores >= 0.5).astype(int)
    expected = {
        "auroc": oracle.roc_auc_score(labels, scores),
        "pr_auc": oracle.average_precision_score(labels, scores),
        "accuracy": oracle.accuracy_score(labels, called),
        "recall": oracle.recall_score(labels, called),
        "specificity": oracle.recall_score(labels, called, pos_label=0),
        "f1": oracle.f1_score(labels, called),
        "brier": oracle.brier_score_loss(labels, scores),
    }
    if called.any():
        expected["precision"] = oracle.precision_score(labels, called)
    else:
        assert report.omitted == {"precision": "no example was predicted to be of class 1"}
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(value, abs=1e-12), name
    assert (report.confusion == oracle.confusion_matrix(labels, called)).all()


@given(graded_sets())
def test_auroc_is_the_share_of_pairs_in_the_right_order(graded):
    """By counting every pair: an independent definition, in which a tie is one half."""
    scores, labels = graded
    difference = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    by_pairs = ((difference > 0) + 0.5 * (difference == 0)).mean()
    report = evaluate_scores(two_columns(scores), labels, bootstrap=0)
    assert report.metrics["auroc"].value == pytest.approx(by_pairs, abs=1e-12)


@pytest.mark.parametrize("classes", [3, 9])
def test_metrics_of_many_classes_agree_with_scikit_learn(classes):
    generator = np.random.default_rng(classes)
    probabilities = generator.dirichlet(np.full(classes, 0.4), 400)
    labels = np.array([generator.choice(classes, p=row) for row in probabilities])
    report = evaluate_scores(probabilities, labels, bootstrap=0)
    called = probabilities.argmax(axis=1)
    one_hot = np.eye(classes)[labels]
    specificity = np.mean([oracle.recall_score(labels != k, called != k) for k in range(classes)])
    expected = {
        "auroc": oracle.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "pr_auc": oracle.average_precision_score(one_hot, probabilities, average="macro"),
        "accuracy": oracle.accuracy_score(labels, called),
        "precision": oracle.precision_score(labels, called, average="macro"),
        "recall": oracle.recall_score(labels, called, average="macro"),
        "specificity": specificity,
        "f1": oracle.f1_score(labels, called, average="macro"),
        "brier": ((probabilities - one_hot) ** 2).sum(axis=1).mean(),
    }
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(value, abs=1e-12), name
    assert (report.confusion == oracle.confusion_matrix(labels, called)).all()
    assert np.trapezoid(report.roc[:, 1], report.roc[:, 0]) == pytest.approx(expected["auroc"], abs=1e-12)


def test_expected_calibration_error_by_hand():
    """Two bins are used: mean 0.1 against 1/2 in the first, 0.9 against 1 in the last; halves of the data."""
    report = evaluate_scores(two_columns([0.05, 0.15 - 1e-9, 0.9, 0.9]), [0, 1, 1, 1], bootstrap=0)
    # 0.05 and 0.15 fall into different bins of width 0.1: |0.05 − 0|/4 + |0.15 − 1|/4 + 2·|0.9 − 1|/4
    assert report.metrics["ece"].value == pytest.approx(0.05 / 4 + 0.85 / 4 + 0.2 / 4, abs=1e-8)
    assert report.reliability == pytest.approx(np.array([[0.05, 0, 1], [0.15, 1, 1], [0.9, 1, 2]]), abs=1e-8)


def test_reliability_agrees_with_scikit_learn():
    scores, labels = tied_scores(np.random.default_rng(5), 500, levels=97)
    report = evaluate_scores(two_columns(scores), labels, bootstrap=0)
    observed, predicted = oracle_calibration(labels, scores)
    assert report.reliability[:, 0] == pytest.approx(predicted, abs=1e-12)
    assert report.reliability[:, 1] == pytest.approx(observed, abs=1e-12)
    assert report.reliability[:, 2].sum() == 500


def oracle_calibration(labels, scores):
    from sklearn.calibration import calibration_curve

    return calibration_curve(labels, scores, n_bins=10)


def test_roc_agrees_with_scikit_learn():
    scores, labels = tied_scores(np.random.default_rng(6), 300)
    report = evaluate_scores(two_columns(scores), labels, bootstrap=0)
    false, true, _ = oracle.roc_curve(labels, scores, drop_intermediate=False)
    assert report.roc == pytest.approx(np.stack([false, true], axis=1), abs=1e-12)


def test_the_given_threshold_decides():
    report = evaluate_scores(two_columns([0.2, 0.4, 0.6]), [0, 1, 1], threshold=0.4, bootstrap=0)
    assert report.confusion.tolist() == [[1, 0], [0, 2]]
    assert report.metrics["accuracy"].value == 1.0


# ------------------------------------------------------------------------------- degenerate sets


@pytest.mark.parametrize(
    ("labels", "scores", "omitted"),
    [
        (
            [0, 0],
            [0.1, 0.7],
            {
                "auroc": "it needs examples of every class; class 1 has none",
                "pr_auc": "it needs examples of every class; class 1 has none",
                "recall": "class 1 has no examples",
            },
        ),
        (
            [1, 1],
            [0.1, 0.7],
            {
                "auroc": "it needs examples of every class; class 0 has none",
                "pr_auc": "it needs examples of every class; class 0 has none",
                "specificity": "there are no examples outside class 1",
            },
        ),
        (
            [0, 0],
            [0.1, 0.2],
            {
                "auroc": "it needs examples of every class; class 1 has none",
                "pr_auc": "it needs examples of every class; class 1 has none",
                "recall": "class 1 has no examples",
                "precision": "no example was predicted to be of class 1",
                "f1": "class 1 neither occurs nor is predicted",
            },
        ),
    ],
)
def test_what_one_class_cannot_show_is_omitted_with_its_reason(labels, scores, omitted):
    report = evaluate_scores(two_columns(scores), labels)
    assert report.omitted == omitted
    assert set(report.metrics) == ALL_METRICS - set(omitted)
    assert all(np.isfinite([i.value, i.low, i.high]).all() for i in report.metrics.values())
    assert report.roc.shape == (0, 2)


@given(
    hnp.arrays(np.int64, st.integers(0, 12), elements=st.integers(0, 3)),
    st.integers(0, 2**31),
)
def test_every_metric_is_either_finite_or_explained(labels, seed):
    probabilities = np.random.default_rng(seed).dirichlet(np.full(4, 0.3), len(labels))
    report = evaluate_scores(probabilities, labels, bootstrap=20)
    assert set(report.metrics) | set(report.omitted) == ALL_METRICS
    assert not set(report.metrics) & set(report.omitted)
    assert all(report.omitted.values())
    for name, interval in report.metrics.items():
        assert 0 <= interval.low <= interval.value <= interval.high <= (2 if name == "brier" else 1)


def test_scores_that_are_not_finite_are_said_and_not_averaged():
    probabilities = two_columns([0.2, np.nan, 0.6])
    report = evaluate_scores(probabilities, [0, 1, 1])
    assert report.metrics == {}
    assert report.omitted == dict.fromkeys(
        ALL_METRICS, "the model's scores are not finite for 1 of 3 examples"
    )


def test_wrong_input_is_refused_in_words():
    with pytest.raises(
        DataError, match="expected rows of probabilities that sum to one; found rows that do not"
    ):
        evaluate_scores([[2.0, -1.0]], [0])
    with pytest.raises(DataError, match=r"expected labels below 2; found labels from 0 to 2"):
        evaluate_scores(two_columns([0.1, 0.2]), [0, 2])
    with pytest.raises(DataError, match="expected first_image rising from 0 to 2"):
        evaluate_scores(two_columns([0.1, 0.2]), [0, 1], first_image=[0, 1])


# ------------------------------------------------------------------------------------- bootstrap


def test_intervals_are_those_of_resampling_patients_one_at_a_time():
    """The oracle draws patients in a plain loop and asks scikit-learn; both see the same draws."""
    generator = np.random.default_rng(11)
    lengths = generator.integers(1, 5, 40)
    first = np.concatenate([[0], np.cumsum(lengths)])
    scores, labels = tied_scores(generator, int(first[-1]))
    report = evaluate_scores(two_columns(scores), labels, first_image=first, bootstrap=300, seed=3)
    draws = np.random.default_rng(3).integers(40, size=(300, 40))
    areas, accuracies = [], []
    for drawn in draws:
        images = np.concatenate([np.arange(first[u], first[u + 1]) for u in drawn])
        areas.append(oracle.roc_auc_score(labels[images], scores[images]))
        accuracies.append(((scores[images] >= 0.5) == labels[images]).mean())
    for name, values in (("auroc", areas), ("accuracy", accuracies)):
        low, high = np.quantile(values, [0.025, 0.975])
        assert (report.metrics[name].low, report.metrics[name].high) == pytest.approx((low, high), abs=1e-12)


def test_patients_whose_images_agree_widen_the_interval():
    """Copying each image five times inside its patient adds no information: the interval must not shrink."""
    scores, labels = tied_scores(np.random.default_rng(2), 120)
    once = evaluate_scores(two_columns(scores), labels, seed=1).metrics["auroc"]
    copied = (np.repeat(scores, 5), np.repeat(labels, 5))
    by_patient = evaluate_scores(
        two_columns(copied[0]), copied[1], first_image=np.arange(0, 601, 5), seed=1
    ).metrics["auroc"]
    by_image = evaluate_scores(two_columns(copied[0]), copied[1], seed=1).metrics["auroc"]
    assert (by_patient.low, by_patient.high) == pytest.approx((once.low, once.high), abs=1e-12)
    # Pretending that the copies are independent narrows it by √5 = 2.24.
    assert (once.high - once.low) / (by_image.high - by_image.low) > 1.8


def test_the_seed_decides_the_interval_and_nothing_else_does():
    scores, labels = tied_scores(np.random.default_rng(8), 100, levels=1000)
    reports = [evaluate_scores(two_columns(scores), labels, bootstrap=200, seed=s) for s in (4, 4, 5)]
    assert reports[0].metrics == reports[1].metrics
    assert reports[0].metrics["auroc"] != reports[2].metrics["auroc"]


def test_one_patient_says_nothing_about_the_spread():
    report = evaluate_scores(two_columns([0.2, 0.8]), [0, 1], first_image=[0, 2])
    assert (report.metrics["auroc"].low, report.metrics["auroc"].high) == (0.0, 1.0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.integers(1, 7))
def test_a_resample_has_as_many_patients_as_the_data(lengths, resamples):
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    weights = np.concatenate(list(patient_weights(first, resamples, np.random.default_rng(0))))
    assert weights.shape == (resamples, first[-1])
    begins = first[:-1][np.diff(first) > 0]
    if (np.diff(first) > 0).all():
        assert (weights[:, begins].sum(axis=1) == len(lengths)).all()
    for start, end in itertools.pairwise(first):
        assert (weights[:, start:end] == weights[:, start : start + 1]).all()


def test_a_thousand_resamples_of_624_scores_take_at_most_two_seconds():
    scores, labels = tied_scores(np.random.default_rng(9), 624, levels=100_000)
    began = time.process_time()
    evaluate_scores(two_columns(scores), labels, bootstrap=1000)
    assert time.process_time() - began <= 2.0


# ------------------------------------------------------------------------------- score histograms


@given(st.integers(2, 5), st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 2**31))
def test_a_patients_vector_has_norm_at_most_one_and_is_their_own(classes, lengths, seed):
    generator = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(lengths)])
    probabilities = generator.dirichlet(np.full(classes, 0.3), int(first[-1]))
    labels = generator.integers(0, classes, int(first[-1]))
    bins = histogram_bins(classes)
    vectors = score_histograms(probabilities, labels, first, bins)
    assert vectors.shape == (len(lengths), classes * bins)
    assert (vectors >= 0).all()
    assert (np.linalg.norm(vectors, axis=1) <= 1).all()
    assert vectors.sum(axis=1) == pytest.approx((np.array(lengths) > 0).astype(float), abs=1e-12)
    # Another patient's data do not move it: each row computed alone is the same row.
    for u, (start, end) in enumerate(itertools.pairwise(first)):
        alone = score_histograms(probabilities[start:end], labels[start:end], [0, end - start], bins)
        assert (alone[0] == vectors[u]).all()


def test_a_patient_with_an_unusable_image_contributes_zero_and_the_others_stay():
    probabilities = two_columns([0.2, np.nan, 0.6, 0.7, 1e300, -0.5])
    vectors = score_histograms(probabilities, [0, 1, 1, 7, 0, 1], [0, 2, 3, 4, 5, 6], 10)
    assert vectors.sum(axis=1).tolist() == [0, 1, 0, 0, 0]


def test_without_noise_the_report_equals_that_of_the_binned_scores():
    generator = np.random.default_rng(21)
    # Scores in the middle of their bins lose nothing by binning.
    scores, labels = tied_scores(generator, 300, levels=19)
    logits = np.linspace(-7, 7, 19)
    middles = np.append(logits - 7 / 18, logits[-1] + 7 / 18)
    scores = 1 / (1 + np.exp(-middles[np.round(scores * 19).astype(int)]))
    histogram = score_histograms(two_columns(scores), labels, np.arange(301), 20).sum(axis=0)
    binned = report_from_histograms(histogram.reshape(2, 20), 0.0)
    exact = evaluate_scores(two_columns(scores), labels)
    assert binned.source == "sites"
    assert (binned.confusion == exact.confusion).all()
    for name in ALL_METRICS - {"ece"}:
        assert binned.metrics[name].value == pytest.approx(exact.metrics[name].value, abs=1e-12), name
    assert np.trapezoid(binned.roc[:, 1], binned.roc[:, 0]) == pytest.approx(exact.metrics["auroc"].value)
    # Two ways to an interval, cluster bootstrap and Poisson counts, agree to Monte Carlo error.
    for name in ("auroc", "accuracy"):
        ours, theirs = binned.metrics[name], exact.metrics[name]
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_without_noise_the_confusion_matrix_of_many_classes_is_exact():
    generator = np.random.default_rng(22)
    probabilities = generator.dirichlet(np.full(5, 0.3), 500)
    labels = np.array([generator.choice(5, p=row) for row in probabilities])
    bins = histogram_bins(5) + 3  # left-over bins stay unused
    histogram = score_histograms(probabilities, labels, np.arange(501), bins).sum(axis=0).reshape(5, bins)
    report, exact = report_from_histograms(histogram, 0.0), evaluate_scores(probabilities, labels)
    assert (histogram[:, 20:] == 0).all()
    assert (report.confusion == exact.confusion).all()
    for name in ("accuracy", "precision", "recall", "specificity", "f1"):
        assert report.metrics[name].value == pytest.approx(exact.metrics[name].value, abs=1e-12), name
    # The documented reduction of the score, spelt out.
    top = probabilities.max(axis=1)
    level = np.minimum(((top - 0.2) / 0.8 * 4).astype(int), 3)
    middle = 0.2 + (level + 0.5) / 4 * 0.8
    reduced = np.where(
        np.arange(5) == probabilities.argmax(axis=1)[:, None], middle[:, None], (1 - middle[:, None]) / 4
    )
    by_hand = np.mean([oracle.roc_auc_score(labels == k, reduced[:, k]) for k in range(5)])
    assert report.metrics["auroc"].value == pytest.approx(by_hand, abs=1e-12)


def test_the_interval_covers_the_truth_despite_noise_and_ignoring_the_noise_does_not():
    """Truth: AUROC of the law the scores are drawn from. Nominal 95 % over 200 sites.

    At 95 % fewer than 180 of 200 are covered with p < 0.003 (binomial); an interval
    computed as if there were no noise must be caught by the same bound.
    """
    generator = np.random.default_rng(33)
    big = [generator.beta(a, b, 200_000) for a, b in ((4, 2), (2, 4))]
    labels = np.repeat([1, 0], 200_000)
    edges = 1 / (1 + np.exp(-np.linspace(-7, 7, 19)))
    truth = oracle.roc_auc_score(labels, np.digitize(np.concatenate(big), edges))
    noise_std, covered, covered_ignoring = 4.0, 0, 0
    for seed in range(200):
        scores = np.concatenate([generator.beta(4, 2, 150), generator.beta(2, 4, 250)])
        vectors = score_histograms(two_columns(scores), np.repeat([1, 0], [150, 250]), np.arange(401), 20)
        noised = vectors.sum(axis=0).reshape(2, 20) + generator.normal(0, noise_std, (2, 20))
        honest = report_from_histograms(noised, noise_std, bootstrap=300, seed=seed).metrics["auroc"]
        ignoring = report_from_histograms(noised, 0.0, bootstrap=300, seed=seed).metrics["auroc"]
        covered += honest.low <= truth <= honest.high
        covered_ignoring += ignoring.low <= truth <= ignoring.high
    assert covered >= 180
    assert covered_ignoring < 180


def test_noisy_estimates_are_centred():
    """The mean AUROC over 300 noise draws is the un-noised one within 4 standard errors."""
    generator = np.random.default_rng(34)
    scores, labels = tied_scores(generator, 600, levels=40)
    histogram = score_histograms(two_columns(scores), labels, np.arange(601), 20).sum(axis=0).reshape(2, 20)
    truth = report_from_histograms(histogram, 0.0, bootstrap=0).metrics["auroc"].value
    noised = np.array(
        [
            report_from_histograms(histogram + generator.normal(0, 3, (2, 20)), 3.0, bootstrap=0)
            .metrics["auroc"]
            .value
            for _ in range(300)
        ]
    )
    assert abs(noised.mean() - truth) < 4 * noised.std() / np.sqrt(300)


def test_scores_close_to_one_are_told_apart():
    """An overconfident model: every score above 0.97. Equal steps of probability would call them all equal."""
    generator = np.random.default_rng(36)
    labels = np.repeat([0, 1], 400)
    scores = 1 / (1 + np.exp(-generator.normal(np.where(labels == 1, 5.5, 4.5), 0.5)))
    histogram = score_histograms(two_columns(scores), labels, np.arange(801), 32).sum(axis=0).reshape(2, 32)
    exact = oracle.roc_auc_score(labels, scores)
    assert report_from_histograms(histogram, 0.0).metrics["auroc"].value == pytest.approx(exact, abs=0.02)
    equal_steps = oracle.roc_auc_score(labels, np.floor(scores * 32))
    assert abs(equal_steps - exact) > 0.1


@given(st.integers(0, 2**31), st.floats(0, 12))
def test_what_is_read_at_a_threshold_agrees_with_the_table_that_is_shown(seed, noise_std):
    generator = np.random.default_rng(seed)
    histogram = generator.poisson(8, (2, 20)) * (np.arange(20) < 10)
    histogram[1] = histogram[1][::-1]  # a perfect model: noise alone falls off the diagonal
    report = report_from_histograms(histogram + generator.normal(0, noise_std, (2, 20)), noise_std)
    (tn, fp), (fn, tp) = report.confusion
    assert report.confusion.min() >= 0
    assert report.confusion.sum() == pytest.approx(report.examples, abs=3)
    for name, hits, of in (("accuracy", tn + tp, tn + fp + fn + tp), ("recall", tp, tp + fn)):
        if name in report.metrics:  # but for rounding of the shown counts
            assert report.metrics[name].value == pytest.approx(hits / of, abs=3 / of)
    if "f1" in report.metrics and "precision" in report.metrics and "recall" in report.metrics:
        p, r = report.metrics["precision"].value, report.metrics["recall"].value
        assert report.metrics["f1"].value == pytest.approx(2 * p * r / (p + r))


def test_what_the_noise_hides_is_omitted_with_its_reason():
    generator = np.random.default_rng(35)
    only_noise = report_from_histograms(generator.normal(0, 10, (2, 20)), 10.0)
    assert only_noise.metrics == {}
    assert only_noise.omitted["accuracy"] == "there are no examples, as far as can be told through the noise"
    one_class = np.zeros((2, 20))
    one_class[0, 3] = 400
    report = report_from_histograms(one_class + generator.normal(0, 2, (2, 20)), 2.0)
    assert report.omitted["auroc"] == (
        "it needs examples of every class; class 1 has none, as far as can be told through the noise"
    )
    assert report.metrics["specificity"].value > 0.9
    assert (report.confusion >= 0).all()
    assert report.examples == pytest.approx(400, abs=4 * 2 * np.sqrt(40))


@given(
    hnp.arrays(np.float64, (3, 12), elements=st.floats(-50, 200)),
    st.floats(0, 30),
)
def test_any_noised_counts_give_metrics_inside_their_range(noised, noise_std):
    report = report_from_histograms(noised, noise_std, bootstrap=20)
    assert set(report.metrics) | set(report.omitted) == ALL_METRICS
    assert all(report.omitted.values())
    for interval in report.metrics.values():
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert np.isfinite(report.roc).all()
    assert ((report.roc >= -1e-12) & (report.roc <= 1 + 1e-12)).all()
    assert (np.diff(report.roc, axis=0) >= -1e-12).all()


def test_histograms_refuse_what_they_cannot_hold():
    with pytest.raises(ConfigError, match="found 9 classes, 8 bins; set the number of histogram bins to 36"):
        score_histograms(np.full((1, 9), 1 / 9), [0], [0, 1], 8)
    with pytest.raises(DataError, match="expected finite histograms"):
        report_from_histograms([[np.nan, 1.0], [1.0, 1.0]], 1.0)
    with pytest.raises(DataError, match="expected finite histograms"):
        report_from_histograms([1.0, 2.0], 1.0)
