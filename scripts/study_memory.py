"""Memory of an intake over very many files: does it grow with their number?

    python scripts/study_memory.py [--files 1000,100000] [--workers 0] [--layers L0-L3] [--json FILE]

Writes tiny DICOM files, takes them in by a process of its own, and reports that process's largest
resident memory (`ru_maxrss`, which includes the libraries) and its speed, for each number of files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.authoring import write_image
from fedimg.home import OutFolder
from fedimg.intake import FolderInputs, MeasuredIntakeConfig, run_intake

_KEY = SiteKey.from_bytes(bytes(range(32)))
_PER_SERIES, _PER_PATIENT = 100, 200
_SIDE = 8


def write_inputs(folder: Path, files: int) -> None:
    """CT slices of 8 × 8 pixels: one written by the encoder per series, the others by replacing its numbers."""
    rng = np.random.default_rng(0)
    for first in range(0, files, _PER_SERIES):
        series = folder / f"{first // _PER_SERIES:06d}"
        series.mkdir(parents=True)
        known = {
            "PatientID": f"MRN{first // _PER_PATIENT:09d}",
            "PatientName": f"QUIRRELL{first // _PER_PATIENT:06d}^ANNABETH",
            "StudyDate": "20120309",
            "StudyInstanceUID": f"1.2.826.0.1.3680043.8.498.1.{first // _PER_PATIENT + 10**9}",
            "SeriesInstanceUID": f"1.2.826.0.1.3680043.8.498.2.{first // _PER_SERIES + 10**9}",
            "SOPInstanceUID": f"1.2.826.0.1.3680043.8.498.3.{10**9}",
        }
        pixels = rng.integers(900, 1100, (_SIDE, _SIDE)).astype(np.uint16)
        model = series / "model"
        write_image(model, modality="CT", pixels=pixels, attributes=known)
        data = model.read_bytes()
        model.unlink()
        at = data.rindex(pixels.tobytes())
        for number in range(first, min(first + _PER_SERIES, files)):
            own = rng.integers(900, 1100, (_SIDE, _SIDE)).astype(np.uint16)
            copy = data.replace(b".498.3.1000000000", b".498.3.%d" % (10**9 + number))
            (series / f"{number:06d}.dcm").write_bytes(copy[:at] + own.tobytes() + copy[at + pixels.nbytes :])


def take_in(source: Path, out: Path, workers: int, layers: Any) -> dict[str, Any]:
    """In the process that is measured."""
    folder = OutFolder.create(out, _KEY, "study")
    began = time.monotonic()
    result = run_intake(FolderInputs(source), folder, MeasuredIntakeConfig(workers=workers, layers=layers))
    seconds = time.monotonic() - began
    return {
        "released": result.released,
        "quarantined": {reason.value: count for reason, count in result.quarantined.items()},
        "seconds": round(seconds, 1),
        "files_per_s": round((result.released + sum(result.quarantined.values())) / seconds, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "largest_child_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }


def measured(files: int, workers: int, layers: str) -> dict[str, Any]:
    """One number of files, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        write_inputs(place / "source", files)
        command = [
            sys.executable,
            __file__,
            "--one",
            str(place),
            "--workers",
            str(workers),
            "--layers",
            layers,
        ]
        environment = os.environ | {"FEDIMG_STATE_DIR": str(place / "state")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise RuntimeError(f"the measured process failed:\n{done.stderr}")
        return {"files": files, "workers": workers, **json.loads(done.stdout)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", default="1000,100000")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--layers", default="L0-L3", choices=("all", "L0-L3"))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        place = arguments.one
        print(json.dumps(take_in(place / "source", place / "out", arguments.workers, arguments.layers)))
        return 0
    rows = []
    print(f"{'files':>8} {'released':>8} {'files/s':>8} {'peak MiB':>9} {'child MiB':>9}")
    for files in map(int, arguments.files.split(",")):
        row = measured(files, arguments.workers, arguments.layers)
        rows.append(row)
        print(
            f"{row['files']:8d} {row['released']:8d} {row['files_per_s']:8.1f} {row['peak_mib']:9d} "
            f"{row['largest_child_mib']:9d}",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
