"""The run registry reads what runs leave behind, sound or not, and exports what it read."""

from __future__ import annotations

import json
import os

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedimg.errors import DataError
from server.runs import RunState, export_tensorboard, list_runs, open_run, show_run

CONFIG = {"data": {"name": "cohort"}, "privacy": {"mode": "per_site", "epsilon": 8.0}, "seed": 0}
SUMMARY = {
    "test": {"auroc": 0.91, "accuracy": 0.84},
    "sites": {
        "alder": {
            "epsilon": 7.99,
            "delta": 2e-5,
            "noise_multiplier": 1.1,
            "sampling_rate": 0.2,
            "steps": 200,
        },
        "birch": {"epsilon": 7.5, "delta": 2e-5, "noise_multiplier": 1.2, "sampling_rate": 0.2, "steps": 200},
    },
    "privacy": {"mode": "per_site"},
}
METRICS = [
    {
        "round": r,
        "loss": 1 / r,
        "auroc": 0.5 + r / 10,
        "epsilon": {"alder": 2.0 * r, "birch": 1.5 * r},
        "sites": ["alder"],
    }
    for r in (1, 2, 3)
]


def make_run(root, name="20250131-120000-7f3a", *, config=CONFIG, summary=SUMMARY, metrics=METRICS):
    path = root / name
    path.mkdir(parents=True)
    if config is not None:
        (path / "config.yaml").write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    if summary is not None:
        (path / "summary.json").write_text(summary if isinstance(summary, str) else json.dumps(summary))
    if metrics is not None:
        lines = metrics if isinstance(metrics, str) else "".join(json.dumps(row) + "\n" for row in metrics)
        (path / "metrics.jsonl").write_text(lines)
    return path


def changed(**parts):
    return SUMMARY | parts


def test_a_finished_run_is_read_whole(tmp_path):
    path = make_run(tmp_path)
    for part, file in (
        ("checkpoints", "round-00003.safetensors"),
        ("ledgers", "alder.json"),
        ("receipts", "alder.jsonl"),
    ):
        (path / part).mkdir()
        (path / part / file).write_bytes(b"x")
    (path / "checkpoints" / ".round-00004.safetensors.partial").write_bytes(b"x")
    (path / "report.html").write_text("<!DOCTYPE html>")
    record = show_run(tmp_path, path.name)
    assert record.info.row() == {
        "run": path.name,
        "state": "finished",
        "rounds": 3,
        "privacy": "per_site",
        "epsilon": 7.99,
        "figure": "auroc",
        "score": 0.91,
        "overrides": [],
        "failure": "",
        "problems": [],
    }
    assert (record.config, record.summary, list(record.metrics)) == (CONFIG, SUMMARY, METRICS)
    assert (record.checkpoints, record.ledgers) == (("round-00003.safetensors",), ("alder.json",))
    assert (record.receipts, record.has_report) == (("alder.jsonl",), True)
    assert list_runs(tmp_path) == (record.info,)


def test_the_followed_metric_is_the_tasks(tmp_path):
    summary = changed(headline="mae", test={"mae": 8.8, "auroc": 0.1})
    info = open_run(make_run(tmp_path, summary=summary)).info
    assert (info.figure, info.score, info.problems) == ("mae", 8.8, ())


