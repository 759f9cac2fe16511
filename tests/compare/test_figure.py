"""The figure: every number where its axis says it is."""

import math
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.compare.figure import figure, standalone
from fedimg.compare.rows import Row, Score

SVG = "{http://www.w3.org/2000/svg}"


def tree_of(rows):
    return ET.fromstring(standalone(figure(rows)))


def marks(tree):
    """Label of each marker → its middle."""
    found = {}
    for part in tree.iter():
        title = part.find(f"{SVG}title")
        if "mark" in part.get("class", "").split() and title is not None:
            if part.tag == f"{SVG}circle":
                at = float(part.get("cx")), float(part.get("cy"))
            elif part.tag == f"{SVG}rect":
                half = float(part.get("width")) / 2
                at = float(part.get("x")) + half, float(part.get("y")) + half
            else:
                at = tuple(map(float, re.match(r"M([\d.]+),([\d.]+)", part.get("d")).groups()))
            found[title.text] = at
    return found


def one(learner, epsilon, auroc, seconds=1.0, sent=1000):
    return Row(
        learner,
        epsilon,
        "none",
        "finished",
        scores={"auroc": Score(auroc, auroc - 0.01, min(1.0, auroc + 0.01))},
        seconds=seconds,
        bytes_sent={"a": sent, "b": 1},
    )


@given(
    st.lists(
        st.tuples(st.floats(0.02, 1.0), st.floats(1e-3, 1e5), st.integers(1, 10**12)), min_size=2, max_size=8
    )
)
def test_places_are_linear_in_metrics_and_logarithmic_in_costs(values):
    rows = [one(f"m{k}", 3.0, auroc, seconds, sent) for k, (auroc, seconds, sent) in enumerate(values)]
    found = marks(tree_of(rows))
    assert len(found) == 3 * len(rows)
    columns = {"AUROC": 0, "seconds of training": 1, "bytes a site sent": 2}
    for title, k in columns.items():
        points = sorted(
            (math.log(row[k]) if k else row[k], at[0])
            for (label, at) in found.items()
            if f", {title}:" in label
            for row in [values[int(re.match(r"m(\d+)", label).group(1))]]
        )
        (low, left), (high, right) = points[0], points[-1]
        for value, x in points:
            if high > low:
                expected = left + (value - low) / (high - low) * (right - left)
                assert x == pytest.approx(expected, abs=0.2)


def test_lines_of_one_learner_share_its_band_and_are_told_apart_by_epsilon():
    rows = [one(name, epsilon, 0.9) for name in ("ridge", "svm") for epsilon in (math.inf, 3.0)]
    found = {k: at[1] for k, at in marks(tree_of(rows)).items() if "AUROC" in k}
    order = [found[f"{name}, ε = {e}, AUROC: 0.900"] for name in ("ridge", "svm") for e in ("∞", "3")]
    assert order == sorted(order)
    assert len(set(order)) == 4
    assert order[1] - order[0] < order[2] - order[1]


def test_a_failed_row_is_in_the_figure_by_its_reason_and_has_no_marker():
    rows = [one("ridge", 3.0, 0.9), Row("svm", 3.0, "x", "failed", "no <room>")]
    tree = tree_of(rows)
    assert not any(label.startswith("svm") for label in marks(tree))
    words = " ".join(tree.itertext())
    assert "failed, see the table" in words
    assert "no <room>" in words


def test_a_number_that_is_not_there_is_not_drawn():
    bare = Row("svm", 3.0, "x", "finished", scores={"auroc": Score(0.5)})
    found = marks(tree_of([one("ridge", 3.0, 0.9), bare]))
    assert [label for label in found if label.startswith("svm")] == ["svm, ε = 3, AUROC: 0.500"]
    assert figure([Row("svm", 3.0, "x", "failed", "why")]) is None


def test_the_same_learner_twice_at_one_epsilon_is_drawn_twice():
    found = ET.fromstring(standalone(figure([one("ridge", 3.0, 0.9), one("ridge", 3.0, 0.8)])))
    assert len(marks(found)) == 2 + 1 + 1  # seconds and bytes have the same label, and stand at two heights


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6), st.floats(1e-3, 1e3), st.floats(1e3, 1e9))
def test_labels_of_an_axis_do_not_touch(values, least, most):
    rows = [one(f"m{k}", 3.0, value, least, 10) for k, value in enumerate(values)]
    tree = tree_of([*rows, one("m", 3.0, 0.9, most, 10**11)])
    spans = []
    for part in tree.iter(f"{SVG}text"):
        if part.get("class") == "tick":
            assert part.get("text-anchor") == "middle"
            half, x = 0.62 * 12 * len(part.text) / 2, float(part.get("x"))
            spans.append((x - half, x + half))
    spans.sort()
    assert len(spans) >= 6
    assert all(before[1] < after[0] for before, after in pairwise(spans))
