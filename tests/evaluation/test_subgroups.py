"""One table for everybody and every group: bounded rows, exact sums without noise, and the noise that is stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedimg.errors import DataError
from fedimg.evaluation import Subgroups, by_group, measure_of
from fedimg.subgroups import ATTRIBUTES, MOST_GROUPS, Grouping, age_code_of
from fedimg.values import EvaluationReport, Interval
from tests.evaluation.test_measures import TASKS, firsts, sample

ALL = Grouping(ATTRIBUTES, (0, 18, 65), ("ge", "siemens"))
GROUPINGS = st.builds(
    Grouping,
    st.lists(st.sampled_from(ATTRIBUTES), min_size=1, unique=True).map(tuple),
    st.sampled_from([(0,), (0, 18, 40, 65), (0, 1, 2, 90)]),
    st.sampled_from([(), ("ge",), ("ge", "siemens", "philips")]),
)


def measure(task, grouping=ALL):
    return Subgroups(measure_of(task, 3, 12), grouping)


def drawn_codes(generator, images):
    return np.stack([generator.integers(0, most, images) for most in MOST_GROUPS], axis=1)


def of_patients(codes, counts):
    """A patient's images are all of one group."""
    return np.repeat(codes, counts, axis=0)


def summed(of, outputs, labels, counts, codes):
    return of.rows(outputs, labels, firsts(counts), codes).sum(axis=0).reshape(of.shape)


@pytest.mark.parametrize("task", TASKS)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=5),
    GROUPINGS,
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=40)
def test_a_patient_moves_a_release_by_one_at_most_whatever_the_groups(task, counts, grouping, seed, odd, bad):
    generator = np.random.default_rng(seed)
    outputs, labels = sample(task, counts, generator)
    if bad and len(outputs):
        outputs[generator.integers(len(outputs))] = -1 if task == "segmentation" else np.nan
    codes = drawn_codes(generator, len(outputs))
    if odd:
        codes = generator.integers(-(2**40), 2**40, codes.shape)
    of = measure(task, grouping)
    rows = of.rows(outputs, labels, firsts(counts), codes)
    assert rows.shape == (len(counts), of.shape[0] * of.shape[1])
    assert (rows >= 0).all()
    assert (np.linalg.norm(rows, axis=1) <= 1 + 1e-12).all()
    begin = firsts(counts)
    for u in range(len(counts)):  # whoever else is there
        own = slice(begin[u], begin[u + 1])
        assert np.array_equal(of.rows(outputs[own], labels[own], firsts([counts[u]]), codes[own])[0], rows[u])


