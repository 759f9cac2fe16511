"""The run registry: what past runs left in their folders, read without trusting it.

A run folder `runs/<id>` holds config.yaml, metrics.jsonl (one JSON object a round) and, once
finished, summary.json and report.html, beside checkpoints/, ledgers/ and receipts/. A file that
is missing, cut short or not what it should be makes the run "damaged" with the reason; it never
stops the listing of the others. Values that cannot be read are absent, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from fedimg.errors import DataError
from fedimg.metric_names import NAMES, UNBOUNDED
from server.run_files import (
    file_names,
    is_number,
    read_failure,
    read_mapping,
    read_metrics,
    read_overrides,
)

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MARKS = ("config.yaml", "summary.json", "metrics.jsonl")
_MODE = re.compile(r"[a-z_]{1,32}")


class RunState(StrEnum):
    """Finished: has a sound summary. Unfinished: stopped or still running. Failed: could not go on, and says
    why in failure.json. Damaged: see `problems`.
    """

    FINISHED = "finished"
    UNFINISHED = "unfinished"
    FAILED = "failed"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One line of a listing.

    Attributes:
        problems: why the run is damaged, by file; empty otherwise.
        rounds: the last round in metrics.jsonl, 0 if none.
        privacy: the mode; "insecure test mode" where the noise was seeded, so that no listing
            takes such a run for a private one; None if unknown.
        epsilon: the largest over the sites; None without a guarantee. score: on the public test set, of the metric
            that the task follows; figure: its name, "" where neither is known.
        overrides: what the run was asked for. failure: why it could not go on; "" otherwise.
    """

    run_id: str
    state: RunState
    problems: tuple[str, ...]
    rounds: int
    privacy: str | None
    epsilon: float | None
    score: float | None
    figure: str = ""
    overrides: tuple[str, ...] = ()
    failure: str = ""

    def row(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "run": self.run_id,
            "state": self.state.value,
            "rounds": self.rounds,
            "privacy": self.privacy,
            "epsilon": self.epsilon,
            "figure": self.figure,
            "score": self.score,
            "overrides": list(self.overrides),
            "failure": self.failure,
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything readable in one run folder.

    Attributes:
        config, summary: None where missing or unreadable. metrics: by round, ascending.
        checkpoints, ledgers, receipts: file names. has_report: whether report.html is there.
    """

    path: Path
    info: RunInfo
    config: Mapping[str, Any] | None
    summary: Mapping[str, Any] | None
    metrics: tuple[Mapping[str, Any], ...]
    checkpoints: tuple[str, ...]
    ledgers: tuple[str, ...]
    receipts: tuple[str, ...]
    has_report: bool


def list_runs(root: Path) -> tuple[RunInfo, ...]:
    """Every run below `root`, by name; a folder without any of a run's files is none.

    Raises:
        DataError: no such folder.
    """
    if not root.is_dir():
        raise DataError("a folder of runs", "no such folder", "name the folder in which runs were made")
    names = sorted(p.name for p in root.iterdir() if _is_run(p))
    return tuple(open_run(root / name).info for name in names)


def show_run(root: Path, run_id: str) -> RunRecord:
    """The record of one run by its name.

    Raises:
        DataError: no such run, or a name that could leave `root`.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise DataError(
            "a run's name of letters, digits, dots, dashes", "another name", "see `fedimg runs list`"
        )
    return open_run(root / run_id)


def open_run(path: Path) -> RunRecord:
    """The record of the run in folder `path`; raises DataError where there is none."""
    if not _is_run(path):
        raise DataError(
            "a run's folder with config.yaml, metrics.jsonl or summary.json",
            "none there",
            "`fedimg runs list` names the runs",
        )
    problems: list[str] = []
    config = read_mapping(path / "config.yaml", problems, required=True)
    summary = read_mapping(path / "summary.json", problems, required=False)
    metrics = read_metrics(path / "metrics.jsonl", problems)
    privacy, epsilon, figure, score = _headline(summary, problems)
    failure = read_failure(path / "failure.json", problems)
    state = RunState.FAILED if failure else RunState.UNFINISHED
    if summary is not None:
        state = RunState.FINISHED
    info = RunInfo(
        path.name,
        RunState.DAMAGED if problems else state,
        tuple(problems),
        int(metrics[-1]["round"]) if metrics else 0,
        privacy,
        epsilon,
        score,
        figure,
        read_overrides(path / "overrides.json", problems),
        failure if summary is None else "",
    )
    return RunRecord(
        path,
        info,
        config,
        summary,
        metrics,
        checkpoints=file_names(path / "checkpoints"),
        ledgers=file_names(path / "ledgers"),
        receipts=file_names(path / "receipts"),
        has_report=(path / "report.html").is_file(),
    )


def _is_run(path: Path) -> bool:
    return (
        path.is_dir()
        and not path.is_symlink()
        and _RUN_ID.fullmatch(path.name) is not None
        and any((path / name).is_file() for name in _MARKS)
    )


def _headline(
    summary: Mapping[str, Any] | None, problems: list[str]
) -> tuple[str | None, float | None, str, float | None]:
    """Mode, largest ε and the followed metric of a summary; what is of the wrong kind is noted and None."""
    if summary is None:
        return None, None, "", None
    privacy, sites, test = (summary.get(name, {}) for name in ("privacy", "sites", "test"))
    for name, value in (("sites", sites), ("test", test)):
        if not isinstance(value, dict):
            problems.append(f"summary.json: {name} is not a mapping")
    mode = privacy.get("mode") if isinstance(privacy, dict) else privacy
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):
        problems.append("summary.json: the privacy mode is missing or no name")
        mode = None
    insecure = isinstance(privacy, dict) and privacy.get("insecure_test_mode", False) is not False
    spent = [_epsilon(site, problems) for site in sites.values()] if isinstance(sites, dict) else []
    guaranteed = [epsilon for epsilon in spent if epsilon is not None]
    figure, score = _followed(summary.get("headline", "auroc"), test, problems)
    # One site without a guarantee leaves the federation without one.
    epsilon = max(guaranteed) if guaranteed and len(guaranteed) == len(spent) and not insecure else None
    return ("insecure test mode" if insecure else mode), epsilon, figure, score


