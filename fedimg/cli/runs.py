"""`fedimg runs`: what past runs left behind, read from their folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, print_table, verb_parser

COLUMNS = ("run", "state", "rounds", "privacy", "epsilon", "auroc")


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("runs", "List, show and export past runs.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|export")
    for name, about in (
        ("list", "one line for every run below a folder"),
        ("show", "one run's summary"),
        ("export", "write a run's metrics as TensorBoard events"),
    ):
        action = actions.add_parser(name, help=about, description=about)
        action.add_argument("--json", action="store_true", help="JSON on stdout")
        if name == "list":
            action.add_argument("folder", nargs="?", type=Path, default=Path("runs"))
        else:
            action.add_argument("run", type=Path, help="a run's folder, runs/<id>")
        if name == "export":
            action.add_argument(
                "out", nargs="?", type=Path, help="folder for the events; <run>/tensorboard if absent"
            )
    arguments = parser.parse_args(argv)
    return {"list": _list, "show": _show, "export": _export}[arguments.action](arguments)


def _list(arguments: Any) -> int:
    from server.runs import list_runs

    rows = [info.row() for info in list_runs(arguments.folder)]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)
    return 0


def _show(arguments: Any) -> int:
    from server.runs import open_run

    record = open_run(arguments.run)
    row = record.info.row()
    if arguments.json:
        print_json({**row, "summary": record.summary})
        return 0
    print_table([row], COLUMNS)
    for problem in record.info.problems:
        sys.stdout.write(f"damaged: {problem}\n")
    if record.summary is None:
        sys.stdout.write(f"not finished; go on with: fedimg simulate resume={arguments.run}\n")
    else:
        sys.stdout.writelines(f"{name} = {value}\n" for name, value in _leaves(record.summary))
    return 0


def _export(arguments: Any) -> int:
    from server.runs import export_tensorboard, open_run

    out = arguments.out or arguments.run / "tensorboard"
    written = export_tensorboard(open_run(arguments.run), out)
    if arguments.json:
        print_json({"events": str(out), "scalars": written})
    else:
        sys.stdout.write(f"{written} scalars in {out}; look at them with: tensorboard --logdir {out}\n")
    return 0


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings and lists as (dotted name, plain value)."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _leaves(item, f"{path}.{i}")
    else:
        yield path, value