def test_a_run_that_stopped_is_unfinished_and_not_damaged(tmp_path):
    info = open_run(make_run(tmp_path, summary=None)).info
    assert (info.state, info.rounds, info.problems, info.score) == (RunState.UNFINISHED, 3, (), None)
    info = open_run(make_run(tmp_path, "fresh", summary=None, metrics=None)).info
    assert (info.state, info.rounds) == (RunState.UNFINISHED, 0)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"config": None}, "config.yaml is missing"),
        ({"config": "a: [1"}, "config.yaml cannot be read as YAML"),
        ({"config": "!!python/object/apply:os.system ['true']"}, "config.yaml cannot be read as YAML"),
        ({"config": "- 1"}, "config.yaml is not a mapping"),
        ({"config": "1: a"}, "config.yaml is not a mapping"),
        ({"summary": '{"test": {'}, "summary.json cannot be read as JSON"),
        ({"summary": "[" * 100_000}, "summary.json cannot be read as JSON"),
        ({"summary": '{"test": {"auroc": NaN}}'}, "summary.json cannot be read as JSON"),
        ({"summary": "[]"}, "summary.json is not a mapping"),
        ({"summary": changed(test=[1])}, "summary.json: test is not a mapping"),
        ({"summary": changed(sites=3)}, "summary.json: sites is not a mapping"),
        ({"summary": changed(privacy={})}, "summary.json: the privacy mode is missing or no name"),
        ({"summary": changed(privacy="\x1b[2J")}, "summary.json: the privacy mode is missing or no name"),
        ({"summary": changed(test={"auroc": 1.5})}, "summary.json: test.auroc is not a number from 0 to 1"),
        ({"summary": changed(test={"auroc": True})}, "summary.json: test.auroc is not a number from 0 to 1"),
        (
            {"summary": changed(headline="mae", test={"mae": "9"})},
            "summary.json: test.mae is not a number",
        ),
        ({"summary": changed(headline="<b>", test={})}, "summary.json: the headline is no metric"),
        (
            {"summary": changed(sites={"a": {"epsilon": "8"}})},
            "summary.json: a site's epsilon is not a number",
        ),
        ({"summary": changed(sites={"a": 8})}, "summary.json: a site's epsilon is not a number"),
        (
            {"metrics": '{"round": 1}\n{"round": 2, "lo'},
            "metrics.jsonl, line 2, is not the JSON object of a round",
        ),
        ({"metrics": '{"round": "1"}\n'}, "metrics.jsonl, line 1, is not the JSON object of a round"),
        ({"metrics": '{"round": true}\n'}, "metrics.jsonl, line 1, is not the JSON object of a round"),
        (
            {"metrics": '{"round": ' + "9" * 400 + "}\n"},
            "metrics.jsonl, line 1, is not the JSON object of a round",
        ),
    ],
)
def test_damage_is_named_and_stops_neither_this_run_nor_the_others(tmp_path, files, problem):
    make_run(tmp_path, "broken", **files)
    make_run(tmp_path, "sound")
    broken, sound = list_runs(tmp_path)
    assert (broken.run_id, broken.state, broken.problems) == ("broken", RunState.DAMAGED, (problem,))
    assert sound.state is RunState.FINISHED


def test_what_is_readable_of_a_damaged_run_is_shown(tmp_path):
    record = open_run(make_run(tmp_path, summary="{", metrics='{"round": 1, "loss": 0.5}\n{"rou'))
    assert record.info.problems == (
        "summary.json cannot be read as JSON",
        "metrics.jsonl, line 2, is not the JSON object of a round",
    )
    assert (record.info.rounds, record.metrics, record.config) == (1, ({"round": 1, "loss": 0.5},), CONFIG)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json", "metrics.jsonl"])
def test_bytes_that_are_no_text_are_damage(tmp_path, name):
    path = make_run(tmp_path)
    (path / name).write_bytes(b"\xff\xfe\x00\x9f")
    assert open_run(path).info.state is RunState.DAMAGED


@given(st.sampled_from(["config.yaml", "summary.json", "metrics.jsonl"]), st.binary(max_size=200))
@settings(max_examples=150)
def test_no_bytes_in_any_file_can_make_the_listing_fail(tmp_path_factory, name, content):
    root = tmp_path_factory.mktemp("runs")
    path = make_run(root)
    (path / name).write_bytes(content)
    (info,) = list_runs(root)
    assert info.run_id == path.name


def test_an_oversized_file_is_damage_and_is_not_read(tmp_path):
    path = make_run(tmp_path)
    os.truncate(path / "metrics.jsonl", 65 << 20)
    assert open_run(path).info.problems == ("metrics.jsonl cannot be read as text",)


def test_a_seeded_run_is_never_listed_as_private(tmp_path):
    summary = changed(privacy={"mode": "per_site", "insecure_test_mode": True})
    info = open_run(make_run(tmp_path, summary=summary)).info
    assert (info.privacy, info.epsilon) == ("insecure test mode", None)


