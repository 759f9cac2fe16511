"""Several heads' measure against each head's own: one bounded row a patient, and a release that says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.evaluation import HeadMeasure, Several, measure_of

SIDE, CLASSES, BINS = (6, 6), 2, 12
VOXELS = math.prod(SIDE)
EACH = (
    HeadMeasure("classification", measure_of("classification", CLASSES, BINS), (CLASSES,), (), True, False),
    HeadMeasure(
        "regression", measure_of("regression", 1, BINS, target_range=(0.0, 80.0)), (1,), (), False, False
    ),
    HeadMeasure("segmentation", measure_of("segmentation", CLASSES, BINS), SIDE, SIDE, True, True),
)
WHOLE = Several(EACH)
PLACES = ((slice(0, 2), slice(0, 1)), (slice(2, 3), slice(1, 2)), (slice(3, None), slice(2, None)))


def firsts(counts):
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def sample(number, generator):
    """(N, outputs), (N, labels) float32, as networks and sites have them."""
    scores = generator.dirichlet(np.ones(CLASSES), number)
    maps, drawn = np.zeros((2, number, *SIDE), np.int64)
    for image in range(number):
        if generator.random() < 0.6:
            y, x = generator.integers(0, 3, 2)
            drawn[image, y : y + 3, x : x + 3] = 1
            maps[image, y : y + int(generator.integers(1, 5)), x : x + 3] = 1
    flat = (number, VOXELS)
    outputs = [scores, generator.normal(0.5, 0.3, (number, 1)), maps.reshape(flat)]
    labels = [generator.integers(0, 2, (number, 1)), generator.random((number, 1)), drawn.reshape(flat)]
    return np.concatenate(outputs, axis=1), np.concatenate(labels, axis=1).astype(np.float32)


def own(k, outputs, labels):
    """What head k's measure takes by itself."""
    head, (out, known) = EACH[k], PLACES[k]
    found, truth = outputs[:, out].reshape(-1, *head.outputs), labels[:, known].reshape(-1, *head.labels)
    return found.astype(np.int16) if head.maps else found, truth.astype(
        np.int64
    ) if head.of_classes else truth


def tables(rows):
    """(…, all) → each head's (rows, bins), as its own measure has it."""
    ends = np.cumsum([math.prod(head.measure.shape) for head in EACH])
    parts = np.split(rows * math.sqrt(len(EACH)), ends[:-1], axis=-1)
    return [
        part.reshape(*rows.shape[:-1], *head.measure.shape) for part, head in zip(parts, EACH, strict=True)
    ]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_whatever_its_labels_and_outputs_a_patient_s_row_has_norm_one_at_most(counts, seed):
    generator = np.random.default_rng(seed)
    outputs, labels = sample(sum(counts), generator)
    for values in (outputs, labels):
        spoilt = generator.random(values.shape) < 0.02
        values[spoilt] = generator.choice([np.nan, np.inf, -np.inf, -1, 7, 0.5, 1e30], int(spoilt.sum()))
    rows = WHOLE.rows(outputs, labels, firsts(counts))
    assert rows.shape == (len(counts), math.prod(WHOLE.shape))
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()
    assert (np.linalg.norm(rows, axis=1) <= 1 + 1e-12).all()
    begin = firsts(counts)
    for u in range(len(counts)):
        of = slice(begin[u], begin[u + 1])
        assert np.array_equal(WHOLE.rows(outputs[of], labels[of], firsts([counts[u]]))[0], rows[u])


