"""Run what a comparison asks for, one row after the other, on one set of homes.

Homes, and with them the intake and the ledgers, are shared by all rows: `config.state`. A row that is finished is
not run again, one that was stopped goes on where it stood, so that nothing is charged twice for one row.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from fedimg.compare.learners import RULES, Asked
from fedimg.compare.reading import read_run
from fedimg.compare.rows import Comparison, Row
from fedimg.compare.writing import write
from fedimg.config import Config, compose
from fedimg.coordination.folder import SweepPoint
from fedimg.errors import ConfigError, FedimgError
from fedimg.simulation import Progress, compared_cost, simulate, untrained
from fedimg.simulation.compared_cost import Charges
from fedimg.simulation.untrained import Baseline

HOMES, RUNS = "homes", "runs"
# What changes neither a row's result nor what it is charged.
_NOT_SETTINGS = ("runs", "resume", "device")


@dataclass(frozen=True)
class Prepared:
    """A row with its configuration, or the fault that it has instead. `folder` is where its runs are."""

    asked: Asked
    config: Config | FedimgError
    folder: Path
    baseline: Baseline | None = None

    @property
    def private(self) -> bool:
        return isinstance(self.config, Config) and self.config.privacy.mode != "none"


@dataclass(frozen=True)
class Compared:
    """A comparison that was run. `exit_codes` are of the rows that failed."""

    comparison: Comparison
    exit_codes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Watching:
    """Whoever watches: a progress display for each row, and one line at a time."""

    progress: Callable[[], AbstractContextManager[Progress]]
    say: Callable[[str], None]


def prepare(asked: Sequence[Asked], out: Path, rules: Path | None = None) -> list[Prepared]:
    """Compose every row; one that cannot be composed keeps its fault. `rules`: the file of the row `rules`.

    Raises:
        ConfigError: no row at all can be.
    """
    homes = _homes_of(out)
    prepared = []
    for one in asked:
        given = [override.partition("=")[0] for override in one.overrides]
        own = [] if "state" in given else [f'state="{homes}"']
        own += [] if "compare" in given else ["compare=false"]
        baseline = Baseline(one.learner, rules if one.learner == RULES else None) if one.baseline else None
        try:
            config = compose([*own, *one.overrides])
            if config.model.heads:
                several = f"model.task={config.model.task}"
                raise ConfigError("learners of one task", several, "compare heads one by one, each as a task")
            if baseline is not None:
                untrained.check(config, baseline)
        except FedimgError as fault:
            prepared.append(Prepared(one, fault, out / RUNS / one.name, baseline))
            continue
        folder = out / RUNS / f"{one.name}-{_digest(config, homes, baseline)[:12]}"
        prepared.append(Prepared(one, replace(config, runs=str(folder)), folder, baseline))
    faults = [one.config for one in prepared if isinstance(one.config, FedimgError)]
    if faults and len(faults) == len(prepared):
        raise faults[0]
    return prepared


def charges_of(prepared: Sequence[Prepared], out: Path) -> Charges:
    """What the rows ask of their homes, as things stand on the disk."""
    configs = [one.config for one in prepared if isinstance(one.config, Config)]
    learnt = [one for one in prepared if isinstance(one.config, Config) and one.baseline is None]
    private = [one for one in prepared if one.private]
    kept = {one.folder.name for one in prepared}
    homes = str(configs[0].state)
    return Charges(
        len(private),
        len(learnt) - len(private),
        sum(finished(one) is None for one in private),
        math.fsum(one.asked.epsilon for one in private),
        homes,
        homes == _homes_of(out),
        sum(file.parent.parent.name not in kept for file in (out / RUNS).glob("*/*/config.yaml")),
    )


def compare(prepared: Sequence[Prepared], out: Path, watching: Watching, asked: str = "") -> Compared:
    """Make every row that is not finished, and write the comparison below `out` after each.

    Raises:
        KeyboardInterrupt: rows that were finished stay, and the same call goes on.
    """
    charges = charges_of(prepared, out)
    rows, codes = [_row_of(one) for one in prepared], list[int]()
    for number, one in enumerate(prepared, start=1):
        watching.say(f"row {number} of {len(prepared)}: {one.asked.name}")
        try:
            done = _made(one, SweepPoint(number, len(prepared), charges.epsilon), watching)
            rows[number - 1] = read_run(done, one.asked.learner, one.asked.epsilon)
        except Exception as fault:  # noqa: BLE001 - one learner's failure is no other's
            rows[number - 1] = _row_of(one, "failed", _reason(fault))
            codes.append(fault.exit_code if isinstance(fault, FedimgError) else 1)
            watching.say(f"{one.asked.name} failed: {_reason(fault)}")
        write(Comparison(tuple(rows), asked, compared_cost.ahead(charges)), out)
    cost = compared_cost.spent(rows, charges_of(prepared, out))
    comparison = Comparison(tuple(rows), asked, cost)
    write(comparison, out)
    return Compared(comparison, tuple(codes))


def finished(one: Prepared) -> Path | None:
    """The folder of a row's finished run, closed in every ledger; None where it is still to be made."""
    for folder in _folders(one):
        if (folder / "summary.json").is_file() and _is_closed(folder, private=one.private):
            return folder
    return None


