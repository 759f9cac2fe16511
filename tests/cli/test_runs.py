"""`fedimg runs` over folders as a run leaves them."""

import json

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from fedimg.cli import main


@pytest.fixture
def folder(tmp_path):
    finished, stopped = tmp_path / "runs" / "20260131-1", tmp_path / "runs" / "20260131-2"
    for path, rounds in ((finished, 2), (stopped, 1)):
        path.mkdir(parents=True)
        (path / "config.yaml").write_text("sites: 2\n")
        rows = [
            {"round": r, "auroc": 0.5 + r / 10, "sites": ["a", "b"], "ok": True} for r in range(1, rounds + 1)
        ]
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = {
        "test": {"auroc": 0.75},
        "sites": {"a": {"epsilon": 2.5}, "b": {"epsilon": 2.75}},
        "privacy": {"mode": "per_site"},
    }
    (finished / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "runs" / "not-a-run").mkdir()
    return tmp_path / "runs"


def test_list_has_one_line_a_run_and_the_largest_epsilon_of_its_sites(folder, capsys):
    assert main(["runs", "list", str(folder), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["state"], r["rounds"], r["privacy"], r["epsilon"], r["score"]) for r in rows] == [
        ("finished", 2, "per_site", 2.75, 0.75),
        ("unfinished", 1, None, None, None),
    ]
    assert main(["runs", "list", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [
        "run",
        "state",
        "rounds",
        "privacy",
        "epsilon",
        "figure",
        "score",
        "overrides",
    ]


def test_an_absent_folder_that_was_named_is_a_data_error(tmp_path, capsys, monkeypatch):
    assert main(["runs", "list", str(tmp_path / "none")]) == 4
    assert "no such folder" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)  # before the first run nothing is wrong
    assert main(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_run_is_shown_by_the_name_that_the_list_prints(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main(["runs", "show", "20260131-1"]) == 0
    assert "report" not in capsys.readouterr().out  # there is none
    assert main(["runs", "export", "20260131-1"]) == 0
    assert (folder / "20260131-1" / "tensorboard").is_dir()


def test_overrides_and_failures_are_listed(folder, capsys):
    stopped = folder / "20260131-2"
    (stopped / "overrides.json").write_text('["sites=8", "privacy.epsilon=3"]')
    failure = {"kind": "BudgetExhausted", "expected": "room", "found": "none", "remedy": "ask for less"}
    (stopped / "failure.json").write_text(json.dumps(failure))
    assert main(["runs", "list", str(folder)]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row.split() == ["20260131-2", "failed", "1", "sites=8", "privacy.epsilon=3"]
    assert main(["runs", "show", str(stopped)]) == 0
    assert "failed: expected room; found none; ask for less" in capsys.readouterr().out


def test_a_second_export_says_how_to_overwrite(folder, capsys):
    assert main(["runs", "export", str(folder / "20260131-1")]) == 0
    assert main(["runs", "export", str(folder / "20260131-1")]) == 4
    assert "add --overwrite" in capsys.readouterr().err
    assert main(["runs", "export", str(folder / "20260131-1"), "--overwrite"]) == 0
    assert len(list((folder / "20260131-1" / "tensorboard").iterdir())) == 1


def test_show_prints_a_short_summary_or_how_to_go_on(folder, capsys):
    summary = json.loads((folder / "20260131-1" / "summary.json").read_text())
    summary["privacy"]["release_records"] = {"a": {"plan": "f" * 64}}
    (folder / "20260131-1" / "summary.json").write_text(json.dumps(summary))
    assert main(["runs", "show", str(folder / "20260131-1")]) == 0
    shown = capsys.readouterr().out
    assert "b     2.75" in shown
    assert "auroc   0.75" in shown
    assert "f" * 64 not in shown
    assert main(["runs", "show", str(folder / "20260131-1"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == summary
    assert main(["runs", "show", str(folder / "20260131-2")]) == 0
    assert f"fedimg simulate resume={folder / '20260131-2'}" in capsys.readouterr().out


def test_export_writes_every_number_and_nothing_else(folder, tmp_path, capsys):
    assert main(["runs", "export", str(folder / "20260131-1"), str(tmp_path / "events"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scalars"] == 3
    (path,) = (tmp_path / "events").iterdir()
    # EventFileLoader upgrades scalars to tensors, so the value is read from there.
    found = [
        (event.step, value.tag, round(value.tensor.float_val[0], 6))
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag != "config"
    ]
    assert found == [(1, "auroc", 0.6), (2, "auroc", 0.7), (2, "test/auroc", 0.75)]


@pytest.mark.parametrize("action", ["show", "export"])
def test_a_folder_that_is_no_run_is_a_data_error(action, tmp_path, capsys):
    assert main(["runs", action, str(tmp_path)]) == 4
    assert capsys.readouterr().err == (
        "error: expected a run's folder with config.yaml, metrics.jsonl or summary.json\n       found none there\n       `fedimg runs list` names the runs\n"
    )


def test_a_damaged_run_is_shown_as_such_and_does_not_hide_the_others(folder, capsys):
    (folder / "20260131-2" / "metrics.jsonl").write_text("{")
    assert main(["runs", "list", str(folder)]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        "state",
        "finished",
        "damaged",
    ]
    assert main(["runs", "show", str(folder / "20260131-2")]) == 0
    assert "damaged: metrics.jsonl" in capsys.readouterr().out


def test_usage_errors_end_with_2_and_name_the_help(capsys):
    assert main(["runs", "shwo"]) == 2
    assert main(["runs", "show"]) == 2
    assert capsys.readouterr().err.endswith("see `fedimg runs show --help`\n")
