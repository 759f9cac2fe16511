"""The section by group: every group of every source, what hides, what can be told, and nothing without groups."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from fedimg.breakdown import Breakdown, Gap, GroupResult
from fedimg.report import render
from fedimg.values import EvaluationReport, Interval

HIDDEN = "there are no examples, as far as can be told through the noise"


def result(name, value=None, source="sites", share=0.4):
    confusion = np.zeros((2, 2), np.int64)
    if value is None:
        return GroupResult(name, EvaluationReport(source, 3, {}, confusion, omitted={"auroc": HIDDEN}))
    metrics = {
        "auroc": Interval(value, value - 0.1, min(1.0, value + 0.1)),
        "recall": Interval(0.5, 0.4, 0.6),
    }
    return GroupResult(name, EvaluationReport(source, 40, metrics, confusion), {"auroc": share})


def sexes(gap=None):
    return Breakdown("sites", "sex", (result("female", 0.91), result("male", 0.84), result("unknown")), gap)


def section(data):
    page = render(data)
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    found = [s for s in tree.iter("section") if (h := s.find("h2")) is not None and h.text == "By group"]
    return (found[0], re.sub(r"\s+", " ", " ".join(found[0].itertext()))) if found else (None, "")


def test_without_groups_there_is_no_section(complete):
    assert section(complete()) == (None, "")
    alone = (Breakdown("sites", "site", absent="sums hide it"),)
    assert section(complete(breakdowns=alone)) == (None, "")


def test_every_group_stands_in_chart_and_table_and_who_is_hidden_is_said_to_be(complete):
    public = Breakdown("public", "sex", (result("female", 0.95, "public"), result("other", 0.7, "public")))
    tree, text = section(
        complete(
            breakdowns=(public, sexes(), Breakdown("sites", "site", absent="sums hide it")),
            noise_factors=(1.265, 1.414),
        )
    )
    (chart,) = (svg for svg in tree.iter("svg") if "chart" in svg.get("class", ""))
    drawn = [" ".join(one.itertext()) for one in chart.iter("text")]
    for name in ("everybody", "Sex", "female", "male", "other", "unknown"):
        assert any(name in one for one in drawn), name
    assert "0.910 [0.810, 1.000]" in text
    assert "too few to tell" in drawn
    (table, *_) = tree.iter("table")
    rows = {
        row.find("th").text: [cell.text for cell in row.findall("td")]
        for row in table.iter("tr")
        if row.find("td") is not None
    }
    assert rows["female"] == ["40", "0.950 [0.850, 1.000]", "40", "0.910 [0.810, 1.000]", "40%"]
    assert rows["male"] == ["–", "–", "40", "0.840 [0.740, 0.940]", "40%"]
    assert rows["other"] == ["40", "0.700 [0.600, 0.800]", "–", "–", "–"]
    assert rows["unknown"] == ["–", "–", "3", "too few to tell", "–"]
    assert "Site: not told, since sums hide it." in text
    assert "1.26 times the noise" in text
    assert "1.41 times" in text
    assert "no sign that groups are treated alike" in text


@pytest.mark.parametrize(
    ("low", "said"),
    [
        (0.0, "which chance and noise may have made: it is the clearest difference, and none can be told"),
        (0.02, "more than chance and noise explain"),
    ],
)
def test_a_gap_is_told_with_what_it_leaves_open(complete, low, said):
    gap = Gap("auroc", "male", "female", Interval(0.07, low, 0.3), 0.23, 0.41)
    _, text = section(complete(breakdowns=(sexes(gap),)))
    assert said in text
    assert "AUROC of male and female differs by 0.070" in text
    assert "Differences up to 0.410 are not excluded." in text


def test_without_privacy_nothing_is_called_noisy(complete):
    plain = complete()
    open_ = dataclasses.replace(plain.privacy, mode="none", sites=())
    _, text = section(complete(breakdowns=(sexes(),), privacy=open_))
    assert "nois" not in text.replace("noised histograms", "")
    assert "part of noise" not in text


def test_names_are_text_whatever_they_say(complete):
    tree, _ = section(
        complete(breakdowns=(Breakdown("sites", "site", (result("<script>", 0.9), result("b", 0.8))),))
    )
    assert not list(tree.iter("script"))


def test_a_report_of_a_thousand_sites_draws_some_and_lists_all(complete):
    many = Breakdown("sites", "site", tuple(result(f"s{k}", 0.5 + k / 3000) for k in range(1000)))
    tree, text = section(complete(breakdowns=(many,)))
    assert "942 more rows stand in the tables only." in text
    assert len(list(next(tree.iter("table")).iter("tr"))) == 1001