@pytest.mark.parametrize("task", TASKS)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), GROUPINGS, st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_without_noise_the_groups_of_each_attribute_add_up_to_everybody(task, counts, grouping, seed):
    """Also of patients whose images are of several groups, one of them unusable or not."""
    generator = np.random.default_rng(seed)
    outputs, labels = sample(task, counts, generator)
    if seed % 2 and len(outputs):
        outputs[0] = -1 if task == "segmentation" else np.nan
    of = measure(task, grouping)
    own = of.own.rows(outputs, labels, firsts(counts)).sum(axis=0).reshape(of.own.shape)
    release = summed(of, outputs, labels, counts, drawn_codes(generator, len(outputs)))
    overall, std, tables, group_std = of.split(release, 0.0)
    assert std == group_std == 0
    assert overall == pytest.approx(own, abs=1e-9)
    assert len(tables) == len(grouping.attributes)
    for attribute, table in zip(grouping.attributes, tables, strict=True):
        assert len(table) == len(grouping.groups(attribute))
        assert table.sum(axis=0) == pytest.approx(own, abs=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_a_group_s_figures_are_those_of_its_patients_alone(task):
    """By another way: the task's own measure on a data set of nobody else."""
    generator = np.random.default_rng(5)
    counts = generator.integers(1, 4, 90)
    outputs, labels = sample(task, counts, generator)
    patients = np.stack(
        [
            generator.integers(0, 3, 90),
            [age_code_of(a) for a in generator.integers(0, 99, 90)],
            generator.integers(0, 5, 90),
        ],
        axis=1,
    )
    of = measure(task)
    release = summed(of, outputs, labels, counts, of_patients(patients, counts))
    whose, tested = np.repeat(np.arange(90), counts), 0
    for one in by_group.of_release(of, release, 0.0):
        column, names = ATTRIBUTES.index(one.attribute), ALL.groups(one.attribute)
        assert [group.name for group in one.groups] == list(names)
        for place, group in enumerate(one.groups):
            members = np.flatnonzero(ALL.indices(patients)[:, column] == place)
            images = np.isin(whose, members)
            alone = of.own.rows(outputs[images], labels[images], firsts(counts[members]))
            expected = of.own.of_release(alone.sum(axis=0).reshape(of.own.shape), 0.0)
            assert group.report.examples == expected.examples
            assert set(group.report.metrics) == set(expected.metrics)
            for name, found in expected.metrics.items():
                assert group.report.metrics[name].value == pytest.approx(found.value, abs=1e-9)
            assert not group.noise_share
            tested += bool(expected.metrics)
    assert tested >= 7
    assert of.of_release(release, 0.0).metrics[of.headline].value == pytest.approx(
        of.own.of_release(of.own.rows(outputs, labels, firsts(counts)).sum(axis=0).reshape(of.own.shape), 0.0)
        .metrics[of.headline]
        .value
    )


def test_images_of_two_scanners_count_in_both_where_a_patient_s_row_is_a_mean_over_images():
    of = measure("classification", Grouping(("scanner",), scanners=("ge", "siemens")))
    scores = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    codes = np.array([[0, 0, 2], [0, 0, 3], [0, 0, 3], [0, 0, 0]])  # ge, siemens twice, unknown
    release = summed(of, scores, np.array([0, 1, 2, 0]), [3, 1], codes)
    ge, siemens, other, unknown = of.split(release, 0.0)[2][0]
    assert ge.sum() == pytest.approx(1 / 3)
    assert ge[0].sum() == pytest.approx(1 / 3)  # of true class 0
    assert siemens.sum(axis=1) == pytest.approx([0, 1 / 3, 1 / 3])
    assert not other.any()
    assert unknown.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("makers", "expected"), [((2, 3, 3), 1), ((3, 2, 5), 0), ((0, 0, 5), 2), ((0, 0, 0), 3), ((5, 3, 5), 2)]
)
def test_of_what_belongs_together_the_whole_patient_goes_to_most_images_group(makers, expected):
    """Dice of all images together has no parts; "unknown" counts last, of equals the first of the list."""
    of = measure("segmentation", Grouping(("scanner",), scanners=("ge", "siemens")))
    labels = np.zeros((3, 16, 16), np.int64)
    labels[0, 2:9, 2:9], labels[1, 4:6, 4:6] = 1, 1
    found = labels.astype(np.int16)
    found[0, 2:5] = 0
    codes = np.array([[0, 0, maker] for maker in makers])
    release = summed(of, found, labels, [3], codes)
    (table,) = of.split(release, 0.0)[2]
    assert np.flatnonzero(table.any(axis=(1, 2))).tolist() == [expected]
    assert table.sum(axis=0) == pytest.approx(
        of.own.rows(found, labels, firsts([3]))[0].reshape(of.own.shape)
    )


def test_a_patient_with_thousands_of_images_of_all_groups_still_counts_once():
    generator = np.random.default_rng(0)
    outputs, labels = sample("classification", [5000], generator)
    of = measure("classification")
    row = of.rows(outputs, labels, firsts([5000]), drawn_codes(generator, 5000))
    assert 0 < np.linalg.norm(row) <= 1 + 1e-12
    assert of.split(row.reshape(of.shape), 0.0)[0].sum() == pytest.approx(1)


