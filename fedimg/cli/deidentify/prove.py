"""`verify` and `table`: what holds, and by which rules."""

from __future__ import annotations

import csv
import sys
from typing import Any

from fedimg.cli.console import print_json, print_table, say
from fedimg.errors import ConfigError, ReceiptError


def verify(arguments: Any) -> int:
    """Exit code 4 where something does not hold, 1 where all holds but the run was not finished."""
    from dataclasses import asdict

    from fedimg.intake.proof import prove, public_key_of

    key = public_key_of(arguments.key) if arguments.key is not None else None
    proof = prove(arguments.out, key)
    committed = _committed(arguments)
    if arguments.json:
        print_json({"verified": True, **asdict(proof), **committed})
    else:
        signer = "by the key given" if proof.key_given else "by the key that lies there itself"
        sys.stdout.write(
            f"{proof.receipts} receipts in an unbroken chain, signed {signer}; "
            f"{proof.released} released files, each as its receipt says\n"
        )
        if committed:
            sys.stdout.write(f"  run {arguments.run} was about the first {committed['committed']} of them\n")
        if proof.lookups:
            sys.stdout.write(
                f"  {proof.lookups} look-ups of patients behind pseudonyms, in a chain of their own\n"
            )
        if not proof.key_given:
            sys.stdout.write(
                f"  public key {proof.public_key}: compare it with the one noted when the folder was made, "
                "or give it as --key; whoever can write all of the folder can sign anew with another\n"
            )
        if not proof.anchored:
            sys.stdout.write(
                "  this machine has not seen these receipts before: whether they were put back to an earlier "
                "state cannot be seen here\n"
            )
    if proof.unfinished:
        say("a run is at work here, or was interrupted: not every input has a decision; run the same again")
        return 1
    return 0


def _committed(arguments: Any) -> dict[str, int]:
    """How many receipts a release record's commitment is to; empty where none is asked for."""
    if arguments.commitment is None and arguments.run is None:
        return {}
    if arguments.commitment is None or arguments.run is None:
        raise ConfigError(
            "--commitment and --run together", "one of them", "copy both from the release record"
        )
    from fedimg.home import SiteHome
    from fedimg.intake.commitment import opened

    count = opened(SiteHome.open(arguments.out), arguments.run, arguments.commitment)
    if count is None:
        remedy = "compare run and commitment with the release record; else the run was about other receipts"
        raise ReceiptError("a commitment to receipts of this home", "one to none of them", remedy)
    return {"committed": count}


def table(arguments: Any) -> int:
    from fedimg.dicom.profile import TableRow, load_profile

    rows = list(load_profile(arguments.profile).table())
    if arguments.json:
        print_json([row._asdict() for row in rows])
    elif arguments.csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(TableRow._fields)
        writer.writerows(rows)
    else:
        print_table([row._asdict() for row in rows], TableRow._fields)
    return 0
