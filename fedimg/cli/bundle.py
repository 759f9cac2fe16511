"""`fedimg bundle`: make the signed bundle of a run's model, check one, make the key that signs."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.console import print_json, say, verb_parser
from fedimg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedimg.coordination.bundling import Asked
    from fedimg.crypto.keys import SigningKey

_EPILOG = """a bundle's configuration is a program where MONAI loads it: verify before, with a key that its owner confirmed to
you by another way. exit code 0: done; 4: refused."""


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("bundle", "Release a run's model as a signed MONAI bundle, or check one.")
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(required=True, metavar="keygen|make|verify")
    keygen = verbs.add_parser("keygen", help="make FILE (secret, 0600) and FILE.pub")
    keygen.add_argument("file", type=Path)
    keygen.set_defaults(of=_keygen)
    make = verbs.add_parser("make", help="write the bundle of a finished run into a new folder")
    make.add_argument("run", type=Path, help="a run's folder, or its name in runs/")
    make.add_argument("out", type=Path, help="a new folder")
    make.add_argument("--key", type=Path, required=True, help="the secret key that signs")
    make.add_argument(
        "--finding", metavar="NAME", help="of conf/findings, or a file: all of the following six, and codes"
    )
    make.add_argument("--name", help="what the model finds, for people; needed without --finding")
    make.add_argument("--release", default="1.0.0", metavar="VERSION", help="1.0.0 where none is named")
    make.add_argument("--description")
    make.add_argument("--kind", help="tumour, cardiac, stroke or other")
    make.add_argument("--modality", action="append", help="of series that it may look at (CT, CR, …)")
    make.add_argument("--body-part", action="append", help="the same (CHEST, HEAD, …)")
    make.add_argument("--least-images", type=int, help="a series with fewer is not looked at")
    make.add_argument("--sensitivity", type=float, help="that the threshold is to promise; by default 0.95")
    make.add_argument("--confidence", type=float, default=0.95, help="with which it is promised")
    make.add_argument("--json", action="store_true", help="one JSON object on stdout")
    make.set_defaults(of=_make)
    verify = verbs.add_parser("verify", help="check signature, files and floats, then say what it is")
    verify.add_argument("bundle", type=Path)
    verify.add_argument(
        "--key", action="append", required=True, help="a public key: ed25519:HEX, or the file it is in"
    )
    verify.add_argument("--json", action="store_true", help="one JSON object on stdout")
    verify.set_defaults(of=_verify)
    arguments = parser.parse_args(argv)
    done: int = arguments.of(arguments)
    return done


def _keygen(arguments: Namespace) -> int:
    from fedimg.crypto.keys import SigningKey
    from fedimg.durable import write_durably

    key = SigningKey.create(arguments.file)
    public = f"ed25519:{key.public_bytes.hex()}"
    write_durably(arguments.file.with_name(f"{arguments.file.name}.pub"), f"{public}\n", mode=0o644)
    sys.stdout.write(f"{public}\n")
    say("sites that are to trust what this key signs need the line above, by a way that cannot be forged")
    return 0


def _make(arguments: Namespace) -> int:
    from fedimg import record
    from fedimg.bundle import seal
    from fedimg.bundle.contents import contents
    from fedimg.cli.verify import evidence_of, read_bytes, record_file
    from fedimg.coordination.bundling import described

    asked = _asked(arguments)
    key = _signing_key(arguments.key)
    file, folder = record_file(arguments.run)
    if folder is None:
        raise ConfigError("a run's folder", "none there", "name the folder that holds record.json")
    if arguments.out.exists():
        raise DataError("a new folder for the bundle", "one that exists", "name another")
    checked = record.verify(read_bytes(file), evidence_of(folder))
    if not checked.passed:
        failed = ", ".join(check.name for check in checked.failures)
        expected = "a run whose release record holds together"
        raise DataError(expected, f"one that fails {failed}", "see `fedimg verify`")
    made = described(folder, asked)
    digest = seal(arguments.out, contents(made), key)
    result = {
        "bundle": str(arguments.out),
        "digest": digest,
        "signer": key.public_bytes.hex(),
        "temperature": made.said.temperature,
        "threshold": made.said.threshold,
        "guarantees": list(made.guarantees),
    }
    if arguments.json:
        print_json(result)
    else:
        sys.stdout.write(f"{arguments.out}\nsha256 {digest}\n")
        sys.stdout.writelines(f"- {one}\n" for one in made.guarantees)
    return 0


def _asked(arguments: Namespace) -> Asked:
    """What a finding's file says, and in its place what stands on the command line. Raises ConfigError."""
    from fedimg.coordination import finding_file
    from fedimg.coordination.bundling import Asked

    said = None if arguments.finding is None else finding_file.read(arguments.finding)
    name = arguments.name or (said.name if said else None)
    if name is None:
        raise ConfigError("--finding NAME, or --name", "neither", "say what the model finds")
    own = said or finding_file.FindingFile(name, f"{name}, learnt by a federation")
    modalities, parts = arguments.modality, arguments.body_part
    least = own.least_images if arguments.least_images is None else arguments.least_images
    return Asked(
        name=name,
        version=arguments.release,
        description=own.description if arguments.description is None else arguments.description,
        kind=arguments.kind or own.kind,
        findings=own.coded(),
        modalities=own.modalities if modalities is None else tuple(modalities),
        body_parts=own.body_parts if parts is None else tuple(parts),
        least_images=least,
        target=own.sensitivity if arguments.sensitivity is None else arguments.sensitivity,
        confidence=arguments.confidence,
    )


def _verify(arguments: Namespace) -> int:
    from fedimg.bundle import open_sealed
    from fedimg.bundle.running import network_of
    from fedimg.crypto.public_key import public_key

    opened = open_sealed(arguments.bundle, [public_key(text) for text in arguments.key])
    said, _ = network_of(opened)
    result = {
        "verdict": "pass",
        "digest": opened.digest,
        "signer": opened.signer.hex(),
        "name": said.name,
        "version": said.version,
        "run": said.run,
        "kind": said.kind,
        "findings": [one.to_json() for one in said.findings],
        "task": said.task,
        "classes": list(said.classes),
        "modalities": list(said.modalities),
        "body_parts": list(said.body_parts),
        "least_images": said.least_images,
        "temperature": said.temperature,
        "threshold": said.threshold,
    }
    if arguments.json:
        print_json(result)
    else:
        sys.stdout.writelines(f"{name:12} {value}\n" for name, value in result.items())
    return 0


def _signing_key(file: Path) -> SigningKey:
    from fedimg.crypto.keys import SigningKey

    if not file.is_file():
        raise DataError("--key FILE with a secret key", "no such file", "make one: fedimg bundle keygen FILE")
    return SigningKey.load(file)
