"""The table in each of its forms, and the page: they say the same, and escape whatever they are given."""

import csv
import io
import json
import math
from xml.etree import ElementTree as ET

import pytest

from fedimg.compare.rows import Comparison, Row, Score, metrics_of
from fedimg.compare.writing import COLUMNS, as_csv, as_markdown, as_page, cells, columns, write

HOSTILE = "</style><script>alert(1)</script>|\n\"'&\x00"


@pytest.fixture
def rows(row):
    return (
        row("ridge", math.inf),
        row("ridge", 3.0),
        Row("svm", 3.0, "distributed", "failed", "expected room in the ledger; found none; ask for less"),
        Row("kmeans", 3.0, "distributed", model="kmeans"),
    )


def test_all_forms_are_written_and_agree(rows, tmp_path):
    comparison = Comparison(rows, "fedimg compare sites=3", ("one thing", "another"), ("a note",))
    files = write(comparison, tmp_path / "out")
    assert {file.name for file in files} == {f"comparison.{e}" for e in ("json", "csv", "md", "html", "svg")}
    told = json.loads((tmp_path / "out" / "comparison.json").read_text())
    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "comparison.csv").read_text())))
    assert [one["learner"] for one in told["rows"]] == [line["learner"] for line in lines]
    for one, line in zip(told["rows"], lines, strict=True):
        assert line["epsilon_asked"] == str(one["epsilon_asked"])
        for name in ("auroc", "accuracy"):
            found = one["metrics"].get(name, {"value": None, "low": None, "high": None})
            for end, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                assert line[f"{name}{end}"] == ("" if found[key] is None else str(found[key]))
    assert (lines[0]["bytes_sent_most"], lines[0]["bytes_sent_all"]) == ("2500", "3500")
    assert told["cost"] == ["one thing", "another"]


def test_the_table_for_people(rows):
    assert dict(zip(COLUMNS, cells(rows[1]), strict=True)) == {
        "learner": "ridge",
        "ε": "3",
        "AUROC": "0.900 [0.850, 0.950]",
        "accuracy": "0.800",
        "recall": "–",
        "F1": "–",
        "training": "12 s",
        "a site sent": "2.5 kB",
        "ε spent": "3.00",
        "δ": "1e-5",
        "privacy": "distributed",
    }
    assert cells(rows[0])[1] == "∞"
    assert "none promised" in cells(rows[0])
    assert cells(rows[2])[2:-1] == ["–"] * (len(COLUMNS) - 3)


def test_epsilon_is_never_rounded_down(row):
    assert cells(row(epsilon=3.0))[-3] == "3.00"
    assert cells(row(epsilon=2.9912))[-3] == "3.00"


def test_markdown_has_as_many_cells_in_every_line_and_says_why_a_row_failed(rows):
    text = as_markdown(Comparison(rows))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {len(COLUMNS) + 1}
    assert "**svm, ε = 3**: failed: expected room in the ledger; found none; ask for less" in text
    assert "**kmeans, ε = 3**: not run yet" in text
    assert text.count("**ridge**") == 1


def test_the_page_holds_table_figure_and_words_and_nothing_from_elsewhere(rows):
    page = as_page(Comparison(rows, "fedimg compare", ("It adds up.",)))
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    words = " ".join(" ".join(tree.itertext()).split())
    for said in ("svm, ε = 3 failed", "ask for less", "It adds up.", "one round and one release", "0.900"):
        assert said in words
    assert len(list(tree.iter("svg"))) == 1
    assert not list(tree.iter("script"))
    assert "default-src &#x27;none&#x27;" in page


def test_whatever_a_row_holds_is_escaped(row):
    hostile = row(HOSTILE, model=HOSTILE, run=HOSTILE, unit=HOSTILE, scores={"auroc": Score(0.5)})
    failed = Row("a", 3.0, "x", "failed", HOSTILE)
    comparison = Comparison((hostile, failed), HOSTILE, (HOSTILE,), (HOSTILE,))
    tree = ET.fromstring(as_page(comparison).removeprefix("<!DOCTYPE html>\n"))
    assert not list(tree.iter("script"))
    table = [line for line in as_markdown(comparison).splitlines() if line.startswith("| ")]
    assert len(table) == 3
    assert len(list(csv.reader(io.StringIO(as_csv((hostile,)))))) == 2


def test_what_epsilon_is_for_is_said(row):
    assert "for one image" in as_markdown(Comparison((row(unit="image"),)))
    assert "for one patient" in as_markdown(Comparison((row(unit="patient"),)))


def test_columns_are_those_of_the_task(row):
    scores = {"dice": Score(0.9, 0.8, 0.95), "hd95_voxels": Score(1.5, 1.0, 2.0), "iou": Score(0.8)}
    learnt = row("filter_bank", 3.0, task="segmentation", scores=scores, model="filter_bank")
    otsu = Row(
        "otsu",
        0.0,
        "no site asked",
        "finished",
        task="segmentation",
        scores={"dice": Score(0.2)},
        bytes_sent={"a": 0},
        seconds=0.5,
        epsilon=0.0,
        delta=0.0,
        measured_on="public test set",
        model="otsu",
    )
    metrics = metrics_of((learnt, otsu))
    assert metrics == ("dice", "iou", "recall", "hd95_voxels")
    shown = dict(zip(columns(metrics), cells(otsu, metrics), strict=True))
    assert (shown["ε"], shown["Dice"], shown["IoU"], shown["a site sent"]) == ("0", "0.200", "–", "0 B")
    assert (shown["ε spent"], shown["δ"], shown["privacy"]) == ("0", "0", "no site asked")
    text = as_markdown(Comparison((learnt, otsu)))
    assert "Rows with ε = 0 learn nothing" in text
    assert "Dice and IoU are over all of a patient's images" in text
    assert "AUROC" not in text
    assert "whatever is bright counts" in text
    lines = list(csv.DictReader(io.StringIO(as_csv((learnt, otsu)))))
    assert (lines[0]["hd95_voxels_high"], lines[1]["dice"], lines[1]["task"]) == (
        "2.0",
        "0.2",
        "segmentation",
    )
    page = ET.fromstring(as_page(Comparison((learnt, otsu))).removeprefix("<!DOCTYPE html>\n"))
    words = " ".join(page.itertext())
    assert "nothing learnt (ε = 0)" in words
    assert "HD95, voxels" in words
