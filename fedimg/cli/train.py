"""`fedimg train`: ask a federation's server for a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fedimg.cli.console import print_json, say, verb_parser

_EPILOG = """The run is judged here, queued, and done by `fedimg server start FOLDER`, which takes it up at once if it has
nothing else to do. Sites that have not agreed beforehand are asked: `fedimg site approve`."""


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("train", "Ask for a run of the members of a federation.")
    parser.epilog = _EPILOG
    parser.add_argument("folder", type=Path, help="the federation's folder, on the server's machine")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--wait", action="store_true", help="until it has finished or stopped; exit code 5 then"
    )
    parser.add_argument("--json", action="store_true", help="the run's name as JSON on stdout")
    arguments = parser.parse_intermixed_args(argv)
    from fedimg.config import keys

    keys.check(arguments.overrides)  # before anything heavy is imported
    from server.submission import submit

    name = submit(arguments.folder, arguments.overrides)
    folder = arguments.folder / "runs" / name
    if arguments.json:
        print_json({"run": name, "folder": str(folder)})
    else:
        sys.stdout.write(f"{folder}\n")
    return _wait(arguments.folder, name) if arguments.wait else 0


def _wait(root: Path, run: str) -> int:
    """Tell of each change."""
    from server.registry import Registry, Stage

    last = ""
    with Registry(root) as registry:
        while True:
            entry = registry.entry(run)
            told = f"{entry.stage}, round {entry.round} of {entry.rounds}"
            told += f": {entry.reason}" if entry.reason else ""
            if told != last:
                say(told)
                last = told
            if entry.stage is Stage.FINISHED:
                return 0
            if entry.stage in (Stage.STOPPED, Stage.FAILED):
                return 5
            time.sleep(0.5)
