"""`fedimg share`: released studies for one named recipient, sealed for their key and signed by the site."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import print_json, print_table, say, verb_parser
from fedimg.errors import ConfigError

if TYPE_CHECKING:
    from fedimg.home import ReleaseFolder

_ABOUT = (
    "Give released studies to one recipient. What was released is still patients' data: whoever is given it needs the "
    "same right to it, and the same care, as before. docs/sharing.md goes through it."
)
_STILL = (
    "these are patients' data still: pseudonymous, not anonymous. A contract with the recipient, and the site's own "
    "permission to hand them on, are yours to have"
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("share", _ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="keygen|seal|open|list")
    about = "recipient: make a key; the site gets FILE.pub, and hears its code by telephone"
    keygen = actions.add_parser("keygen", help=about, description=about)
    keygen.add_argument("file", type=Path, help="file to write, mode 0600; refused if there is one")
    _seal_arguments(actions)
    about = "recipient: check who sent a file, and write what is in it"
    opening = actions.add_parser("open", help=about, description=about)
    opening.add_argument("file", type=Path, help="what `fedimg share seal` wrote")
    opening.add_argument("key", type=Path, metavar="KEYFILE", help="what `fedimg share keygen` wrote")
    opening.add_argument("out", type=Path, help="folder to make; refused if there is anything of that name")
    opening.add_argument(
        "--from", dest="sender", metavar="HEXKEY", help="the site's public key: another's is refused"
    )
    about = "site: whom files were shared with, from the signed log; exit code 4 if it does not verify"
    listing = actions.add_parser("list", help=about, description=about)
    listing.add_argument("folder", type=Path, metavar="HOME_OR_OUT")
    for action in (keygen, opening, listing):
        action.add_argument("--json", action="store_true", help="JSON on stdout")
    arguments = parser.parse_args(argv)
    done: int = {"keygen": _keygen, "seal": _seal, "open": _open, "list": _list}[arguments.action](arguments)
    return done


def _seal_arguments(actions: Any) -> None:
    about = "site: released files with a receipt that holds, for one recipient"
    seal = actions.add_parser("seal", help=about, description=f"{about}; {_STILL}.")
    seal.add_argument(
        "folder", type=Path, metavar="HOME_OR_OUT", help="a home, or an output of `deidentify run`"
    )
    seal.add_argument("file", type=Path, metavar="OUTFILE", help="file to write; refused if there is one")
    seal.add_argument(
        "--to", required=True, metavar="NAME=PUBLICKEYFILE", help="who, and the .pub file of their key"
    )
    seal.add_argument(
        "--study", nargs="+", default=[], metavar="UID", help="pseudonymous study UIDs; else all"
    )
    seal.add_argument("--policy", type=Path, metavar="FILE", help="of an output: the site's policy.yaml")
    seal.add_argument("--site-key", type=Path, metavar="FILE", help="of an output: the key it was made with")
    seal.add_argument("--json", action="store_true", help="one JSON object on stdout")


def _keygen(arguments: Any) -> int:
    from fedimg.archive import written_public_key
    from fedimg.crypto.sealing import SealingKey
    from fedimg.durable import fresh_file
    from fedimg.federation.spoken import spoken_code

    public_file = arguments.file.with_name(f"{arguments.file.name}.pub")
    with fresh_file(public_file) as file:
        key = SealingKey.create(arguments.file)
        public = written_public_key(key.public_bytes)
        file.write(f"{public}\n".encode())
    public_file.chmod(0o644)
    code = spoken_code("fedimg recipient", key.public_bytes)
    if arguments.json:
        print_json(
            {"file": str(arguments.file), "public_file": str(public_file), "key": public, "code": code}
        )
        return 0
    sys.stdout.write(f"{public}\ncode {code}\n")
    say(f"{arguments.file} opens what is sealed for it: keep it, and hand on {public_file} alone")
    return 0


def _seal(arguments: Any) -> int:
    from fedimg.archive import read_public_key
    from fedimg.federation.spoken import spoken_code
    from fedimg.privacy.policy import SitePolicy
    from sites.sharing import Recipient, seal

    name, equals, file = arguments.to.partition("=")
    if not equals:
        raise ConfigError(
            "--to NAME=PUBLICKEYFILE", "no =", "name the recipient and the file of their public key"
        )
    recipient = Recipient(name, read_public_key(Path(file)))
    folder, policy = _folder(arguments)
    written = seal(folder, SitePolicy.load(policy), arguments.file, recipient, arguments.study)
    code = spoken_code("fedimg recipient", recipient.key)
    sender = folder.signing_key.public_bytes.hex()
    told = {
        "file": str(arguments.file),
        "files": written.files,
        "bytes": written.bytes,
        "to": name,
        "code": code,
    }
    if arguments.json:
        print_json({**told, "sender": sender})
    else:
        sys.stdout.write(
            f"{arguments.file}: {written.files} files, {written.bytes} bytes, for {name}, whose key has the code {code}\n"
            f"signed by {sender}, which the recipient gives with --from\n"
        )
    say(_STILL)
    return 0


def _folder(arguments: Any) -> tuple[ReleaseFolder, Path]:
    """The folder, and the policy that is held against its sharing."""
    from fedimg.crypto.keys import SiteKey
    from fedimg.home import OutCard, OutFolder, SiteHome

    if not OutCard.exists(arguments.folder):
        if arguments.policy is not None or arguments.site_key is not None:
            raise ConfigError(
                "a home with its own policy and key", "--policy or --site-key", "leave them out"
            )
        home = SiteHome.open(arguments.folder)
        return home, home.policy
    if arguments.policy is None or arguments.site_key is None:
        raise ConfigError(
            "--policy and --site-key with an output folder",
            "not both",
            "an output has neither: name the site's",
        )
    return OutFolder.open(arguments.folder, SiteKey.load(arguments.site_key)), arguments.policy


def _open(arguments: Any) -> int:
    from fedimg.crypto.sealing import SealingKey
    from sites.sharing import unseal

    found = unseal(arguments.file, arguments.out, SealingKey.load(arguments.key), arguments.sender)
    checked = arguments.sender is not None
    if arguments.json:
        print_json(
            {"out": str(arguments.out), "files": found.files, "sender": found.sender, "checked": checked}
        )
    else:
        whose = "the key that you named" if checked else "not compared with any: ask the site, or pass --from"
        sys.stdout.write(f"{arguments.out}: {found.files} files\nsigned by {found.sender} ({whose})\n")
    say(_STILL)
    return 0


def _list(arguments: Any) -> int:
    from fedimg.home import OutCard, SiteHome
    from sites.sharing import shared

    if OutCard.exists(arguments.folder):
        key = bytes.fromhex(OutCard.read(arguments.folder).public_key)
    else:
        key = SiteHome.open(arguments.folder).signing_key.public_bytes
    lines = list(shared(arguments.folder, key))
    if arguments.json:
        print_json(lines)
    else:
        print_table(lines, ("time", "recipient", "key", "files", "studies"))
    return 0
