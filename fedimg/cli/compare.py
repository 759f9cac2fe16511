"""`fedimg compare`: several learners on one federation, in one table and one figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, progress, say, verb_parser
from fedimg.errors import ConfigError, DataError, FedimgError

if TYPE_CHECKING:
    from fedimg.compare.learners import Question
    from fedimg.compare.rows import Comparison, Row
    from fedimg.simulation.comparing import Prepared

_ABOUT = (
    "Run several learners on the same federation with the same data, each with its own experiment file, and write one "
    "table and one figure. Rows that are finished are not run again: the same command goes on."
)
_EPILOG = """Every run with privacy is charged to every site's ledger: comparing on the same patients adds up, whichever row is
kept. --plan says beforehand what would be run and charged."""


def run(argv: Sequence[str]) -> int:
    """Exit code 0 where every row has its numbers; else that of the rows that failed, or 1 where they differ."""
    arguments = _parser().parse_intermixed_args(argv)
    if arguments.runs:
        return _past(arguments)
    from fedimg.config import keys

    rules = _rules(arguments)
    keys.check(arguments.overrides)  # before anything heavy is imported
    question, options = _question(arguments), keys.groups()
    from fedimg.compare.learners import ask

    asked = ask(question, options)
    for own in question.own.values():
        keys.check(own)
    from fedimg.durable import alone
    from fedimg.simulation import compared_cost, comparing

    prepared = comparing.prepare(asked, arguments.out, rules)
    ahead = compared_cost.ahead(comparing.charges_of(prepared, arguments.out))
    if arguments.plan:
        return _plan(prepared, ahead, as_json=arguments.json)
    for text in ahead:
        say(text)
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        with alone(arguments.out / ".lock", "one comparison at a time in a folder"):
            done = comparing.compare(
                prepared, arguments.out, comparing.Watching(progress, say), _command(arguments)
            )
    except KeyboardInterrupt as interrupt:
        interrupt.run_path = None  # type: ignore[attr-defined] # not the one run goes on, but all of them
        say("\nthe same command goes on where this one was stopped")
        raise
    _print(done.comparison, arguments.out, as_json=arguments.json)
    codes = set(done.exit_codes)
    return 0 if not codes else codes.pop() if len(codes) == 1 else 1


def _parser() -> argparse.ArgumentParser:
    from fedimg.compare.learners import BASELINES, DEFAULT_LEARNERS, PRIVATE_MODES

    parser = verb_parser("compare", _ABOUT)
    parser.epilog = _EPILOG
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for every row: data, sites, …; rules=FILE|NAME"
    )
    parser.add_argument(
        "--learners",
        metavar="A,B,…",
        help=f"experiments, networks, or baselines ({', '.join(BASELINES)}); default {','.join(DEFAULT_LEARNERS)}",
    )
    parser.add_argument("--epsilons", metavar="E,E,…", help="inf is privacy=none; default inf,3")
    parser.add_argument(
        "--privacy",
        choices=PRIVATE_MODES,
        default="distributed",
        help="of rows with a finite ε; default distributed",
    )
    parser.add_argument(
        "--set",
        dest="own",
        action="append",
        default=[],
        metavar="LEARNER:key=value",
        help="for one learner, such as its rounds; LEARNER-E for one row, as svm-inf; again for more",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("comparison"), metavar="FOLDER", help="default comparison"
    )
    parser.add_argument(
        "--runs", nargs="+", type=Path, metavar="FOLDER", help="compare finished runs; nothing is run"
    )
    parser.add_argument(
        "--plan", action="store_true", help="say what would be run and charged; nothing is run"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _question(arguments: argparse.Namespace) -> Question:
    from fedimg.compare.learners import (
        DEFAULT_EPSILONS,
        DEFAULT_LEARNERS,
        Question,
        epsilons_of,
        own_settings,
    )

    named = (
        tuple(name.strip() for name in arguments.learners.split(","))
        if arguments.learners
        else DEFAULT_LEARNERS
    )
    sites = [line.partition("=")[2] for line in arguments.overrides if line.startswith("sites=")]
    return Question(
        named,
        epsilons_of(arguments.epsilons) if arguments.epsilons else DEFAULT_EPSILONS,
        arguments.privacy,
        tuple(arguments.overrides),
        own_settings(arguments.own),
        int(sites[-1]) if sites and sites[-1].isdigit() and int(sites[-1]) else 4,
    )


def _rules(arguments: argparse.Namespace) -> Path | None:
    """The rulebook of the row `rules`, `rules=FILE|NAME`, which is no key of a run: it is taken out of the overrides.

    Raises ConfigError for a name that is neither a file nor one of conf/rules.
    """
    given = [line for line in arguments.overrides if line.startswith("rules=")]
    arguments.overrides = [line for line in arguments.overrides if line not in given]
    asked = "rules" in (arguments.learners or "").split(",")
    if not given and not asked:
        return None
    if not asked:
        raise ConfigError("--learners rules beside rules=", "other learners only", "name rules among them")
    from fedimg.config.keys import conf_folder

    name = given[-1].partition("=")[2] if given else "lesion"
    arguments.rules = name
    shipped = sorted((conf_folder() / "rules").glob("*.yaml"))
    named = {file.stem: file for file in shipped}
    file = named.get(name, Path(name))
    if not file.is_file():
        expected = f"rules=FILE, or one of {', '.join(named)}"
        raise ConfigError(expected, f"rules={name}", "name a file of rules (docs/radiomics.md)")
    return file


def _plan(prepared: Sequence[Prepared], ahead: Sequence[str], *, as_json: bool) -> int:
    rows = [_planned(one) for one in prepared]
    if as_json:
        print_json({"rows": rows, "cost": list(ahead)})
        return 0
    print_table(rows, ("row", "state", "rounds", "privacy", "by", "reason"))
    sys.stdout.write("\n" + "".join(f"{text}\n" for text in ahead))
    return 0


def _planned(one: Prepared) -> dict[str, Any]:
    from fedimg.simulation.comparing import finished

    told: dict[str, Any] = {"row": one.asked.name, "by": " ".join(one.asked.recipe)}
    if isinstance(one.config, FedimgError):
        return told | {"state": "cannot be run", "reason": str(one.config)}
    state = "to be run" if finished(one) is None else "finished"
    if one.baseline is not None:
        return told | {"state": state, "rounds": 0, "privacy": "no site asked"}
    return told | {"state": state, "rounds": one.config.rounds, "privacy": one.config.privacy.mode}


def _past(arguments: argparse.Namespace) -> int:
    """A table of finished runs; each folder is a run's, or holds several."""
    if arguments.overrides or arguments.own or arguments.learners or arguments.epsilons or arguments.plan:
        raise ConfigError("--runs and folders of runs", "settings of new runs too", "leave those out")
    if (arguments.out / "runs").is_dir():
        raise ConfigError(
            "a folder of its own for a table of past runs", "one of a comparison", "name another --out"
        )
    from fedimg.compare.rows import Comparison
    from fedimg.compare.writing import write
    from fedimg.simulation import compared_cost

    folders = [run for folder in arguments.runs for run in _runs_in(folder)]
    rows = [_read(folder) for folder in folders]
    notes: tuple[str, ...] = ()
    if len({row.data for row in rows if row.state == "finished"}) > 1:
        notes = (
            "These runs are not all of the same data, divided alike: their numbers do not compare learners.",
        )
        say(notes[0])
    comparison = Comparison(tuple(rows), _command(arguments), compared_cost.spent(rows), notes)
    write(comparison, arguments.out)
    _print(comparison, arguments.out, as_json=arguments.json)
    return 4 if comparison.failed else 0


