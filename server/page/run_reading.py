"""One run of the registry and its folder as plain values. What cannot be read is absent, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedimg.errors import FedimgError
from fedimg.metric_names import followed
from server.page.models import RoundInfo, RunDetail, RunInfo, RunSite
from server.registry import Entry
from server.run_files import is_number, read_mapping
from server.runs import RunRecord, show_run

_FILES = (
    "config.yaml",
    "summary.json",
    "metrics.jsonl",
    "failure.json",
    "overrides.json",
    "joined.json",
    "roster.json",
)
_INSECURE = "insecure test mode"
_MOST_KEPT = 64


@dataclass(frozen=True)
class Kept:
    """A run's folder as it was read, and what its files were then."""

    stamp: tuple[object, ...]
    record: RunRecord | None
    joined: Mapping[str, Any]
    members: tuple[str, ...]


@dataclass
class RunReader:
    """Reads runs below a folder; one whose files have not changed is not read again. Not for several threads."""

    folder: Path
    _kept: dict[str, Kept] = field(default_factory=dict, init=False)

    def info(self, entry: Entry) -> RunInfo:
        return _info(entry, self._read(entry.run).record)

    def detail(self, entry: Entry) -> RunDetail:
        found = self._read(entry.run)
        record, info = found.record, _info(entry, found.record)
        if record is None:
            return RunDetail(info, None, [], [], [], ["the run's folder cannot be read"], has_report=False)
        rounds = [_round(row) for row in record.metrics]
        delta = _number(_part(record.config, "privacy").get("delta"))
        return RunDetail(
            info,
            delta if info.epsilon_declared is not None else None,
            _settings(record.config),
            _sites(found, rounds),
            rounds,
            list(record.info.problems),
            record.has_report,
        )

    def _read(self, run: str) -> Kept:
        path = self.folder / run
        stamp = tuple(_stamp(path / name) for name in _FILES)
        kept = self._kept.pop(run, None)
        if kept is None or kept.stamp != stamp:
            kept = _kept(self.folder, run, stamp)
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[run] = kept
        return kept


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _kept(folder: Path, run: str, stamp: tuple[object, ...]) -> Kept:
    try:
        record = show_run(folder, run)
    except (FedimgError, OSError):  # no folder, or a name that could leave it
        return Kept(stamp, None, {}, ())
    path = record.path
    joined = read_mapping(path / "joined.json", [], required=False) or {}
    roster = read_mapping(path / "roster.json", [], required=False) or {}
    return Kept(stamp, record, joined, tuple(sorted(name for name in roster if _part(roster, name))))


def _info(entry: Entry, record: RunRecord | None) -> RunInfo:
    config = record.config if record is not None else None
    asked = _part(config, "privacy")
    insecure = config is None or config.get("insecure_test_mode") is not False
    mode = asked.get("mode") if isinstance(asked.get("mode"), str) else ""
    private = not insecure and mode not in ("", "none")
    last = record.metrics[-1] if record is not None and record.metrics else {}
    spent = _epsilons(last)
    epsilon = record.info.epsilon if record is not None else None
    figure = (record.info.figure if record is not None else "") or followed(last)
    score = record.info.score if record is not None else None
    return RunInfo(
        entry.run,
        entry.stage.value,
        entry.reason,
        entry.round,
        entry.rounds,
        entry.submitted,
        entry.changed,
        _INSECURE if config is not None and insecure else str(mode),
        (epsilon if epsilon is not None else max(spent.values(), default=None)) if private else None,
        _number(asked.get("epsilon")) if private else None,
        figure,
        score if score is not None else _number(last.get(figure)),
    )


def _round(row: Mapping[str, Any]) -> RoundInfo:
    void = row.get("void")
    return RoundInfo(
        row["round"],
        _number(row.get("loss")),
        _number(row.get(followed(row))),
        _epsilons(row),
        _names(row.get("sites")),
        _names(row.get("missing")),
        void if isinstance(void, str) else "",
    )


def _sites(found: Kept, rounds: list[RoundInfo]) -> list[RunSite]:
    seen = {name for one in rounds for name in (*one.sites, *one.missing)}
    sites = []
    for name in sorted({*found.members, *found.joined, *seen}):
        plan = _part(_part(found.joined, name), "plan")
        answered = [one.round for one in rounds if name in one.sites]
        missing = [one.round for one in rounds if name in one.missing]
        spent = [one.epsilon[name] for one in rounds if name in one.epsilon]
        sites.append(
            RunSite(
                name,
                name in found.joined,
                spent[-1] if spent else None,
                _number(plan.get("epsilon")) if spent else None,
                _number(plan.get("noise_multiplier")),
                len(answered),
                len(answered) + len(missing),
                missing,
            )
        )
    return sites


def _settings(config: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The few settings that say what kind of run it is."""
    chosen = {
        "model": ("model", "name"),
        "server step": ("aggregation", "name"),
        "secure sums": ("secagg", "name"),
        "noise": ("privacy", "noise"),
        "local steps": ("training", "local_steps"),
        "image size": ("imaging", "image_size"),
    }
    found = {text: _part(config, group).get(key) for text, (group, key) in chosen.items()}
    return [(text, _plain(value)) for text, value in found.items() if value is not None]


def _plain(value: object) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list) else str(value)


def _part(values: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    found = values.get(name) if values is not None else None
    return found if isinstance(found, Mapping) else {}


def _epsilons(row: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in _part(row, "epsilon").items() if is_number(value)}


def _names(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _number(value: object) -> float | None:
    return float(value) if is_number(value) else None
