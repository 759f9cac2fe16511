"""`keygen` and `reidentify`: what is done with the site key itself."""

from __future__ import annotations

import sys
from typing import Any

from fedimg.cli.console import print_json, say
from fedimg.cli.deidentify import folders
from fedimg.crypto.keys import SiteKey


def keygen(arguments: Any) -> int:
    SiteKey.create(arguments.file)
    say(
        "keep this file: without it the same patient gets another pseudonym; with it pseudonyms can be recomputed"
    )
    return 0


def reidentify(arguments: Any) -> int:
    """Patients go to stdout, for whoever has custody; exit code 4 where none was found."""
    from fedimg.intake.reidentify import reidentify as find

    config = folders.configuration(arguments.overrides)
    folder = folders.opened(arguments.out, arguments.overrides, config, create=False)
    found = find(folder, config.project, arguments.pseudonym, arguments.candidates, arguments.custodian)
    if arguments.json:
        print_json([{"patient_id": one.patient_id, "issuer": one.issuer} for one in found])
    else:
        sys.stdout.writelines(f"{one.patient_id}\t{one.issuer}\n" for one in found)
    if not found:
        say("none of the candidates has this pseudonym under this key and project")
    return 0 if found else 4
