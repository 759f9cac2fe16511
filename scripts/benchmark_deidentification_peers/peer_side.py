"""A peer's side: one folder of DICOM files, header by header, as its documentation runs it. One process.

Run with the peers' own interpreter: peer_side.py TOOL SOURCE TARGET RESULT. Starting up is not timed.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def dicognito(source: Path, target: Path) -> None:
    """`dicognito -o TARGET SOURCE` (its README), quietly."""
    import_module("dicognito.__main__").main(["--quiet", "--output-directory", str(target), str(source)])


def dicom_anonymizer(source: Path, target: Path) -> None:
    """`dicom-anonymizer SOURCE TARGET` (its README): the basic profile, private tags removed."""
    import_module("dicomanonymizer.anonymizer").anonymize(str(source), str(target), {}, True)


def deid(source: Path, target: Path) -> None:
    """get_identifiers, then replace_identifiers with the shipped recipe (its guide), private tags removed."""
    dicom = import_module("deid.dicom")
    for file in sorted(str(path) for path in source.iterdir()):
        # One at a time: what is read of all files at once would stay in memory.
        found = dicom.get_identifiers([file])
        dicom.replace_identifiers(
            dicom_files=[file],
            ids=found,
            deid=_recipe(),
            save=True,
            output_folder=str(target),
            remove_private=True,
        )


@cache
def _recipe() -> Any:
    return import_module("deid.config").DeidRecipe()


TOOLS: dict[str, Callable[[Path, Path], None]] = {
    "dicognito": dicognito,
    "dicom-anonymizer": dicom_anonymizer,
    "deid": deid,
}


def main() -> int:
    tool, source, target, result = sys.argv[1], *map(Path, sys.argv[2:5])
    warnings.simplefilter("ignore")
    target.mkdir(parents=True)
    warm = target.with_name(target.name + "-warm")
    warm_source = source.with_name(source.name + "-warm")
    if warm_source.is_dir():
        warm.mkdir()
        TOOLS[tool](warm_source, warm)
    start, cpu = time.perf_counter(), time.process_time()
    TOOLS[tool](source, target)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    written = sum(1 for path in target.rglob("*") if path.is_file())
    result.write_text(json.dumps({"wall": seconds, "cpu": cpu, "files": written}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
