"""A fixed-seed part of `scripts/study_engines.py`: the same networks, fewer patients; and does it see a wrong rule?"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fedimg.models.build import BUILTIN
from fedimg.models.classical_config import CLASSICAL
from fedimg.privacy import bookkeeping

SCRIPTS = str(Path(__file__).resolve().parents[2] / "scripts")
# The others, in three dimensions above all, take half a minute each or more. Large networks in float64 alone: that is
# where a wrong rule cannot hide in rounding.
QUICK = [
    ("cnn", 1), ("cnn", 3), ("cnn-3d", 3), ("cnn-standardised", 2),
    ("scattering", 1), ("scattering", 3), ("scattering-head", 2), ("scattering-centre", 2),
    ("segresnet", 2), ("segresnet-voxels", 3), ("segresnet-voxels-3d", 1), ("basic_unet", 3), ("unet", 3),
    ("scattering-3d", 2), ("filter_bank", 3), ("filter_bank-3d", 2),
]  # fmt: skip
LARGE = ["densenet121", "efficientnet_b0", "resnet18"]


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, SCRIPTS)
    yield import_module("study_engines")
    sys.path.remove(SCRIPTS)


def test_the_study_has_every_network_in_every_form_that_is_offered(study):
    found = {(case.name, case.dimensions) for case in study.CASES.values()}
    with_gradients = set(BUILTIN) - CLASSICAL
    assert found == {(name, d) for name in with_gradients for d in (2, 3)}
    assert {study.CASES[name].name for name in [*LARGE, *(name for name, _ in QUICK)]} == with_gradients


@pytest.mark.parametrize(("name", "images"), QUICK)
def test_engines_agree_in_both_precisions(study, name, images):
    lines = study.study(study.CASES[name], patients=2, images=images)
    assert {line["dtype"] for line in lines} == {"float32", "float64"}
    assert all(line["passed"] for line in lines), [line for line in lines if not line["passed"]]


@pytest.mark.parametrize("name", LARGE)
def test_engines_agree_on_large_networks(study, name):
    lines = study.study(study.CASES[name], patients=1, images=2, dtypes=(torch.float64,))
    assert [line["engine"] for line in lines] == ["vmap", "bookkeeping"]
    assert all(line["passed"] for line in lines), lines


def test_a_rule_that_is_wrong_by_a_millionth_fails_the_study(study, monkeypatch, capsys):
    right = bookkeeping._RULES[F.group_norm]

    def wrong(tape, input, num_groups, weight=None, bias=None, eps=1e-5):  # noqa: A002 - torch's own name
        return right(tape, input, num_groups, weight, bias, eps * 1.01)

    monkeypatch.setitem(bookkeeping._RULES, F.group_norm, wrong)
    monkeypatch.setattr(
        sys, "argv", ["study_engines.py", "--cases", "cnn", "--images", "2", "--patients", "2"]
    )
    assert study.main() == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]
    assert all("bookkeeping" in line for line in failed)
    assert any("float64" in line for line in failed)


@pytest.mark.parametrize(
    "change", [{"least": 1e-4}, {"worst": 0.1}, {"norms": 1e-3}, {"sum": 1e-3}, {"share": 1.00001}, {"least": float("nan")}]
)  # fmt: skip
def test_each_figure_by_itself_decides(study, change):
    good = {"least": 1e-7, "worst": 1e-6, "norms": 1e-7, "sum": 8e-6, "share": 1.0}
    assert study.agrees(good, 1e-5, study.FLIPPED)
    assert not study.agrees(good | change, 1e-5, study.FLIPPED)


def test_a_missing_rule_counts_where_it_is_not_listed(study, monkeypatch):
    monkeypatch.delitem(bookkeeping._RULES, F.group_norm)
    lines = study.study(study.CASES["cnn"], patients=2, images=1)
    assert [(line["engine"], line["passed"]) for line in lines if line["dtype"] == "float64"] == [
        ("vmap", True),
        ("bookkeeping", False),
    ]


def test_the_tape_takes_double_precision_all_the_way(study):
    given = study.given_of(study.CASES["segresnet-voxels"], 2, 2).to(torch.float64)
    layers = study.reference(given).gradients
    for layer in study.replace(layers, engine="bookkeeping").layers(given.flat, given.images, given.labels):
        assert layer.rows().dtype == torch.float64
