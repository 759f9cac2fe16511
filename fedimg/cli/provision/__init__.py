"""`fedimg provision`: who is in a federation, on both sides, and every key and certificate that it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import add_action, verb_parser
from fedimg.errors import DataError

if TYPE_CHECKING:
    from server.membership import Federation

_ABOUT = (
    "Make a federation and join one. The coordinator's folder holds the authority; a site makes its keys in its own "
    "home, and none of them leaves it. Two codes are compared by telephone: a site's, when it is signed, and that of "
    "all members, when a site accepts them. docs/provisioning.md goes through it."
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("provision", _ABOUT)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _coordinators(actions)
    _sites(actions)
    show = add_action(
        actions, "show", "what a federation's folder, a site's home, a bundle or a request holds"
    )
    show.add_argument("path", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args(argv)
    done: int = globals()[f"_{arguments.action}"](arguments)
    return done


def _coordinators(actions: Any) -> None:
    init = add_action(actions, "init", "coordinator: make a federation's folder, with its authority")
    init.add_argument("folder", type=Path, help="a folder that is new or empty")
    init.add_argument("--name", required=True, help="of the federation, for people")
    init.add_argument("--address", required=True, metavar="HOST:PORT", help="what sites dial")
    init.add_argument(
        "--also", action="append", default=[], metavar="HOST", help="another name of the server"
    )
    sign = add_action(actions, "sign", "coordinator: make a site a member, or take its new key")
    sign.add_argument("folder", type=Path)
    sign.add_argument("request", type=Path, help="the site's request.json")
    sign.add_argument("--code", help="as the site's operator reads it out; a renewal needs none")
    bundle = add_action(
        actions, "bundle", "coordinator: write the signed list of members that sites are given"
    )
    bundle.add_argument("folder", type=Path)
    bundle.add_argument("--out", type=Path, help="a copy; the folder has it as federation.bundle")
    bundle.add_argument(
        "--above",
        type=int,
        default=0,
        metavar="N",
        help="a number that a site shows, after this folder was restored from a backup",
    )
    renew = add_action(
        actions, "renew", "coordinator: new certificates for server and sites, on the keys sites have"
    )
    renew.add_argument("folder", type=Path)
    renew.add_argument("sites", nargs="*", metavar="NAME", help="all if none is named")
    revoke = add_action(actions, "revoke", "coordinator: end a site's membership, for good")
    revoke.add_argument("folder", type=Path)
    revoke.add_argument("site", metavar="NAME")
    rotate = add_action(actions, "rotate", "coordinator: a new authority, for which the old one vouches")
    rotate.add_argument("folder", type=Path)
    rotate.add_argument("--finish", action="store_true", help="all sites have it: delete the old one's key")
    for action in (init, sign, bundle, renew, rotate):
        action.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="encrypts the authority's key; mode 0600"
        )


def _sites(actions: Any) -> None:
    csr = add_action(actions, "csr", "site: make a node key and ask to be a member, or for a new key")
    csr.add_argument("home", type=Path, help="a site's home folder")
    csr.add_argument("--name", required=True, help="this site's name in the federation")
    csr.add_argument(
        "--out", type=Path, help="a copy of the request; the home has it as federation/request.json"
    )
    accept = add_action(actions, "accept", "site: pin a federation's members, or a later state of them")
    accept.add_argument("home", type=Path, help="a site's home folder")
    accept.add_argument("bundle", type=Path)
    accept.add_argument("--code", help="of all members, as they say it")
    accept.add_argument(
        "--heard",
        nargs="+",
        default=[],
        metavar="NAME",
        help="members that said it on a call; who was heard before need not be again",
    )


def _init(arguments: Any) -> int:
    from server.membership import Federation

    passphrase = _passphrase(arguments)
    made = Federation.create(arguments.folder, arguments.name, arguments.address, arguments.also, passphrase)
    sealed = "encrypted" if passphrase else "not encrypted: keep this folder on a disk that is"
    sys.stdout.write(
        f"federation {made.state().id} at {arguments.folder}, sites dial {arguments.address}\n"
        f"the authority's key is {sealed}; back the folder up\n"
    )
    return 0


def _sign(arguments: Any) -> int:
    from fedimg.cli.provision.show import read_file

    request = _federation(arguments).sign(read_file(arguments.request), arguments.code)
    sys.stdout.write(
        f"{request.name} is a member, of weight {request.weight}; write a new bundle for all sites\n"
    )
    return 0


def _bundle(arguments: Any) -> int:
    from fedimg.cli.provision.show import print_members
    from fedimg.durable import write_durably

    signed = _federation(arguments).bundle(above=arguments.above)
    if arguments.out is not None:
        write_durably(arguments.out, signed.to_bytes(), 0o644)
    print_members(signed.manifest)
    sys.stdout.write(
        f"{arguments.out or arguments.folder / 'federation.bundle'}: number {signed.manifest.number}; "
        "before accepting, every operator hears the other members say the code\n"
    )
    return 0


def _renew(arguments: Any) -> int:
    names = _federation(arguments).renew(arguments.sites)
    sys.stdout.write(
        f"new certificates for the server and {', '.join(names) or 'no site'}; restart the server, "
        "and write a new bundle for all sites\n"
    )
    return 0


def _revoke(arguments: Any) -> int:
    from server.membership import Federation

    Federation(arguments.folder).revoke(arguments.site)
    sys.stdout.write(
        f"{arguments.site} is no member any more, and may not come back under its identity; restart the server, and "
        "write a new bundle for all sites, who compare its code\n"
    )
    return 0


def _rotate(arguments: Any) -> int:
    federation = _federation(arguments)
    if arguments.finish:
        federation.finish_rotation()
        sys.stdout.write("the former authority's key is deleted; write a new bundle for all sites\n")
    else:
        federation.rotate()
        sys.stdout.write(
            "a new authority; write a bundle and have all sites accept it with its code, then `renew`, restart the "
            "server, and `rotate --finish`\n"
        )
    return 0


def _csr(arguments: Any) -> int:
    from fedimg.durable import write_durably
    from fedimg.home import SiteHome
    from sites.enrolment import Enrolment

    enrolment = Enrolment(SiteHome.open(arguments.home))
    request = enrolment.request(arguments.name)
    written = enrolment.folder / "request.json"
    if arguments.out is not None:
        write_durably(arguments.out, written.read_bytes(), 0o644)
    sys.stdout.write(
        f"{arguments.out or written}: hand it to the coordinator; nothing in it is secret\n"
        f"code {request.code}\nread it out when the coordinator calls, and to nobody who writes\n"
    )
    return 0


def _accept(arguments: Any) -> int:
    from fedimg.cli.provision.show import print_members, read_file
    from fedimg.home import SiteHome
    from sites.enrolment import Enrolment

    accepted = Enrolment(SiteHome.open(arguments.home)).accept(
        read_file(arguments.bundle), arguments.code, arguments.heard
    )
    print_members(accepted.manifest)
    changes = [*(f"{name} came" for name in accepted.came), *(f"{name} went" for name in accepted.went)]
    sys.stdout.write(
        f"pinned: number {accepted.manifest.number}" + (f"; {', '.join(changes)}" if changes else "") + "\n"
    )
    return 0


def _show(arguments: Any) -> int:
    from fedimg.cli.provision.show import show

    return show(arguments.path, as_json=arguments.json)


def _federation(arguments: Any) -> Federation:
    from server.membership import Federation

    return Federation(arguments.folder, _passphrase(arguments))


def _passphrase(arguments: Any) -> bytes | None:
    """From a file, never from argv: processes see each other's arguments."""
    from fedimg.crypto.keys import read_private

    if arguments.passphrase_file is None:
        return None
    found = read_private(arguments.passphrase_file, "name a file of mode 0600").strip()
    if not found:
        raise DataError("a passphrase", "an empty file", "write one into it")
    return found