def test_the_bound_is_met_by_a_patient_whom_every_head_counts_whole():
    """A divisor that is too large would be safe, and waste the noise; one that is too small is none."""
    exact = np.zeros((1, 3 + VOXELS)), np.zeros((1, 2 + VOXELS), np.float32)
    exact[0][0, 1], exact[1][0, 0] = 1.0, 1.0
    exact[0][0, 2], exact[1][0, 1] = 1.0, 1.0  # truth at the top of the range, without an error
    norm = np.linalg.norm(WHOLE.rows(*exact, firsts([1])))
    by_head = [np.linalg.norm(table) for table in tables(WHOLE.rows(*exact, firsts([1]))[0])]
    assert by_head[0] == pytest.approx(1)
    assert by_head[2] == pytest.approx(1)
    assert 0.9 < norm <= 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_rows_and_releases_are_each_head_s_own(seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 4, 40)
    outputs, labels = sample(int(counts.sum()), generator)
    first, rows = firsts(counts), WHOLE.rows(outputs, labels, firsts(counts))
    summed = rows.sum(axis=0)[None]
    released, measured = (
        WHOLE.of_release(summed, 0.0),
        WHOLE.of_outputs(outputs, labels, first, bootstrap=20, seed=3),
    )
    assert WHOLE.headline == "classification/auroc"
    assert WHOLE.headline in released.metrics
    seen = 0
    for k, head in enumerate(EACH):
        alone = head.measure.rows(*own(k, outputs, labels), first)
        assert np.allclose(tables(rows)[k].reshape(len(alone), -1), alone, atol=1e-12)
        said = head.measure.of_release(alone.sum(axis=0).reshape(head.measure.shape), 0.0)
        exact = head.measure.of_outputs(*own(k, outputs, labels), first, bootstrap=20, seed=3)
        for name, interval in said.metrics.items():
            assert released.metrics[f"{head.name}/{name}"].value == pytest.approx(interval.value, abs=1e-9)
        assert {
            f"{head.name}/{name}": i for name, i in exact.metrics.items()
        }.items() <= measured.metrics.items()
        assert {f"{head.name}/{name}" for name in said.omitted} <= released.omitted.keys()
        seen += len(said.metrics)
    assert len(released.metrics) == seen
    assert measured.examples == len(labels)


def test_noise_is_told_as_large_as_it_is_in_a_head_s_own_cells():
    """A wrong scale of the noise would show figures that it hides, or hide those that stand out."""
    generator = np.random.default_rng(5)
    outputs, labels = sample(400, generator)
    summed = WHOLE.rows(outputs, labels, firsts([1] * 400)).sum(axis=0)[None]
    std = 2.0
    released = WHOLE.of_release(summed, std)
    for k, head in enumerate(EACH):
        said = head.measure.of_release(tables(summed)[k][0], std * math.sqrt(3))
        ours = {n.partition("/")[2]: i for n, i in released.metrics.items() if n.startswith(head.name)}
        assert ours.keys() == said.metrics.keys()
        for name, interval in said.metrics.items():
            assert (ours[name].low, ours[name].high) == pytest.approx((interval.low, interval.high), abs=1e-9)
        other = head.measure.of_release(tables(summed)[k][0], std)
        assert any(abs(other.metrics[n].high - i.high) > 1e-6 for n, i in said.metrics.items())
    lost = WHOLE.of_release(np.zeros(WHOLE.shape), 5.0)
    assert not lost.metrics
    assert WHOLE.headline in lost.omitted


@pytest.mark.parametrize("k", range(3))
def test_a_missing_label_counts_in_no_head_but_the_others(k):
    generator = np.random.default_rng(k)
    counts = [2, 1, 3]
    outputs, labels = sample(6, generator)
    whole = tables(WHOLE.rows(outputs, labels, firsts(counts)))
    labels[2, PLACES[k][1]] = np.nan  # the one image of the second patient
    labels[3, PLACES[k][1]] = np.nan  # one of three of the third
    found = tables(WHOLE.rows(outputs, labels, firsts(counts)))
    for other in {0, 1, 2} - {k}:
        assert np.array_equal(found[other], whole[other])
    assert np.array_equal(found[k][0], whole[k][0])
    assert not found[k][1].any()
    taken = np.array([4, 5])
    alone = EACH[k].measure.rows(*own(k, outputs[taken], labels[taken]), firsts([2]))
    assert np.allclose(found[k][2].ravel(), alone[0])
    labels[:, PLACES[k][1]] = np.nan
    measured = WHOLE.of_outputs(outputs, labels, firsts(counts), bootstrap=10, seed=0)
    name = f"{EACH[k].name}/{EACH[k].measure.headline}"
    assert "no examples" in measured.omitted[name]
    assert not any(metric.startswith(EACH[k].name) for metric in measured.metrics)
    assert not tables(WHOLE.rows(outputs, labels, firsts(counts)))[k].any()


def test_nobody_is_a_release_of_zeros():
    rows = WHOLE.rows(np.zeros((0, 3 + VOXELS)), np.zeros((0, 2 + VOXELS)), firsts([]))
    assert rows.shape == (0, math.prod(WHOLE.shape))
    assert not WHOLE.of_outputs(
        np.zeros((0, 3 + VOXELS)), np.zeros((0, 2 + VOXELS)), firsts([]), bootstrap=5, seed=0
    ).metrics


def test_a_release_of_another_shape_is_refused():
    for wrong in (np.zeros((2, 3)), np.full(WHOLE.shape, np.nan)):
        with pytest.raises(DataError):
            WHOLE.of_release(wrong, 1.0)
