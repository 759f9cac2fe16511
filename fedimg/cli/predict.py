"""`fedimg predict`: look at a folder of studies with the model of a bundle."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import print_json, progress, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.prediction.folder import Row
    from fedimg.prediction.loading import Model

_ABOUT = (
    "Look at the series of a folder of DICOM files with the model of a signed bundle. OUT/predictions.csv has a row for "
    "each series; of what is called a report (SR), an outline (SEG) and a picture lie in OUT. Not for diagnostic use."
)
_EPILOG = """only series that the bundle names are looked at; others, and those that cannot be used, are "not analysed" with
the reason, which does not mean that nothing was found. OUT holds what the files hold of the patients. exit code 0: done;
4: a bundle or folder that cannot be used."""


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("predict", _ABOUT)
    parser.epilog = _EPILOG
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("source", type=Path, metavar="IN", help="a folder of DICOM files; it is not changed")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder (0700), outside of IN")
    parser.add_argument(
        "--key", action="append", required=True, help="a public key that you trust: ed25519:HEX, or its file"
    )
    parser.add_argument(
        "--all", action="store_true", help="outlines and pictures also of what is not called; never a report"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    _check_folders(arguments.source, arguments.out)
    from fedimg.crypto.public_key import public_key
    from fedimg.prediction.folder import predict_folder
    from fedimg.prediction.loading import load

    model = load(arguments.bundle, [public_key(text) for text in arguments.key])
    _make(arguments.out)
    with progress() as report:
        rows = predict_folder(model, arguments.source, arguments.out, report, always=arguments.all)
    _tell(model, rows, arguments.out, as_json=arguments.json)
    return 0


def _check_folders(source: Path, out: Path) -> None:
    if not source.is_dir():
        raise DataError("a folder of DICOM files", "none there", "name one")
    if out.resolve().is_relative_to(source.resolve()):
        raise ConfigError("OUT outside of IN", "a folder inside it", "name another: results are no input")


def _make(out: Path) -> None:
    """Private before anything is in it."""
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise DataError("a new or empty folder for OUT", "one with something in it", "name another")
    out.chmod(0o700)


def _tell(model: Model, rows: Sequence[Row], out: Path, *, as_json: bool) -> None:
    from fedimg.prediction.folder import ANALYSED, TABLE

    series = [row for row in rows if row.series_uid]
    analysed = [row for row in series if row.state == ANALYSED]
    called = sum(row.called or 0 for row in analysed)
    said = model.metadata
    if as_json:
        counts = {"series": len(series), "analysed": len(analysed), "called": called}
        named = {"name": said.name, "version": said.version, "digest": model.digest}
        print_json({"model": named, **counts, "rows": [asdict(row) for row in rows]})
        return
    sys.stdout.write(
        f"{said.name} {said.version}: {len(analysed)} of {len(series)} series analysed, {called} called\n"
    )
    if said.threshold is None:
        sys.stdout.write("the bundle promises no threshold, so that nothing is called\n")
    for reason, count in Counter(row.reason for row in series if row.state != ANALYSED).most_common():
        sys.stdout.write(f"not analysed: {count} series, {reason}\n")
    if files := sum(row.images for row in rows if not row.series_uid):
        sys.stdout.write(f"{files} files that cannot be read\n")
    sys.stdout.write(f"{out / TABLE}\n")
