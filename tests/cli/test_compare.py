"""`fedimg compare` as it is typed."""

import json

import pytest

from fedimg.cli import main

SMALL = ("sites=3", "deid.workers=0", "compare=false")


@pytest.fixture
def no_run(monkeypatch):
    """Whoever runs a federation all the same fails."""
    monkeypatch.setattr("fedimg.simulation.comparing.simulate", None)


def test_the_plan_says_what_would_be_run_by_what_and_at_which_cost(no_run, tmp_path, capsys):
    out = tmp_path / "out"
    asked = ["compare", *SMALL, "--learners", "ridge,scattering", "--out", str(out), "--plan"]
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["state"], row["rounds"], row["by"]) for row in told["rows"]] == [
        ("ridge-inf", "to be run", 1, "experiment=ridge privacy=none"),
        ("ridge-3", "to be run", 1, "experiment=ridge privacy=distributed privacy.epsilon=3"),
        ("scattering-inf", "to be run", 20, "model=scattering privacy=none"),
        (
            "scattering-3",
            "to be run",
            800,
            "experiment=scattering_private privacy=distributed privacy.epsilon=3",
        ),
    ]
    assert "add up to 6" in told["cost"][0]
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["row", "state", "rounds", "privacy", "by", "reason"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--learners", "rigde"), "did you mean ridge?"),
        (("siets=4",), "did you mean sites?"),
        (("--epsilons", "three"), "--epsilons of positive numbers and inf"),
        (("rounds=3",), "use --set LEARNER:rounds=3"),
        (("--set", "ridge:ruonds=3"), "did you mean rounds?"),
        (("--privacy", "secret"), "invalid choice"),
        (("sites=4", "--runs", "runs"), "settings of new runs too"),
    ],
)
def test_what_was_typed_wrong_is_told_before_anything_is_run(no_run, tmp_path, capsys, typed, said):
    assert main(["compare", *typed, "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_past_runs_are_compared_and_nothing_is_run(no_run, tmp_path, capsys):
    for name, seed in (("20260131-1", 0), ("20260131-2", 1)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        config = {"model": {"name": "ridge"}, "experiment": "ridge", "privacy": {"epsilon": 3}, "seed": seed}
        (folder / "config.yaml").write_text(json.dumps(config))
        privacy = {"mode": "none", "private": False, "unit": "image", "secagg": "none"}
        summary = {"test": {"auroc": 0.75}, "sites": {"a": {}}, "privacy": privacy, "rounds": 1}
        (folder / "summary.json").write_text(json.dumps(summary))
    out = tmp_path / "out"
    runs = str(tmp_path / "runs")
    assert main(["compare", "--runs", runs, "--out", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    assert [row["metrics"]["auroc"]["value"] for row in json.loads(shown.out)["rows"]] == [0.75, 0.75]
    assert "not all of the same data" in shown.err
    assert {file.name for file in out.iterdir()} == {
        f"comparison.{e}" for e in ("json", "csv", "md", "html", "svg")
    }
    (tmp_path / "runs" / "20260131-2" / "summary.json").write_text("{")
    assert main(["compare", "--runs", runs, "--out", str(out)]) == 4
    assert "failed: expected a finished run's folder" in capsys.readouterr().out


def test_a_folder_without_runs_is_a_data_error(tmp_path, capsys):
    assert main(["compare", "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 4
    assert "a run's folder, or a folder of finished runs" in capsys.readouterr().err


def test_a_table_of_past_runs_does_not_overwrite_a_comparison(tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    assert main(["compare", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]) in (2, 4)
    assert not (tmp_path / "comparison.json").exists()