def test_one_site_without_a_guarantee_leaves_none_for_the_federation(tmp_path):
    summary = changed(sites={"alder": {"epsilon": 8.0}, "birch": {"epsilon": None}})
    info = open_run(make_run(tmp_path, summary=summary)).info
    assert (info.state, info.epsilon) == (RunState.FINISHED, None)
    open_mode = changed(privacy={"mode": "none"}, sites={"alder": {}})
    info = open_run(make_run(tmp_path, "open", summary=open_mode)).info
    assert (info.state, info.privacy, info.epsilon) == (RunState.FINISHED, "none", None)


def test_of_a_round_written_twice_the_later_counts_and_rounds_are_in_order(tmp_path):
    rows = [{"round": 2, "loss": 0.2}, {"round": 1, "loss": 0.9}, {"round": 2, "loss": 0.3}]
    record = open_run(make_run(tmp_path, metrics=rows))
    assert list(record.metrics) == [{"round": 1, "loss": 0.9}, {"round": 2, "loss": 0.3}]


def test_only_run_folders_are_listed(tmp_path):
    path = make_run(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(path)
    make_run(tmp_path, ".hidden")
    assert [info.run_id for info in list_runs(tmp_path)] == [path.name]
    with pytest.raises(DataError, match="no such folder"):
        list_runs(tmp_path / "absent")


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "a/b", "/etc", "a\nb", "-x"])
def test_a_name_that_could_leave_the_folder_is_refused(tmp_path, name):
    make_run(tmp_path / "runs")
    make_run(tmp_path, "outside")
    with pytest.raises(
        DataError, match="expected a run's name of letters, digits, dots, dashes; found another"
    ):
        show_run(tmp_path / "runs", name)


def test_an_absent_run_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match="found none there; `fedimg runs list` names the runs"):
        show_run(tmp_path, "absent")


# --------------------------------------------------------------------------------- TensorBoard


def read_events(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def test_the_events_read_back_hold_every_number_of_the_run(tmp_path):
    record = open_run(make_run(tmp_path / "runs"))
    out = tmp_path / "events"
    # Per round: loss, auroc and two ε; of the summary: two test metrics.
    assert export_tensorboard(record, out) == 3 * 4 + 2
    events = read_events(out)
    assert sorted(events.Tags()["scalars"]) == [
        "auroc",
        "epsilon/alder",
        "epsilon/birch",
        "loss",
        "test/accuracy",
        "test/auroc",
    ]
    for tag, expected in (
        ("loss", [1.0, 0.5, 1 / 3]),
        ("epsilon/alder", [2.0, 4.0, 6.0]),
        ("epsilon/birch", [1.5, 3.0, 4.5]),
    ):
        read = events.Scalars(tag)
        assert [e.step for e in read] == [1, 2, 3]
        assert [e.value for e in read] == pytest.approx(expected, rel=1e-6)
    (final,) = events.Scalars("test/auroc")
    assert (final.step, final.value) == (3, pytest.approx(0.91, rel=1e-6))
    (text,) = events.Tensors("config")[0].tensor_proto.string_val
    assert yaml.safe_load(text.decode().removeprefix("```yaml\n").removesuffix("```")) == CONFIG


def test_the_events_bear_the_time_of_the_run(tmp_path):
    path = make_run(tmp_path / "runs")
    for name in ("config.yaml", "summary.json", "metrics.jsonl"):
        os.utime(path / name, (1_700_000_000, 1_700_000_000))
    export_tensorboard(open_run(path), tmp_path / "events")
    assert {e.wall_time for e in read_events(tmp_path / "events").Scalars("loss")} == {1_700_000_000}


def test_a_damaged_or_unfinished_run_exports_what_is_readable(tmp_path):
    rows = '{"round": 1, "loss": 0.5, "flag": true, "big": 1e300, "odd": {"\\ud800": 2}}\n{"rou'
    record = open_run(make_run(tmp_path / "runs", config=None, summary=None, metrics=rows))
    assert export_tensorboard(record, tmp_path / "events") == 2
    assert sorted(read_events(tmp_path / "events").Tags()["scalars"]) == ["loss", "odd/?"]


def test_events_are_not_mixed_with_older_ones(tmp_path):
    record = open_run(make_run(tmp_path / "runs"))
    export_tensorboard(record, tmp_path / "events")
    with pytest.raises(DataError, match="found events in it; add --overwrite, or name another folder"):
        export_tensorboard(record, tmp_path / "events")
