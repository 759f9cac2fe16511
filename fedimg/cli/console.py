"""What the verbs share at the terminal: arguments, output, progress, errors.

Nothing here may print a value read from a patient's file. Foreign libraries do (a DICOM
reader's warning quotes the element it stumbled on), so their loggers and warnings are
silenced, and of an unexpected fault only its kind and places in the code are shown.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from fedimg.errors import ConfigError, FedimgError

Progress = Callable[[str, int, int], None]
"""(stage, done, total), called from the thread that works."""

QUOTING_LOGGERS = ("pydicom", "highdicom", "nibabel", "PIL", "monai", "flwr", "ray")


class Arguments(argparse.ArgumentParser):
    """A parser whose refusals are `ConfigError`s, so that every usage error reads alike."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"the arguments of `{self.prog}`", message, f"see `{self.prog} --help`")


def verb_parser(verb: str, about: str) -> Arguments:
    return Arguments(prog=f"fedimg {verb}", description=about, allow_abbrev=False)


def add_action(actions: Any, name: str, about: str) -> Arguments:
    """One action of a verb that has several."""
    parser: Arguments = actions.add_parser(name, help=about, description=about)
    return parser


def debugging() -> bool:
    return os.environ.get("FEDIMG_DEBUG", "0") not in ("", "0")


def keep_patient_data_out_of_logs() -> None:
    """Silence the loggers and warnings of libraries that quote the values they read."""
    if debugging():
        return
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s")
    for name in QUOTING_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    warnings.simplefilter("ignore")


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Rows as aligned columns on stdout; None is an empty cell."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(c[i]) for c in cells), 0) for i, column in enumerate(columns)]
    for line in [list(columns), *cells]:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def say(text: str) -> None:
    """One line for the person watching, on stderr."""
    sys.stderr.write(text + "\n")


def print_error(error: FedimgError) -> None:
    say(f"error: expected {error.expected}\n       found {error.found}\n       {error.remedy}")


def print_system_error(error: OSError) -> None:
    """The operating system's reason without the path, which may name a patient."""
    if debugging():
        traceback.print_exception(error)
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    say(f"error: expected files and folders that can be read and written\n       found: {reason}")
    say("       free space or grant access, then run the same command again")


def print_unexpected(error: Exception) -> None:
    """Kind and places of a fault; its text only when debugging, since it may quote what it read."""
    if debugging():
        traceback.print_exception(error)
        return
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
    say(f"error: an unexpected {type(error).__name__} at {places}")
    say("       this is a fault of the program; FEDIMG_DEBUG=1 shows it whole (it may quote patient data)")


def print_interrupt(interrupt: KeyboardInterrupt) -> None:
    """Say how to go on: a run that was stopped leaves its folder's path on the exception."""
    path = getattr(interrupt, "run_path", None)
    if path is None:
        say("\ninterrupted")
    else:
        say(f"\ninterrupted; go on with: fedimg simulate resume={path}")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display on stderr: bars on a terminal, one line a stage elsewhere."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def _lines() -> Progress:
    begun: set[str] = set()
    ended: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            say(f"{stage} …")
        if done >= total and stage not in ended:
            ended.add(stage)
            say(f"{stage}: {done} of {total}")

    return report
