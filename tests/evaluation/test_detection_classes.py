"""Detection of several classes, in two and three dimensions, held to counts made another way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.evaluation import measure_of
from fedimg.evaluation.detection import _overlaps
from fedimg.imaging.findings import heat_map

KINDS = 3
SIDES = {2: (18, 20), 3: (8, 12, 10)}


def drawn(generator, dimensions, images, most=4):
    """Label maps of numbered boxes, and for each image its findings as a network would have to find them."""
    maps = np.zeros((images, *SIDES[dimensions]), np.uint16)
    for one in maps:
        for number in range(int(generator.integers(0, most + 1))):
            low = [int(generator.integers(0, side - 4)) for side in one.shape]
            size = [int(generator.integers(2, 5)) for _ in low]
            where = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
            one[where] = 256 * int(generator.integers(1, KINDS + 1)) - 1 - number
    return np.stack([heat_map(one, KINDS) for one in maps])


def truths(target, dimensions):
    """(kind, centre, size) of each finding, by a look at the map."""
    return [
        (kind, centre, target[(slice(KINDS, None), *centre)])
        for kind in range(1, KINDS + 1)
        for centre in map(tuple, np.argwhere(target[kind - 1] == 1))
    ]


def guesses(generator, targets, dimensions, most=12, whole=True):
    """Detections near findings, with errors of place, size and class, and some of nothing. Not `whole`: no two lie
    equally far from anything.
    """
    found = np.zeros((len(targets), most, 2 + 2 * dimensions))
    for rows, target in zip(found, targets, strict=True):
        real = truths(target, dimensions)
        for row in rows:
            row[0] = generator.random()
            if real and generator.random() < 0.7:
                kind, centre, size = real[int(generator.integers(len(real)))]
                row[1 : 1 + dimensions] = np.array(centre) + generator.choice([-1, 0, 0, 0, 1], dimensions)
                row[1 + dimensions : -1] = np.maximum(
                    size + generator.choice([-1, 0, 0, 0, 1], dimensions), 1
                )
                row[-1] = kind if generator.random() < 0.9 else generator.integers(1, KINDS + 1)
            else:
                row[1 : 1 + dimensions] = [generator.integers(side) for side in target.shape[1:]]
                row[1 + dimensions : -1] = generator.integers(1, 6, dimensions)
                row[-1] = generator.integers(1, KINDS + 1)
        if not whole:
            rows[:, 1:-1] += generator.uniform(0, 0.3, rows[:, 1:-1].shape)
        rows[:] = rows[np.argsort(-rows[:, 0])]
    return found


def voxels_of(centre, size, shape):
    """Every half voxel that lies in the box: sizes and places are whole, so that nothing is cut."""
    grid = np.meshgrid(*(np.arange(-40, 2 * side + 40) / 2 + 0.25 for side in shape), indexing="ij")
    return np.logical_and.reduce([abs(g - c) < s / 2 for g, c, s in zip(grid, centre, size, strict=True)])


def iou(one, other, shape):
    a, b = (voxels_of(*box, shape) for box in (one, other))
    return (a & b).sum() / (a | b).sum()


def average_precision(outputs, targets, dimensions, kind, least):
    """All detections of all images in the order of their scores, one by one; the area under the exact steps."""
    order = sorted(
        ((row[0], i, k) for i, rows in enumerate(outputs) for k, row in enumerate(rows) if row[-1] == kind),
        reverse=True,
    )
    real = {i: [t for t in truths(target, dimensions) if t[0] == kind] for i, target in enumerate(targets)}
    total, taken = sum(map(len, real.values())), set()
    hits, area, recall = 0, 0.0, 0.0
    for seen, (_, i, k) in enumerate(order, start=1):
        row = outputs[i, k]
        box = row[1 : 1 + dimensions], row[1 + dimensions : -1]
        fits = [(iou(box, t[1:], SIDES[dimensions]), j) for j, t in enumerate(real[i]) if (i, j) not in taken]
        best, j = max(fits, default=(0.0, 0), key=lambda one: (one[0], -one[1]))
        if best >= least:
            taken.add((i, j))
            hits += 1
            area += (hits / total - recall) * hits / seen
            recall = hits / total
    return area


@pytest.mark.parametrize("dimensions", [2, 3])
def test_average_precision_is_a_direct_count_of_voxels_and_steps(dimensions):
    generator = np.random.default_rng(dimensions)
    targets = drawn(generator, dimensions, 8)
    outputs = guesses(generator, targets, dimensions)
    measure, first = measure_of("detection", KINDS + 1, 20), np.arange(9)
    found = measure.of_outputs(outputs, targets, first, bootstrap=10, seed=0).metrics
    for name, least in (("ap50", 0.5), ("ap10", 0.1)):
        each = [average_precision(outputs, targets, dimensions, kind, least) for kind in (1, 2, 3)]
        assert [found[f"{name}_{kind}"].value for kind in (1, 2, 3)] == pytest.approx(each)
        assert found[f"m{name}"].value == pytest.approx(np.mean(each))
        assert 0.05 < found[f"m{name}"].value < 0.99
    wrong = outputs.copy()
    wrong[:, :, -1] = 1 + wrong[:, :, -1] % KINDS  # every finding called by another's class
    lost = measure.of_outputs(wrong, targets, first, bootstrap=10, seed=0).metrics
    assert lost["map50"].value < found["map50"].value / 2


@pytest.mark.parametrize("dimensions", [2, 3])
@given(st.data())
@settings(max_examples=25)
def test_overlap_is_that_of_counted_voxels(dimensions, data):
    shape = (7,) * dimensions
    whole = st.tuples(*[st.integers(1, 5)] * dimensions)
    boxes = [(data.draw(whole), data.draw(whole)) for _ in range(2)]
    one, other = (
        np.array([np.array(at) - (np.array(size) % 2 == 0) * 0.5, size], float) for at, size in boxes
    )
    assert _overlaps(one[:1], one[1:], other[:1], other[1:])[0, 0] == pytest.approx(iou(one, other, shape))


@pytest.mark.parametrize("dimensions", [2, 3])
@given(st.integers(0, 2**32 - 1), st.permutations(range(5)), st.permutations(range(1, KINDS + 1)))
@settings(max_examples=10)
def test_neither_the_order_of_patients_nor_of_axes_nor_of_classes_matters(dimensions, seed, order, kinds):
    generator = np.random.default_rng(seed)
    targets = drawn(generator, dimensions, 5)
    outputs = guesses(generator, targets, dimensions, most=8, whole=False)
    measure, first = measure_of("detection", KINDS + 1, 20), np.arange(6)

    def figures(found, labels):
        metrics = measure.of_outputs(found, labels, first, bootstrap=0, seed=0).metrics
        return {name: interval.value for name, interval in metrics.items()}

    plain = figures(outputs, targets)
    assert figures(outputs[list(order)], targets[list(order)]) == pytest.approx(plain)
    turned = outputs.copy()
    for start in (1, 1 + dimensions):
        turned[:, :, start : start + dimensions] = outputs[:, :, start : start + dimensions][:, :, ::-1]
    maps = targets.transpose(0, 1, *range(dimensions + 1, 1, -1)).copy()
    maps[:, KINDS:] = maps[:, KINDS:][:, ::-1]
    assert figures(turned, maps) == pytest.approx(plain)
    renamed, named = outputs.copy(), targets.copy()
    for old, new in enumerate(kinds, start=1):
        renamed[:, :, -1][outputs[:, :, -1] == old] = new
        named[:, new - 1] = targets[:, old - 1]
    again = figures(renamed, named)
    assert {k: v for k, v in again.items() if k[-2:-1] != "_"} == pytest.approx(
        {k: v for k, v in plain.items() if k[-2:-1] != "_"}
    )
    for old, new in enumerate(kinds, start=1):
        assert again.get(f"ap50_{new}") == pytest.approx(plain.get(f"ap50_{old}"))


def test_a_class_without_findings_has_no_figure_and_is_in_no_mean():
    generator = np.random.default_rng(3)
    targets = drawn(generator, 2, 12)
    targets[:, 2][targets[:, 2] == 1] = 0.9
    outputs = guesses(generator, targets, 2)
    found = measure_of("detection", KINDS + 1, 20).of_outputs(
        outputs, targets, np.arange(13), bootstrap=20, seed=0
    )
    assert {"ap50_3", "froc_3", "sensitivity_at_1_3"} <= found.omitted.keys()
    assert found.metrics["map50"].value == pytest.approx(
        np.mean([found.metrics[f"ap50_{k}"].value for k in (1, 2)])
    )


def test_a_release_in_which_one_class_cannot_be_told_says_nothing_of_the_mean():
    measure = measure_of("detection", KINDS + 1, 16)
    generator = np.random.default_rng(4)
    table = generator.random(measure.shape) * 400
    whole = measure.of_release(table, 1.0)
    assert {"sensitivity_at_1", "froc", "froc_1", "froc_2", "froc_3"} <= whole.metrics.keys()
    table[2] = 0  # the findings of class 2
    part = measure.of_release(table, 1.0)
    assert {"froc_1", "froc_3"} <= part.metrics.keys()
    assert {"sensitivity_at_1", "froc", "froc_2", "map50", "ap10_3"} <= part.omitted.keys()
