"""`fedimg site backup` and `restore`: what a site cannot make again, sealed for one key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, say


def add_to(backup: Any, restore: Any) -> None:
    """The arguments of both."""
    backup.add_argument("home", type=Path, help="a site's home folder; it may be taking part in runs")
    backup.add_argument("file", type=Path, help="file to write; refused if there is one")
    backup.add_argument(
        "--for",
        dest="recipient",
        type=Path,
        required=True,
        metavar="PUBLICKEYFILE",
        help="the .pub file of `fedimg share keygen`; the key itself belongs on another machine",
    )
    backup.add_argument(
        "--released", action="store_true", help="released files too; without them inputs are taken in again"
    )
    restore.add_argument("file", type=Path, help="what `fedimg site backup` wrote")
    restore.add_argument(
        "home", type=Path, help="the home to make; refused if there is anything of that name"
    )
    restore.add_argument("--key", type=Path, required=True, metavar="KEYFILE", help="that it was made for")
    restore.add_argument(
        "--from", dest="sender", metavar="HEXKEY", help="the site's public key: another's is refused"
    )
    for action in (backup, restore):
        action.add_argument("--json", action="store_true", help="one JSON object on stdout")


def backup(arguments: Any) -> int:
    from fedimg.archive import read_public_key
    from fedimg.federation.spoken import spoken_code
    from fedimg.home import SiteHome
    from sites.backup import back_up

    home, recipient = SiteHome.open(arguments.home), read_public_key(arguments.recipient)
    made = back_up(home, arguments.file, recipient, released=arguments.released)
    told = {
        "file": str(arguments.file),
        "files": made.written.files,
        "bytes": made.written.bytes,
        "code": spoken_code("fedimg recipient", recipient),
        "ledger_head": made.head,
        "released": arguments.released,
        "first_home": str(home.first or home.root),
    }
    if arguments.json:
        print_json(told)
        return 0
    sys.stdout.write(
        f"{arguments.file}: {told['files']} files, {told['bytes']} bytes, for the key with the code {told['code']}\n"
    )
    if home.first is not None:
        say(f"keys and ledger are not in it: they are the first home's, {home.first}; back that up as well")
    else:
        say(f"ledger as of {made.head}; what is spent from now on is not in this backup")
    return 0


def restore(arguments: Any) -> int:
    from dataclasses import asdict

    from fedimg.crypto.sealing import SealingKey
    from sites.restoring import restore as restored

    key = SealingKey.load(arguments.key)
    found = restored(arguments.file, arguments.home, key, arguments.sender)
    if arguments.json:
        print_json(asdict(found) | {"ledger": str(found.ledger) if found.ledger else None})
        return 0
    sys.stdout.write(
        f"home {arguments.home}: {found.files} files, as of {found.made} UTC\npublic key {found.key}\n"
        f"closed for this home: {', '.join(found.closed) or 'no run that the backup knew'}; and every other run that was "
        "asked for before now\na person agrees to each further run (`fedimg site approve`)\n"
    )
    if found.ledger is not None:
        sys.stdout.write(
            "the ledger is older than what was spent since, and is not used until it is recovered:\n"
            f"  fedimg ledger recover {arguments.home} --backup {found.ledger} --head NUMBER-DIGEST --reserved NUMBER\n"
            "with both numbers from the coordinator's ledger-heads.json. Only where no coordinator ever had one, the\n"
            f"backup's own: {found.head}\n"
        )
    return 0