def _runs_in(folder: Path) -> list[Path]:
    if (folder / "config.yaml").is_file():
        return [folder]
    found = sorted(file.parent for file in folder.glob("*/summary.json"))
    if not found:
        raise DataError(
            "a run's folder, or a folder of finished runs", "neither", "name a folder below runs/"
        )
    return found


def _read(folder: Path) -> Row:
    """One that cannot be read has a row with the reason."""
    import math

    from fedimg.compare.reading import read_run
    from fedimg.compare.rows import Row

    try:
        return read_run(folder)
    except DataError as fault:
        return Row(folder.name, math.inf, "", "failed", str(fault), run=str(folder))


def _command(arguments: argparse.Namespace) -> str:
    """What was asked, without the folders of this machine."""
    import shlex

    if arguments.runs:
        return f"fedimg compare --runs, {len(arguments.runs)} folders"
    said = [
        f"data.path={Path(line.partition('=')[2]).name}" if line.startswith("data.path=") else line
        for line in arguments.overrides
        if not line.startswith("state=")
    ]
    if rules := getattr(arguments, "rules", None):
        said.append(f"rules={Path(rules).name}")
    for key in ("learners", "epsilons", "privacy"):
        if value := getattr(arguments, key):
            said += [f"--{key}", value]
    for line in arguments.own:
        said += ["--set", line]
    return f"fedimg compare {shlex.join(said)}"


def _print(comparison: Comparison, out: Path, *, as_json: bool) -> None:
    from fedimg.compare.rows import metrics_of
    from fedimg.compare.writing import NAME, cells, columns, in_words

    if as_json:
        print_json(comparison.as_dict())
    else:
        metrics = metrics_of(comparison.rows)
        names = columns(metrics)
        print_table([dict(zip(names, cells(row, metrics), strict=True)) for row in comparison.rows], names)
        sys.stdout.write("\n" + "".join(f"{name}: {text}\n" for name, text in in_words(comparison.rows)))
        sys.stdout.write("\n" + "".join(f"{text}\n" for text in comparison.cost))
    say(f"{out / NAME}.html holds table and figure; .json, .csv, .md and .svg lie beside it")
