"""`fedimg runs`: what past runs left behind, read from their folders."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.errors import DataError

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
    rows = [_row(path) for path in _runs(arguments.folder)]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, COLUMNS)
    return 0


def _show(arguments: Any) -> int:
    _require_run(arguments.run)
    row, summary = _row(arguments.run), _json_file(arguments.run / "summary.json")
    if arguments.json:
        print_json({**row, "summary": summary})
        return 0
    print_table([row], COLUMNS)
    if summary is None:
        sys.stdout.write(f"not finished; go on with: fedimg simulate resume={arguments.run}\n")
    else:
        sys.stdout.writelines(f"{name} = {value}\n" for name, value in _leaves(summary))
    return 0


def _export(arguments: Any) -> int:
    """Every number of metrics.jsonl as a TensorBoard scalar, its round as the step."""
    _require_run(arguments.run)
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    out = arguments.out or arguments.run / "tensorboard"
    written = 0
    writer = EventFileWriter(str(out))
    try:
        for number, row in enumerate(_metrics(arguments.run), start=1):
            step = row.get("round", number)
            values = [
                Summary.Value(tag=name.replace(".", "/"), simple_value=float(value))
                for name, value in _leaves(row)
                if isinstance(value, int | float) and not isinstance(value, bool) and name != "round"
            ]
            writer.add_event(_event(step, values))
            written += len(values)
    finally:
        writer.close()
    if arguments.json:
        print_json({"events": str(out), "scalars": written})
    else:
        sys.stdout.write(f"{written} scalars in {out}; look at them with: tensorboard --logdir {out}\n")
    return 0


def _event(step: int, values: Sequence[Any]) -> Any:
    import time

    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Event(wall_time=time.time(), step=step, summary=Summary(value=values))


def _runs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path.parent for path in folder.glob("*/config.yaml"))


def _require_run(path: Path) -> None:
    if not (path / "config.yaml").is_file():
        raise DataError(
            "a run's folder with a config.yaml", "none there", "`fedimg runs list` names the runs"
        )


def _row(path: Path) -> dict[str, Any]:
    summary = _json_file(path / "summary.json")
    spent = [
        s.get("epsilon") for s in ((summary or {}).get("sites") or {}).values() if isinstance(s, Mapping)
    ]
    epsilons = [float(e) for e in spent if isinstance(e, int | float)]
    privacy = (summary or {}).get("privacy")
    return {
        "run": str(path),
        "state": "stopped" if summary is None else "finished",
        "rounds": sum(1 for _ in _metrics(path)),
        "privacy": privacy.get("mode") if isinstance(privacy, Mapping) else privacy,
        "epsilon": max(epsilons, default=None),
        "auroc": ((summary or {}).get("test") or {}).get("auroc"),
    }


def _json_file(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_bytes())
    except ValueError:
        raise DataError(
            "a summary.json that is JSON", "another text", "restore the file from a copy"
        ) from None
    return value if isinstance(value, dict) else None


def _metrics(path: Path) -> Iterator[dict[str, Any]]:
    file = path / "metrics.jsonl"
    for line in file.read_text("utf-8").splitlines() if file.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            raise DataError(
                "JSON lines in metrics.jsonl", "another text", "restore the file from a copy"
            ) from None
        if isinstance(row, dict):
            yield row


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
