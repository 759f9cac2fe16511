"""A whole comparison: two learners, with privacy and without, on one federation of three generated hospitals."""

import json

import pytest
import yaml

from fedimg.cli import main
from fedimg.home import SiteHome
from fedimg.privacy.stated import statement_of
from fedimg.simulation import engines

SMALL = (
    "sites=3",
    "data.cohort.patients_per_hospital=8",
    "data.cohort.phantom_public_patients=6",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CR]",
    "imaging.image_size=[32,32]",
    "model.classical.projected=10",
    "privacy.delta=1e-3",
    "evaluation.bootstrap=20",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
)
TREE = ("--set", "decision_tree:rounds=2", "--set", "decision_tree:model.classical.depth=2")


@pytest.fixture
def carried(monkeypatch):
    """Counts on its own what the sites answer: run → site → bytes."""
    counted, plain = [], engines.in_turn

    def in_turn(*arguments):
        exchange, sent = plain(*arguments), {}
        counted.append(sent)

        def counting(outgoing):
            answers = exchange(outgoing)
            for name, data in answers.items():
                sent[name] = sent.get(name, 0) + len(data or b"")
            return answers

        return counting

    monkeypatch.setattr(engines, "in_turn", in_turn)
    return counted


def test_two_learners_are_compared_once_and_every_ledger_holds_both(carried, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["compare", *SMALL, *TREE, "--learners", "ridge,decision_tree", "--out", str(out), "--json"]
    assert main(asked) == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert shown.err.count("13 of 18 usable") >= 4  # what was taken in once is found again by each row
    assert [(row["learner"], row["epsilon_asked"]) for row in told["rows"]] == [
        ("ridge", "inf"),
        ("ridge", 3.0),
        ("decision_tree", "inf"),
        ("decision_tree", 3.0),
    ]
    # what the table says was sent is what went over the exchange
    assert [row["bytes_sent_by_site"] for row in told["rows"]] == carried
    # a round of ridge's is one sum; a level of a tree's is another
    assert [row["rounds"] for row in told["rows"]] == [1, 1, 2, 2]
    assert all(row["training_seconds"] > 0 and "auroc" in row["metrics"] for row in told["rows"])
    assert [row["epsilon_spent"] is not None for row in told["rows"]] == [False, True, False, True]
    assert all(0 < row["epsilon_spent"] <= 3 for row in told["rows"] if row["epsilon_spent"] is not None)
    assert "2 runs with privacy together: ε = " in told["cost"][0]
    composed = float(told["cost"][0].split("ε = ")[1].split(" ")[0])
    assert 3 < composed < 6  # more than either, less than their sum
    for name in ("hospital-1", "hospital-2", "hospital-3"):
        home = SiteHome.open(out / "homes" / name)
        assert len(statement_of(home.ledger, home.signing_key).runs) == 2
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file() and "runs" in file.parts}
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == told["rows"]
    assert {file: file.read_bytes() for file in before} == before
    assert len(carried) == 4  # nothing was run again


def test_sites_whose_policy_refuses_a_row_say_so_in_it_and_the_others_go_on(tmp_path, capsys):
    homes, out = tmp_path / "homes", tmp_path / "out"
    asked = ["compare", *SMALL, f"state={homes}", "--out", str(out), "--json"]
    assert main([*asked, "--learners", "ridge", "--epsilons", "3"]) == 0
    capsys.readouterr()
    for file in homes.glob("*/policy.yaml"):
        policy = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(policy | {"max_epsilon": 2.5}))
    assert main([*asked, "--learners", "ridge,pca", "--epsilons", "inf,3"]) == 3
    shown = capsys.readouterr()
    rows = {
        (row["learner"], row["epsilon_asked"]): (row["state"], row["reason"])
        for row in json.loads(shown.out)["rows"]
    }
    assert rows["ridge", 3.0] == ("finished", "")  # of before, and charged then
    assert rows["pca", "inf"] == rows["ridge", "inf"] == ("finished", "")
    state, reason = rows["pca", 3.0]
    assert state == "failed"
    assert "2.5" in reason
    assert "charged run by run" in shown.err


SLICES = (
    "sites=2",
    "data.cohort.patients_per_hospital=8",
    "data.cohort.phantom_public_patients=8",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CT]",
    "imaging.image_size=[32,32]",
    "evaluation.bootstrap=20",
    "audit.battery=false",
    "audit.empirical=false",
    "deid.workers=0",
    "secagg=none",
)


def test_traditional_rows_stand_beside_a_network_of_voxels_and_are_made_once(carried, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["compare", *SLICES, "--learners", "segmentation,otsu,morphology,blobs", "--epsilons", "inf"]
    asked += [
        "--set",
        "segmentation:rounds=1",
        "--set",
        "segmentation:model.width=2",
        "--out",
        str(out),
        "--json",
    ]
    assert main(asked) == 0
    told = json.loads(capsys.readouterr().out)
    rows = told["rows"]
    assert [row["learner"] for row in rows] == ["segmentation", "otsu", "morphology", "blobs"]
    assert all(row["task"] == "segmentation" and "dice" in row["metrics"] for row in rows)
    assert len(carried) == 1  # no site was asked for a baseline
    for row in rows[1:]:
        assert (row["epsilon_asked"], row["epsilon_spent"], row["rounds"]) == (0.0, 0.0, 0)
        assert set(row["bytes_sent_by_site"].values()) == {0}
    best = max(row["metrics"]["dice"]["value"] for row in rows[1:])
    assert best > 0.08  # the generated lesions are bright, 32 pixels are few; an empty map has 0
    before = {file: file.read_bytes() for file in out.rglob("summary.json")}
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert {file: file.read_bytes() for file in out.rglob("summary.json")} == before


def test_rules_are_a_row_and_another_rulebook_is_another_row(tmp_path, capsys):
    out, book = tmp_path / "out", tmp_path / "book.yaml"
    asked = ["compare", *SLICES, "--learners", "rules", "--out", str(out), "--json"]
    assert main(asked) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert {"auroc", "accuracy"} <= row["metrics"].keys()
    book.write_text(
        "classes: 2\nrules:\n  - {name: all, if: image_sd >= 0, class: 1, score: 0.9}\n"
        "otherwise: {class: 0, score: 1}\n"
    )
    assert main([*asked, f"rules={book}"]) == 0
    (other,) = json.loads(capsys.readouterr().out)["rows"]
    assert other["metrics"]["recall"]["value"] == 1
    assert other["metrics"]["auroc"]["value"] == 0.5
    book.write_text("classes: 3\nrules: []\n")
    assert main([*asked, f"rules={book}"]) == 2
    assert main([*asked, "rules=absent"]) == 2
    assert main(["compare", *SLICES, "rules=lesion", "--learners", "ridge", "--plan"]) == 2
    mixed = ["compare", *SLICES, "--learners", "segmentation,rules", "--epsilons", "inf", "--plan", "--json"]
    capsys.readouterr()
    assert main(mixed) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)["rows"]] == [
        "to be run",
        "cannot be run",
    ]