def test_sizes_follow_from_the_terms_alone_and_nobody_is_a_table_too():
    of = measure("classification")
    assert of.shape == ((1 + 4 + 4 + 4) * 3, 12)
    for task in TASKS:  # a site without held-out patients answers like any other
        outputs, labels = sample(task, [], np.random.default_rng(0))
        empty = measure(task).rows(outputs, labels, firsts([]), np.zeros((0, 3), np.int64))
        assert empty.shape == (0, measure(task).shape[0] * measure(task).shape[1])
    unknown = of.rows(np.full((1, 3), 1 / 3), np.array([0]), firsts([1]))  # a site that knows nothing
    assert unknown.shape == (1, of.shape[0] * of.shape[1])
    with pytest.raises(DataError, match="codes"):
        of.rows(np.full((1, 3), 1 / 3), np.array([0]), firsts([1]), np.zeros((1, 2), np.int64))


# ---------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("attributes", [("sex",), ("age_band", "scanner"), ATTRIBUTES])
def test_the_noise_of_overall_and_group_tables_is_what_is_stated_and_nothing_else(attributes):
    """A χ² test of their variances; the same test rejects a variance that is a tenth off, and the plain sum's."""
    of = measure("classification", Grouping(attributes))
    sigma, generator, draws = 1.7, np.random.default_rng(), 400
    overall, each = [], []
    for _ in range(draws):
        table, std, groups, group_std = of.split(generator.normal(0, sigma, of.shape), sigma)
        overall.append(table.ravel())
        each.append(np.concatenate([group.ravel() for group in groups]))
    assert group_std == pytest.approx(sigma * (len(attributes) + 1) ** 0.5)
    sizes = [len(of.grouping.groups(name)) for name in attributes]
    precision = (1 + sum(1 / size for size in sizes)) / (len(attributes) + 1)
    assert std == pytest.approx(sigma / precision**0.5)

    def p_value(values, deviation):
        found = np.concatenate(values)
        below = stats.chi2.cdf((found**2).sum() / deviation**2, found.size)
        return 2 * min(below, 1 - below)

    assert p_value(overall, std) > 1e-6
    assert p_value(each, group_std) > 1e-6
    for wrong in (1.1, 1 / 1.1):
        assert p_value(overall, std * wrong) < 1e-6
        assert p_value(each, group_std * wrong) < 1e-6
    assert p_value(overall, sigma) < 1e-6  # of an evaluation without groups
    assert p_value(overall, group_std) < 1e-6  # of the block for everybody alone: the groups' sums do help


def test_no_weights_of_the_readings_give_less_noise():
    """The oracle: generalised least squares on the design matrix, solved by numpy."""
    of = measure("classification", Grouping(ATTRIBUTES))
    sizes = of.sizes[1:]
    design = np.zeros((sum(of.sizes), 1 + sum(size - 1 for size in sizes)))
    design[0, 0], row, column = 1, 1, 1
    for size in sizes:  # the last group is what the others leave of everybody
        design[row : row + size - 1, column : column + size - 1] = np.eye(size - 1)
        design[row + size - 1, 0], design[row + size - 1, column : column + size - 1] = 1, -1
        row, column = row + size, column + size - 1
    variance = np.linalg.inv(design.T @ design)[0, 0] * len(of.sizes)
    assert of.overall_factor**2 == pytest.approx(variance)
    assert (of.overall_factor, of.group_factor) == pytest.approx((1.58468, 2.0), abs=1e-5)


def table_of(cells):
    """A release of two classes and two bins that holds so many patients in each cell, all of one group."""
    of = Subgroups(measure_of("classification", 2, 2), Grouping(("sex",)))
    release = np.zeros((1 + 4, 2, 2))
    release[0] = release[1] = cells
    return of, release.reshape(of.shape) / of.group_factor


def test_the_noise_s_part_of_an_interval_is_its_part_of_the_variance():
    """Accuracy of four cells of equal number h: each cell's variance is h of sampling and s² of noise."""
    of, release = table_of(np.full((2, 2), 400.0))
    for std, expected in ((20.0, 0.5), (40.0, 0.8), (2.0, 0.0099)):
        (sex,) = by_group.of_release(of, release, std / of.group_factor)
        assert sex.groups[0].noise_share["accuracy"] == pytest.approx(expected, abs=0.06)


def test_a_group_that_noise_hides_has_a_reason_and_no_figures():
    of, release = table_of(np.full((2, 2), 400.0))
    (sex,) = by_group.of_release(of, release, 10.0)
    female, male, *_ = sex.groups
    assert "auroc" in female.report.metrics
    assert not male.report.metrics
    assert "noise" in male.report.omitted["auroc"]
    assert sex.gap is None  # one group alone has nothing to be compared with