def _followed(figure: object, test: object, problems: list[str]) -> tuple[str, float | None]:
    """The metric's name and its value on the test set."""
    if not isinstance(figure, str) or figure.rpartition("/")[2] not in NAMES:
        problems.append("summary.json: the headline is no metric")
        return "", None
    score = test.get(figure) if isinstance(test, dict) else None
    bounded = figure.rpartition("/")[2] not in UNBOUNDED
    if score is not None and not (is_number(score) and (not bounded or 0 <= score <= 1)):
        problems.append(f"summary.json: test.{figure} is not a number{' from 0 to 1' if bounded else ''}")
        return figure, None
    return figure, score


def _epsilon(site: object, problems: list[str]) -> float | None:
    value = site.get("epsilon") if isinstance(site, dict) else "absent"
    if value is None:
        return None
    if is_number(value) and value >= 0:
        return float(value)
    note = "summary.json: a site's epsilon is not a number"
    if note not in problems:
        problems.append(note)
    return None


def scalars(run: RunRecord) -> Iterator[tuple[int, str, float]]:
    """(round, name, value) of every number in the metrics, then of the summary's test metrics.

    Nested names are joined by "/", so that `epsilon/<site>` are one group in TensorBoard.
    """
    for row in run.metrics:
        for name, value in _numbers(row):
            if name != "round":
                yield row["round"], name, value
    test = run.summary.get("test") if run.summary is not None else None
    for name, value in _numbers(test if isinstance(test, dict) else {}):
        yield run.info.rounds, f"test/{name}", value


def _numbers(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, item in value.items():
        # A name that is no valid Unicode cannot stand in an event file.
        name = prefix + key.encode("utf-8", "replace").decode()
        if isinstance(item, dict):
            yield from _numbers(item, f"{name}/")
        elif is_number(item):
            yield name, float(item)


def export_tensorboard(run: RunRecord, out: Path, *, overwrite: bool = False) -> int:
    """Write the run as TensorBoard events: every scalar by round, and config.yaml as text.

    Args:
        out: a folder without events; made (0700) if absent. overwrite: events in it are deleted first.

    Returns:
        The number of scalars written.

    Raises:
        DataError: `out` holds events already, which TensorBoard would mix with these.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    earlier = sorted(out.glob("*tfevents*")) if out.is_dir() else []
    if earlier and not overwrite:
        raise DataError(
            "a folder without TensorBoard events", "events in it", "add --overwrite, or name another folder"
        )
    for events in earlier:
        events.unlink()
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    marks = [run.path / name for name in _MARKS]
    # The events carry the time of the run's own files: exporting later moves nothing.
    time = max(mark.stat().st_mtime for mark in marks if mark.is_file())
    writer = EventFileWriter(str(out))
    written = 0
    try:
        if run.config is not None:
            text = "```yaml\n" + yaml.safe_dump(dict(run.config), allow_unicode=True) + "```"
            plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
            tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode("utf-8", "replace")])
            value = Summary.Value(tag="config", metadata=plugin, tensor=tensor)
            writer.add_event(Event(wall_time=time, step=0, summary=Summary(value=[value])))
        for step, name, number in scalars(run):
            value = Summary.Value(tag=name, simple_value=number)
            writer.add_event(Event(wall_time=time, step=step, summary=Summary(value=[value])))
            written += 1
    finally:
        writer.close()
    return written
