"""`fedimg cohort`: a generated hospital's image files, to try things on without a patient."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import print_json, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.values import Split


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "cohort",
        "Write a generated hospital: real DICOM files of people who do not exist, with lesions of known place "
        "(manifest.csv) and planted identifiers (planted.json).",
    )
    parser.add_argument("folder", type=Path, help="a folder that is new or empty")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="seed=…, sites=…, data.cohort.…=…")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--hospital", type=int, default=1, help="which one, from 1 (default)")
    which.add_argument("--public", action="store_true", help="the coordinator's public set instead")
    which.add_argument("--all", action="store_true", help="every hospital and the public set, a folder each")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_intermixed_args(argv)
    folder: Path = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError("a folder that is new or empty", "one with files in it", "name another folder")
    from fedimg.config import keys

    keys.check(arguments.overrides)  # before anything heavy is imported
    from fedimg.cohort import generate_cohort, generate_hospital
    from fedimg.config import compose

    config = compose(arguments.overrides)
    settings = replace(config.data.cohort, hospitals=config.sites)
    if not 1 <= arguments.hospital <= settings.hospitals:
        raise ConfigError(
            f"--hospital between 1 and {settings.hospitals}",
            str(arguments.hospital),
            "set sites=… for more",
        )
    if arguments.all:
        parts = generate_cohort(folder, settings, config.seed)
    else:
        split: Split = "public" if arguments.public else "train"
        generate_hospital(folder, settings, arguments.hospital - 1, config.seed, split)
        parts = {split: folder}
    counts = {name: sum(1 for p in part.rglob("*") if p.is_file()) for name, part in parts.items()}
    if arguments.json:
        print_json({"folder": str(folder), "files": sum(counts.values())})
    else:
        sys.stdout.write(f"{sum(counts.values())} files in {folder}; manifest.csv names them\n")
    return 0
