"""Kill intakes at random moments: is the release tree whole at that instant, and how does the next run end?

    python scripts/study_kill.py [--kills 100] [--files 60] [--workers 0,2] [--json FILE]

Each trial starts a fresh output, sends SIGKILL at a moment drawn uniformly from the length of an
unbroken run, and checks what lies there: every file of the release tree must have a signed receipt
and its bytes. Every third trial is killed a second time while it goes on. Then the run is started
again to its end, and released files, receipts and signed head are compared byte by byte with those
of the unbroken run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: children are forked

import numpy as np

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import receipts
from fedimg.dicom.authoring import write_image
from fedimg.errors import ReceiptError
from fedimg.home import OutCard, OutFolder
from fedimg.intake import FolderInputs, IntakeConfig, run_intake

KEY = SiteKey.from_bytes(bytes(range(32)))
PROJECT = "study"
SIDE = 64


class Trial(NamedTuple):
    """What was there when the process was killed."""

    workers: int
    moment_s: float
    files: int
    signed: int
    waiting: int
    whole: bool


def write_inputs(folder: Path, files: int) -> None:
    """Small CT slices of several patients, and between them what is held back."""
    rng = np.random.default_rng(0)
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(SIDE), np.arange(SIDE)) / 5)
    for n in range(files):
        patient = folder / f"patient {n % 5}"
        patient.mkdir(parents=True, exist_ok=True)
        pixels = (wave + rng.normal(0, 5, wave.shape)).astype(np.uint16)
        known = {
            "PatientID": f"MRN{n % 5:06d}",
            "PatientName": f"QUIRRELL^NUMBER{n % 5}",
            "StudyDate": "20120309",
        }
        write_image(patient / f"{n:04d}.dcm", modality="CT", pixels=pixels, attributes=known)
        if n % 10 == 3:
            (patient / f"{n:04d} letter.dcm").write_text("a letter")


def start(source: Path, out: Path, workers: int) -> tuple[int, int]:
    """A process that takes the folder in: its number, and a pipe that tells when it begins."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    os.close(reading)
    os.setsid()
    try:
        folder = OutFolder.open(out, KEY) if OutCard.exists(out) else OutFolder.create(out, KEY, PROJECT)
        os.write(writing, b"!")
        run_intake(FolderInputs(source), folder, IntakeConfig(project=PROJECT, workers=workers))
    except BaseException as fault:  # noqa: BLE001 - a forked child must not return into the study
        sys.stderr.write(f"the run failed: {type(fault).__name__}\n")
        os._exit(1)
    os._exit(0)


def to_the_end(source: Path, out: Path, workers: int) -> float:
    """Run unbroken; seconds. Raises RuntimeError where the run fails."""
    child, pipe = start(source, out, workers)
    os.read(pipe, 1)
    began = time.monotonic()
    os.close(pipe)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise RuntimeError("an intake that failed; its message is above")
    return time.monotonic() - began


def kill_at(moment_s: float, source: Path, out: Path, workers: int) -> Trial:
    """Kill the run that long after its beginning, and look at what is there."""
    child, pipe = start(source, out, workers)
    os.read(pipe, 1)
    time.sleep(moment_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(pipe)
    return inspected(out, workers, moment_s)


def inspected(out: Path, workers: int, moment_s: float) -> Trial:
    """Every released file against the signed receipts, as they are, before anything is repaired."""
    released = out / "released"
    files = [path for path in released.rglob("*") if not path.is_dir()]
    signed, whole = 0, True
    try:
        known = receipts.standing(
            receipts.read(out / "receipts.jsonl", bytes.fromhex(OutCard.read(out).public_key))
        )
        signed = len(known)
        for path in files:
            output = path.relative_to(released).as_posix()
            whole &= output in known
            if output in known:
                receipts.check_file(known[output], output, released)
    except ReceiptError:
        whole = whole and not files  # killed before the first head was signed
    waiting = len(list((out / "quarantine").glob("*.part")))
    return Trial(workers, moment_s, len(files), signed, waiting, whole)


def content(out: Path) -> Mapping[str, bytes]:
    """Released files, receipts and head: what two runs are compared by."""
    paths = [path for path in (out / "released").rglob("*") if path.is_file()]
    paths += [out / "receipts.jsonl", out / "receipts.head"]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


def study(kills: int, files: int, workers: tuple[int, ...], seed: int) -> dict[str, Any]:
    """All trials. `identical` counts runs that ended like the unbroken one."""
    rng = random.Random(seed)  # noqa: S311 - moments of a study, nothing secret
    trials: list[Trial] = []
    identical = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        os.environ["FEDIMG_STATE_DIR"] = str(place / "state")
        write_inputs(place / "source", files)
        lengths = {n: to_the_end(place / "source", place / f"unbroken{n}", n) for n in dict.fromkeys(workers)}
        reference = content(place / f"unbroken{workers[0]}")
        same = all(content(place / f"unbroken{n}") == reference for n in lengths)
        for number in range(kills):
            count, out = workers[number % len(workers)], place / f"out{number}"
            trials.append(kill_at(rng.uniform(0, lengths[count]), place / "source", out, count))
            if number % 3 == 2 and OutCard.exists(out):
                trials.append(kill_at(rng.uniform(0, lengths[count]), place / "source", out, count))
            to_the_end(place / "source", out, count)
            left = [path.name for path in (out / "quarantine").iterdir()]
            identical += content(out) == reference and not left
            if len(trials) >= kills:
                break
        runs = number + 1
    return {
        "inputs": files + files // 10,
        "kills": len(trials),
        "runs": runs,
        "whole_when_killed": sum(trial.whole for trial in trials),
        "ended_identical": identical,
        "same_for_any_number_of_workers": same,
        "length_s": {str(n): round(length, 2) for n, length in lengths.items()},
        "trials": [trial._asdict() for trial in trials],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--workers", default="0", help="numbers of processes, in turn: 0,2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    workers = tuple(int(number) for number in arguments.workers.split(","))
    found = study(arguments.kills, arguments.files, workers, arguments.seed)
    print(f"{'workers':>7} {'killed at s':>11} {'in the tree':>11} {'signed':>6} {'waiting':>7}  whole")
    for trial in found["trials"]:
        print(
            f"{trial['workers']:7d} {trial['moment_s']:11.2f} {trial['files']:11d} {trial['signed']:6d} "
            f"{trial['waiting']:7d}  {'yes' if trial['whole'] else 'NO'}"
        )
    print(
        f"{found['kills']} kills: tree whole {found['whole_when_killed']} times; {found['runs']} runs gone on with: "
        f"{found['ended_identical']} ended byte-identical to the unbroken one"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))
    good = found["whole_when_killed"] == found["kills"] and found["ended_identical"] == found["runs"]
    return 0 if good and found["same_for_any_number_of_workers"] else 1


if __name__ == "__main__":
    sys.exit(main())