# ----------------------------------------------------------------------------------------------- gaps


def group(name, value, deviation):
    half = 1.96 * deviation
    report = EvaluationReport(
        "sites", 1, {"auroc": Interval(value, value - half, value + half)}, np.zeros((2, 2), np.int64)
    )
    return by_group.GroupResult(name, report)


def test_the_interval_of_the_clearest_gap_holds_for_every_pair_as_often_as_it_says():
    """Four groups that are alike: the clearest of six pairs is told apart in 5 % of the draws at most, and not never."""
    generator, told, draws = np.random.default_rng(), 0, 400
    deviations = np.array([0.01, 0.02, 0.02, 0.05])
    for _ in range(draws):
        values = 0.8 + deviations * generator.standard_normal(4)
        gap = by_group.clearest_gap(
            [group(n, v, d) for n, v, d in zip("abcd", values, deviations, strict=True)], "auroc"
        )
        told += gap.told_apart
    assert stats.binomtest(told, draws, 0.05).pvalue > 1e-6
    # the interval of one pair, without regard to there being six, would be wrong far oftener
    assert stats.binomtest(told, draws, 0.2).pvalue < 1e-6


def test_a_real_difference_is_told_and_a_vague_group_does_not_hide_it():
    gap = by_group.clearest_gap(
        [group("a", 0.9, 0.01), group("b", 0.7, 0.01), group("c", 0.5, 0.3), group("unknown", 0.1, 0.001)],
        "auroc",
    )
    assert gap.told_apart
    assert {gap.least, gap.most} == {"a", "b"}
    assert (gap.least, gap.most) == ("b", "a")
    assert gap.difference.value == pytest.approx(0.2)
    assert gap.difference.low < 0.2 < gap.difference.high
    assert gap.not_excluded > 0.5  # of the vague one little is known
    assert by_group.clearest_gap([group("a", 0.9, 0.01), group("unknown", 0.1, 0.01)], "auroc") is None


def test_an_interval_without_width_is_no_certainty():
    certain = group("c", 1.0, 0.0)
    assert by_group.clearest_gap([group("a", 0.9, 0.1), certain], "auroc") is None
    carried = EvaluationReport("sites", 1, {"auroc": Interval(1.0, 0.99, 1.0)}, np.zeros((2, 2), np.int64))
    cut_off = by_group.GroupResult("d", carried)  # its other half lies beyond what is possible
    gap = by_group.clearest_gap([group("a", 0.9, 0.1), certain, group("b", 0.8, 0.1), cut_off], "auroc")
    assert (gap.least, gap.most) == ("b", "a")


# ---------------------------------------------------------------------------------------- scores at hand


@pytest.mark.parametrize("task", TASKS)
def test_of_scores_at_hand_a_group_s_figures_are_those_of_its_images(task):
    generator = np.random.default_rng(2)
    counts = generator.integers(1, 3, 60)
    outputs, labels = sample(task, counts, generator)
    codes = np.zeros((len(outputs), 3), np.int64)
    codes[:, 0] = generator.integers(1, 3, len(outputs))
    found = by_group.of_outputs(measure(task), outputs, labels, firsts(counts), codes, bootstrap=20, seed=0)
    assert [one.attribute for one in found] == ["sex"]  # of nobody's age or scanner anything is known
    (sex,) = found
    assert [one.name for one in sex.groups] == ["female", "male"]
    whose = np.repeat(np.arange(60), counts)
    for place, one in enumerate(sex.groups, start=1):
        images = codes[:, 0] == place
        own = [int((images & (whose == u)).sum()) for u in range(60)]
        expected = measure_of(task, 3, 12).of_outputs(
            outputs[images], labels[images], firsts([n for n in own if n]), bootstrap=20, seed=0
        )
        assert one.report.metrics == expected.metrics
    assert (
        by_group.of_outputs(measure(task), outputs, labels, firsts(counts), None, bootstrap=0, seed=0) == ()
    )