def _made(one: Prepared, point: SweepPoint, watching: Watching) -> Path:
    """The row's finished run: as it is, the rest of one that was stopped or could not go on, or a new one."""
    if isinstance(one.config, FedimgError):
        raise one.config
    if (done := finished(one)) is not None:
        watching.say("finished before, with these settings")
        return done
    one.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if one.baseline is not None:
        with watching.progress() as report:
            return untrained.run(one.config, one.baseline, report)
    begun = _folders(one)
    with watching.progress() as report:
        if begun:
            return simulate(compose([f'resume="{begun[0]}"']), report).path
        return simulate(one.config, report, one.asked.overrides, point).path


def _folders(one: Prepared) -> list[Path]:
    """Of the row's runs, the newest first."""
    return sorted((file.parent for file in one.folder.glob("*/config.yaml")), reverse=True)


def _is_closed(folder: Path, *, private: bool) -> bool:
    """Closing a run in the ledgers is the last thing that it does: a kill before that has left it open."""
    if not private:
        return True
    sites = json.loads((folder / "summary.json").read_text("utf-8"))["sites"]
    return all((folder / "ledgers" / f"{name}.json").is_file() for name in sites if "left" not in sites[name])


def _homes_of(out: Path) -> str:
    return str((out / HOMES).resolve())


def _digest(config: Config, homes: str, baseline: Baseline | None = None) -> str:
    """Of all that a row's result and charge depend on: its settings, its rules, and the data where they are one file."""
    settings = asdict(config)
    for key in _NOT_SETTINGS:
        del settings[key]
    if settings["state"] == homes:  # the folder of a comparison may be moved
        del settings["state"]
    path = Path(config.data.path) if config.data.path else None
    data = hashlib.sha256(path.read_bytes()).hexdigest() if path is not None and path.is_file() else ""
    rules = baseline.rules if baseline is not None else None
    more = [] if rules is None else [hashlib.sha256(rules.read_bytes()).hexdigest()]
    text = json.dumps([settings, data, *more], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _row_of(one: Prepared, state: Literal["failed", "waiting"] = "waiting", reason: str = "") -> Row:
    mode, model, task = "none" if math.isinf(one.asked.epsilon) else "private", "", "classification"
    if isinstance(one.config, Config):
        mode, model, task = one.config.privacy.mode, one.config.model.name, one.config.model.task
    if one.baseline is not None:
        mode, model = untrained.MODE, one.asked.learner
    return Row(one.asked.learner, one.asked.epsilon, mode, state, reason, model=model, task=task)


def _reason(fault: Exception) -> str:
    """An expected failure in its own words; of any other only the kind, since its text may quote what it read."""
    if isinstance(fault, FedimgError):
        return str(fault)
    return f"an unexpected {type(fault).__name__}: `fedimg simulate` with FEDIMG_DEBUG=1 says where"
