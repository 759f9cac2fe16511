"""`fedimg runs`: what runs left behind, read from their folders, and where those of a server stand."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.errors import DataError

COLUMNS = ("run", "state", "rounds", "privacy", "epsilon", "figure", "score", "overrides")
_DEFAULT = Path("runs")


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "runs", "List, show and export runs; stop and resume those of a federation's server."
    )
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="list|show|export|stop|resume|abandon"
    )
    for name, about in (
        ("list", "one line for every run below a folder"),
        ("show", "one run's summary"),
        ("export", "write a run's metrics as TensorBoard events"),
        ("stop", "ask the server to stop a run; it can be resumed"),
        ("resume", "queue a run again that was stopped or could not go on"),
        ("abandon", "end a stopped run for good: its sites close it in their ledgers"),
    ):
        action = actions.add_parser(name, help=about, description=about)
        action.add_argument("--json", action="store_true", help="JSON on stdout")
        if name == "list":
            action.add_argument("folder", nargs="?", type=Path, help="of runs, or a federation's")
        else:
            action.add_argument("run", type=Path, help="a run's folder, or its name in runs/")
        if name == "export":
            action.add_argument(
                "out", nargs="?", type=Path, help="folder for the events; <run>/tensorboard if absent"
            )
            action.add_argument("--overwrite", action="store_true", help="delete events that are there")
    arguments = parser.parse_args(argv)
    verbs = {"list": _list, "show": _show, "export": _export, "stop": _ask, "resume": _ask, "abandon": _ask}
    return verbs[arguments.action](arguments)


def _list(arguments: Any) -> int:
    from server.runs import list_runs

    if arguments.folder is not None and (arguments.folder / "federation.json").exists():
        return _list_federation(arguments)
    folder = arguments.folder or _DEFAULT
    # Before the first run there is no runs/ yet; a folder that was named has to be there.
    found = list_runs(folder) if arguments.folder or folder.is_dir() else ()
    rows = [info.row() for info in found]
    if arguments.json:
        print_json(rows)
    else:
        print_table([_shown(row) for row in rows], COLUMNS)
    return 0


def _list_federation(arguments: Any) -> int:
    """What a server was asked for, and where it stands."""
    from server.registry import Registry
    from server.runs import open_run

    with Registry(arguments.folder) as registry:
        entries = registry.all()
    rows = []
    for entry in entries:
        info = open_run(arguments.folder / "runs" / entry.run).info
        rows.append(
            {
                "run": entry.run,
                "state": entry.stage.value,
                "round": f"{entry.round} of {entry.rounds}",
                "privacy": info.privacy,
                "epsilon": info.epsilon,
                "figure": info.figure,
                "score": info.score,
                "overrides": list(info.overrides),
                "reason": entry.reason,
            }
        )
    if arguments.json:
        print_json(rows)
    else:
        columns = ("run", "state", "round", "privacy", "epsilon", "figure", "score", "overrides", "reason")
        print_table([_shown(row) for row in rows], columns)
    return 0


def _ask(arguments: Any) -> int:
    """Of a federation's server: FOLDER/runs/NAME."""
    from server.registry import FILE, Registry
    from server.runs import open_run

    root = arguments.run.parent.parent
    if not (root / FILE).exists():
        raise DataError(
            "a run of a federation's server, as FOLDER/runs/NAME",
            "another folder",
            "a simulation is stopped with Ctrl-C and goes on with `fedimg simulate resume=RUN`",
        )
    with Registry(root) as registry:
        run, folder = arguments.run.name, arguments.run
        if arguments.action == "stop":
            entry = registry.ask_to_stop(run)
        elif arguments.action == "abandon":
            entry = registry.abandon(run, _members(folder))
        else:
            if all(one.run != run for one in registry.all()) and (folder / "config.yaml").is_file():
                registry.adopt(run, int((open_run(folder).config or {}).get("rounds", 0)))
            entry = registry.resume(run)
    if arguments.json:
        print_json({"run": entry.run, "state": entry.stage.value, "round": entry.round})
    else:
        asked = "asked to stop; " if arguments.action == "stop" and entry.stage.value != "stopped" else ""
        sys.stdout.write(f"{entry.run}: {asked}{entry.stage}, round {entry.round} of {entry.rounds}\n")
    return 0


def _members(folder: Path) -> tuple[str, ...]:
    """Whoever may have been offered the run."""
    from fedimg.secagg.roster import Roster

    file = folder / "roster.json"
    return tuple(sorted(Roster.load(file).identities)) if file.exists() else ()


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "overrides": " ".join(row["overrides"])}


def _named(run: Path) -> Path:
    """The folder that is meant: a path, or the name that `runs list` prints."""
    inside = _DEFAULT / run
    return inside if not run.exists() and len(run.parts) == 1 and inside.is_dir() else run


def _show(arguments: Any) -> int:
    from server.runs import open_run

    folder = _named(arguments.run)
    record = open_run(folder)
    row = record.info.row()
    if arguments.json:
        print_json({**row, "summary": record.summary})
        return 0
    print_table([_shown(row)], COLUMNS)
    for problem in record.info.problems:
        sys.stdout.write(f"damaged: {problem}\n")
    if record.info.failure:
        sys.stdout.write(f"failed: {record.info.failure}\n")
    if record.summary is None:
        sys.stdout.write(f"not finished; {_how_to_go_on(folder)}\n")
    else:
        _print_summary(record.summary)
        if record.has_report:
            sys.stdout.write(f"\nreport: {folder}/report.html\n")
    return 0


def _how_to_go_on(folder: Path) -> str:
    from server.registry import FILE, Registry

    root = folder.resolve().parent.parent
    if not (root / FILE).exists():
        return f"go on with: fedimg simulate resume={folder}"
    with Registry(root) as registry:
        entry = registry.entry(folder.name)
    return f"{entry.stage}, round {entry.round} of {entry.rounds}" + (
        f": {entry.reason}" if entry.reason else ""
    )


def _print_summary(summary: Mapping[str, Any]) -> None:
    """What a reader asks for first; the release records and the rest are --json's."""
    test, intervals = _section(summary, "test"), _section(summary, "test_intervals")
    if test:
        sys.stdout.write("\non the public test set\n")
        rows = []
        for name, value in test.items():
            low, high = intervals.get(name, (None, None))
            rows.append({"metric": name, "value": value, "from": low, "to": high})
        print_table(rows, ("metric", "value", "from", "to"))
    elif "test" in summary:
        sys.stdout.write(f"\n{summary.get('test_absent') or 'nothing was measured on a public test set'}\n")
    sites = _section(summary, "sites")
    columns = ("epsilon", "delta", "noise_multiplier", "sampling_rate", "steps")
    if any(isinstance(site, Mapping) and site for site in sites.values()):
        sys.stdout.write("\n")
        print_table([{"site": name, **site} for name, site in sites.items()], ("site", *columns))
    compared = summary.get("comparison")
    if isinstance(compared, list) and compared:
        sys.stdout.write("\n")
        print_table(compared, ("arrangement", "name", "privacy", "auroc", "note"))


def _section(summary: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = summary.get(name)
    return value if isinstance(value, Mapping) else {}


def _export(arguments: Any) -> int:
    from server.runs import export_tensorboard, open_run

    folder = _named(arguments.run)
    out = arguments.out or folder / "tensorboard"
    written = export_tensorboard(open_run(folder), out, overwrite=arguments.overwrite)
    if arguments.json:
        print_json({"events": str(out), "scalars": written})
    else:
        sys.stdout.write(f"{written} scalars in {out}; look at them with: tensorboard --logdir {out}\n")
    return 0
