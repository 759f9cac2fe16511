"""Files de-identified a second, and identifiers left behind: fedimg beside dicognito, dicom-anonymizer and deid.

    python scripts/benchmark_deidentification.py              about ten minutes on one core
    python scripts/benchmark_deidentification.py --json       the same, figures as JSON on stdout
    python scripts/benchmark_deidentification.py --scale 1,2  only fedimg, over child processes

500 CT slices of 512² (0.5 MB each). Each measurement is one fresh process with one thread; the sides
take turns, and medians over the turns are compared. Starting up and ten warm-up files are not
timed, for any side. The peers clean headers and search nothing; of fedimg there are

    engine    read, headers, pixel layers, search of the written bytes, write
    intake    the same by the public way: surveyed, receipted, signed, moved into the release tree
    L0-L3     structural pixel layers; L0-L5: the text detector too, and the verification of what it left
    JPEG-LS   pixels written compressed, as is the default; elsewhere as they were, like the peers'

The L0-L5 sides take the first 60 files. `left_behind` counts, of one CT with an identifier in each
of some 240 places, those that an independent scanner still reads in what each tool wrote. The
peers live in `.venv-peers-deid`, which this script makes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark_deidentification_peers import files
from benchmark_peers import peers_python, tell

HERE = Path(__file__).parent
SIDES = HERE / "benchmark_deidentification_peers"
REQUIREMENTS = ("dicognito>=0.19", "dicom-anonymizer>=2.1", "deid>=0.4.13")
PEERS = ("dicognito", "dicom-anonymizer", "deid")
OWN = {
    "fedimg engine L0-L3": "engine:L0-L3:none:0",
    "fedimg intake L0-L3": "intake:L0-L3:none:0",
    "fedimg intake L0-L3 JPEG-LS": "intake:L0-L3:jpeg-ls:0",
    "fedimg engine L0-L5": "engine:all:none:0",
    "fedimg intake L0-L5": "intake:all:none:0",
    "fedimg intake L0-L5 JPEG-LS": "intake:all:jpeg-ls:0",
}
TARGETS = {"fedimg engine L0-L3": 150.0, "fedimg engine L0-L5": 6.0}
RATIO = 2.5
WARM_UP = 10


def measure(side: str, source: Path, folder: Path, python: Path) -> dict[str, Any]:
    """One fresh process of one side over the files of `source`; what it wrote stays in `folder`."""
    program = "peer_side.py" if side in PEERS else "fedimg_side.py"
    interpreter = str(python) if side in PEERS else sys.executable
    result, log = folder / "result.json", folder / "log.txt"
    folder.mkdir(parents=True)
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    )
    environment["MPLBACKEND"] = "agg"
    with log.open("w") as output:
        ended = subprocess.run(
            [
                interpreter,
                str(SIDES / program),
                OWN.get(side, side),
                str(source),
                str(folder / "out"),
                str(result),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=900,
            check=False,
        )
    if ended.returncode:
        raise RuntimeError(f"{side} ended with code {ended.returncode}:\n{log.read_text()[-2000:]}")
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def speeds(options: argparse.Namespace, work: Path, python: Path) -> dict[str, list[float]]:
    """All sides in turn."""
    many, few = work / "many", work / "few"
    tell(f"writing {options.files} files")
    files.write_slices(many, options.files)
    few.mkdir()
    for path in sorted(many.iterdir())[: options.files_all_layers]:
        os.link(path, few / path.name)
    for folder in (many, few):
        warm = folder.with_name(folder.name + "-warm")
        files.write_slices(warm, WARM_UP)
    sides = [*PEERS, *OWN]
    found: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(options.repeats):
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            source = few if "L0-L5" in side else many
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                result = measure(side, source, Path(scratch) / "run", python)
            expected = len(list(source.iterdir()))
            if result["files"] != expected:
                raise SystemExit(f"{side} wrote {result['files']} of {expected} files")
            found[side].append(expected / result[options.clock])
            tell(f"turn {turn + 1}: {side:28} {found[side][-1]:7.1f} files/s")
    return found


def left_behind(options: argparse.Namespace, work: Path, python: Path) -> dict[str, Any]:
    """Of each tool: how many planted values its output still holds, and of how many."""
    secrets = files.write_planted(work / "planted", options.seed)
    found: dict[str, Any] = {"planted": len(secrets)}
    for side in (*PEERS, *OWN):
        folder = work / f"planted-{side.replace(' ', '-')}"
        try:
            result = measure(side, work / "planted", folder, python)
        except RuntimeError as error:
            tell(str(error))
            found[side] = "failed"
            continue
        left = files.left_behind(folder / "out", secrets)
        found[side] = len(left) if result["files"] else "held back"
        tell(f"{side:28} left {found[side]} of {len(secrets)} identifiers")
        if options.verbose:
            tell("    " + ", ".join(left))
    return found


def scaled(options: argparse.Namespace, work: Path, python: Path) -> dict[str, float]:
    """Files a second of the public way, L0-L3, over child processes."""
    many = work / "scale"
    files.write_slices(many, options.files)
    found: dict[str, list[float]] = {}
    for turn in range(options.repeats):
        for workers in options.scale.split(","):
            OWN[workers] = f"intake:{options.scale_layers}:none:{workers}"
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                result = measure(workers, many, Path(scratch) / "run", python)
            found.setdefault(workers, []).append(result["files"] / result[options.clock])
            tell(f"turn {turn + 1}: {workers} processes {found[workers][-1]:7.1f} files/s")
    return {workers: round(statistics.median(values), 1) for workers, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description="De-identification: speed and what is left, beside three peers."
    )
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--files-all-layers", type=int, default=60, help="files of the L0-L5 sides")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side")
    parser.add_argument("--seed", type=int, default=1, help="of the planted identifiers")
    parser.add_argument(
        "--scale", default="", help="numbers of processes, such as 1,2; then nothing else is run"
    )
    parser.add_argument("--scale-layers", default="L0-L3", choices=("L0-L3", "all"))
    parser.add_argument(
        "--clock",
        default="wall",
        choices=("wall", "cpu"),
        help="cpu counts processor time: for a machine that others use too",
    )
    parser.add_argument("--verbose", action="store_true", help="name the places that were left")
    parser.add_argument(
        "--peers", type=Path, default=HERE.parent / ".venv-peers-deid", help="their environment"
    )
    options = parser.parse_args()
    indent = None if options.json else 2
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if options.scale:
            print(
                json.dumps({"files_per_second": scaled(options, work, Path(sys.executable))}, indent=indent)
            )
            return 0
        python = peers_python(options.peers, REQUIREMENTS)
        left = left_behind(options, work, python)
        turns = speeds(options, work, python)
    medians = {side: statistics.median(values) for side, values in turns.items()}
    fastest = max(PEERS, key=lambda side: medians[side])
    result = {
        "files_per_second": {side: round(value, 1) for side, value in medians.items()},
        "ratios": {side: round(medians["fedimg engine L0-L3"] / medians[side], 2) for side in PEERS},
        "left_behind": left,
        "fastest_peer": fastest,
        "clock": options.clock,
        "all_turns": {side: [round(v, 1) for v in values] for side, values in turns.items()},
        "targets": TARGETS | {f"times {fastest}": RATIO},
    }
    print(json.dumps(result, indent=indent))
    missed = [side for side, target in TARGETS.items() if medians[side] < target]
    missed += (
        [f"{RATIO} times {fastest}"] if medians["fedimg engine L0-L3"] < RATIO * medians[fastest] else []
    )
    missed += [f"identifiers left by {side}" for side in OWN if left[side] != 0]
    if missed:
        tell(f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
