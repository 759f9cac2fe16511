"""`review`: a person's decisions on what was held back."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, print_table, say
from fedimg.cli.deidentify import folders
from fedimg.errors import ConfigError

_USAGE = "list, preview N FILE.png, release N, or discard N"


def review(arguments: Any) -> int:
    what, *rest = arguments.words or ["list"]
    actions = {
        "list": (_list, 0),
        "preview": (_preview, 2),
        "release": (_release, 1),
        "discard": (_discard, 1),
    }
    act, count = actions.get(what, (None, 0))
    if act is None or len(rest) != count or (count and not rest[0].isdecimal()):
        raise ConfigError(_USAGE, " ".join([what, *rest]), "see `fedimg deidentify review --help`")
    config = folders.configuration(arguments.overrides)
    folder = folders.opened(arguments.out, arguments.overrides, config, create=False)
    return int(act(arguments, folder, config, rest))


def _list(arguments: Any, folder: Any, _config: Any, _rest: Any) -> int:
    from fedimg.intake.review import held_back

    rows = [
        {
            **asdict(held),
            "reviewed": " ".join(held.reviewed.get(k, "") for k in ("action", "reviewer", "time")),
        }
        for held in held_back(folder)
        if arguments.position in (None, held.position)
    ]
    if arguments.json:
        print_json(rows)
    else:
        print_table(rows, ("position", "reason", "overridable", "reviewed", "detail"))
    return 0


def _review_of(arguments: Any, folder: Any, config: Any) -> Any:
    from fedimg.intake import FolderInputs
    from fedimg.intake.review import Review

    if arguments.input is None:
        remedy = "give --input IN: originals are kept nowhere else"
        raise ConfigError("the folder that the run took in", "none", remedy)
    return Review(folder, FolderInputs(arguments.input), config)


def _preview(arguments: Any, folder: Any, config: Any, rest: list[str]) -> int:
    notes = _review_of(arguments, folder, config).preview(int(rest[0]), Path(rest[1]), arguments.frame)
    if arguments.json:
        print_json(notes)
    else:
        sys.stdout.write(
            f"{len(notes['words'])} words found, frame {notes['frame']} of {notes['frames']} shown\n"
        )
    say("the picture and the notes beside the receipts are confidential: they may show who the patient is")
    return 0


def _release(arguments: Any, folder: Any, config: Any, rest: list[str]) -> int:
    work = _review_of(arguments, folder, config)
    outcome = work.release(int(rest[0]), arguments.reason or "", arguments.reviewer)
    sys.stdout.write(f"released: {outcome.output}\n")
    return 0


def _discard(arguments: Any, folder: Any, config: Any, rest: list[str]) -> int:
    from fedimg.intake.review import discard

    discard(folder, config, int(rest[0]), arguments.reviewer)
    return 0
