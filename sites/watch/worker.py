"""A process that looks at studies: JSON lines in, JSON lines out. It holds the verified models, and nothing else.

It knows no name and no network; what a study's headers hold stays in its memory and in the files that it writes. One
torch thread: two on a contended core cost more than they bring. Started with -P by `sites.watch.working`.

What a call rests on is made when it is asked for, after the alert. SIGUSR1 says that a study waits: the map is left
between two of its steps, and goes on where it was when it is asked for again.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch

from fedimg.errors import FedimgError
from fedimg.prediction.attention import Begun
from fedimg.prediction.loading import Model, load
from fedimg.prediction.predicting import attended, predict
from fedimg.prediction.results import NotFinite, prediction_of
from fedimg.prediction.writing import Outputs, write_outputs, write_picture


@dataclasses.dataclass
class _Map:
    """The one that was begun last, and whether somebody waits meanwhile."""

    job: int = 0
    begun: Begun = dataclasses.field(default_factory=Begun)
    left: bool = False

    def leave(self, *_: object) -> None:
        self.left = True

    def of(self, job: int) -> Begun:
        """Where it was, if it is the same."""
        if job != self.job:
            self.job, self.begun = job, Begun()
        self.left = False
        return self.begun


def main() -> int:
    """Read the models to load, say `ready`, then answer one job after another until the pipe closes."""
    last = _Map()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    signal.signal(signal.SIGUSR1, last.leave)
    out = _own_output()
    torch.set_num_threads(1)
    loaded: dict[str, Model] = {}
    begun = json.loads(sys.stdin.readline() or "null")
    if begun is None:
        return 0
    trusted = [bytes.fromhex(key) for key in begun["trusted"]]
    for folder in begun["bundles"]:
        try:
            model = load(Path(folder), trusted)
        except FedimgError as fault:
            _say(out, {"unfit": folder, "why": str(fault)})
            return 4
        loaded[model.digest] = model
    _say(out, {"ready": sorted(loaded)})
    for line in sys.stdin:
        asked = json.loads(line)
        # one that has just been taken in is for the worker that comes next
        found = loaded.get(asked["model"])
        _say(
            out,
            {"job": asked["job"]}
            | (_answer(found, asked, last) if found else {"failed": "a model not loaded"}),
        )
    return 0


def _answer(model: Model, asked: Mapping[str, Any], last: _Map) -> dict[str, Any]:
    try:
        folder = Path(asked["out"])
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _shown(model, asked, folder, last) if "owed" in asked else _looked(model, asked, folder)
    except NotFinite:
        return {"not_finite": True}
    except FedimgError as fault:
        return {"refused": fault.found}  # our own words on why no series can be made of it
    except OSError as fault:
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT)  # no fault of the study
        return {"no_room": True} if full else {"failed": type(fault).__name__}
    except Exception as fault:  # noqa: BLE001 - one study may make a library fail in ways of its own; only the kind is told
        return {"failed": type(fault).__name__}


def _looked(model: Model, asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    analysis = predict(model, _files(asked), attention=False)
    made = write_outputs(analysis, folder)
    owed = None if analysis.owed is None else {"image": analysis.owed, "inputs": analysis.inputs}
    return {"prediction": dataclasses.asdict(analysis.prediction), "outputs": _named(made), "owed": owed}


def _shown(model: Model, asked: Mapping[str, Any], folder: Path, last: _Map) -> dict[str, Any]:
    owed = asked["owed"]
    before, begun = prediction_of(owed["of"]), last.of(asked["job"])
    analysis = attended(
        model, _files(asked), before, owed["image"], owed["inputs"], begun, lambda: not last.left
    )
    if analysis is None:
        return {"gave_way": True}
    made = write_picture(analysis, folder)
    found = [dataclasses.asdict(one) for one in analysis.prediction.found]
    return {"found": found, "outputs": _named(made)}


def _files(asked: Mapping[str, Any]) -> list[Path]:
    return [Path(path) for path in asked["files"]]


def _named(made: Outputs) -> dict[str, str]:
    outputs = {"sr": made.report, "seg": made.outline, "sc": made.picture, "preview": made.preview}
    return {name: str(path) for name, path in outputs.items() if path is not None}


def _own_output() -> TextIO:
    """The pipe to the parent; whatever a library prints goes nowhere."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return pipe


def _say(out: TextIO, answer: Mapping[str, Any]) -> None:
    out.write(json.dumps(answer, allow_nan=False) + "\n")
    out.flush()


if __name__ == "__main__":
    sys.exit(main())
