"""`fedimg verify`: check a release record offline, against itself, its run's folder and the model file."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.record import Evidence

EPILOG = """without --key the keys are those that the record itself names: that shows that nothing was changed since,
not who wrote it. exit code 0: every check passed; 1: at least one failed; 4: not a release record."""


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "verify",
        "Check a model's release record: signatures, ε recomputed by two accountants, ledgers, weights.",
    )
    parser.epilog = EPILOG
    parser.add_argument(
        "source", type=Path, help="a run's folder (its ledgers and model are checked too), or a record.json"
    )
    parser.add_argument("--model", type=Path, help="the safetensors file that is said to be the model")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="[NAME=]HEX",
        help="a public key known from elsewhere: of a site, or of the coordinator where no name is given",
    )
    parser.add_argument(
        "--opening",
        action="append",
        default=[],
        type=Path,
        help="a site's opening of its commitments (`fedimg site open`)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_args(argv)
    started = time.monotonic()
    from fedimg import record

    keys = dict(map(_key, arguments.key))
    file, folder = record_file(arguments.source)
    evidence = replace(evidence_of(folder), keys=keys, openings=tuple(map(_opening, arguments.opening)))
    if arguments.model is not None:
        evidence = replace(evidence, model=arguments.model)
    found = record.verify(read_bytes(file), evidence)
    if arguments.json:
        print_json(
            {
                "verdict": "pass" if found.passed else "fail",
                "seconds": round(time.monotonic() - started, 3),
                "checks": [{"check": c.name, "passed": c.passed, "found": c.found} for c in found.checks],
                "remarks": list(found.remarks),
                "record": dict(found.record),
            }
        )
    else:
        _print(found)
    return 0 if found.passed else 1


def record_file(source: Path) -> tuple[Path, Path | None]:
    """The record that is meant, and the run's folder where one was named (or a run's name in runs/)."""
    from fedimg.record import FILE

    inside = Path("runs") / source
    folder = inside if not source.exists() and len(source.parts) == 1 and inside.is_dir() else source
    if not folder.is_dir():
        return folder, None
    if not (folder / FILE).is_file():
        raise DataError(
            f"a run's folder with a {FILE}",
            "none there",
            "runs of earlier versions and unfinished ones have no record; finish it with `fedimg simulate resume=…`",
        )
    return folder / FILE, folder


def read_bytes(path: Path) -> bytes:
    """A file that was named. Raises DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            "a release record",
            error.strerror or "an unreadable file",
            "name a run's folder or its record.json",
        ) from None


def _key(text: str) -> tuple[str, str]:
    name, _, key = text.rpartition("=")
    try:
        if len(bytes.fromhex(key)) == 32:
            return name or "coordinator", key.lower()
    except ValueError:
        key = ""
    raise ConfigError("--key [NAME=]HEX with a public key of 32 bytes", "another value", "copy the key whole")


def evidence_of(folder: Path | None) -> Evidence:
    """What a run's folder holds to check its record against: the ledgers' extracts and the model."""
    from fedimg import record

    if folder is None:
        return record.Evidence()
    ledgers = {path.stem: path.read_bytes() for path in sorted((folder / "ledgers").glob("*.json"))}
    model = folder / record.MODEL_FILE
    return record.Evidence(ledgers=ledgers, model=model if model.is_file() else None)


def _opening(path: Path) -> Any:
    from fedimg.canonical import decode
    from fedimg.record import Opening

    return Opening.from_json(decode(read_bytes(path), "opening"))


def _print(found: Any) -> None:
    rows = [{"": "ok" if c.passed else "FAILED", "check": c.name, "found": c.found} for c in found.checks]
    print_table(rows, ("", "check", "found"))
    for remark in found.remarks:
        sys.stdout.write(f"note: {remark}\n")
    claim = found.record["claim"]
    if not found.passed:
        sys.stdout.write(
            f"\nFAILED: {len(found.failures)} of {len(found.checks)} checks; believe nothing in this record\n"
        )
    elif claim["private"]:
        unit = claim["adjacency"].removeprefix("add_or_remove_one_")
        sys.stdout.write(
            f"\nverified: ε = {claim['epsilon']:.4g} at δ = {claim['delta']:g}, neighbours differ by adding or"
            f" removing one {unit}\n"
        )
    else:
        sys.stdout.write("\nverified: the record is whole, and it promises nothing to any patient\n")
