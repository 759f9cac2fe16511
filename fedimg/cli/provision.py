"""`fedimg provision`: who is in a federation, on both sides, and every key and certificate that it takes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import Arguments, print_json, print_table, verb_parser
from fedimg.errors import DataError

if TYPE_CHECKING:
    from fedimg.federation import Manifest
    from server.membership import Federation

_SOON_DAYS = 60
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
    show = _action(actions, "show", "what a federation's folder, a site's home, a bundle or a request holds")
    show.add_argument("path", type=Path)
    show.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args(argv)
    done: int = globals()[f"_{arguments.action}"](arguments)
    return done


def _coordinators(actions: Any) -> None:
    init = _action(actions, "init", "coordinator: make a federation's folder, with its authority")
    init.add_argument("folder", type=Path, help="a folder that is new or empty")
    init.add_argument("--name", required=True, help="of the federation, for people")
    init.add_argument("--address", required=True, metavar="HOST:PORT", help="what sites dial")
    init.add_argument(
        "--also", action="append", default=[], metavar="HOST", help="another name of the server"
    )
    sign = _action(actions, "sign", "coordinator: make a site a member, or take its new key")
    sign.add_argument("folder", type=Path)
    sign.add_argument("request", type=Path, help="the site's request.json")
    sign.add_argument("--code", help="as the site's operator reads it out; a renewal needs none")
    bundle = _action(actions, "bundle", "coordinator: write the signed list of members that sites are given")
    bundle.add_argument("folder", type=Path)
    bundle.add_argument("--out", type=Path, help="a copy; the folder has it as federation.bundle")
    renew = _action(
        actions, "renew", "coordinator: new certificates for server and sites, on the keys sites have"
    )
    renew.add_argument("folder", type=Path)
    renew.add_argument("sites", nargs="*", metavar="NAME", help="all if none is named")
    revoke = _action(actions, "revoke", "coordinator: end a site's membership, for good")
    revoke.add_argument("folder", type=Path)
    revoke.add_argument("site", metavar="NAME")
    rotate = _action(actions, "rotate", "coordinator: a new authority, for which the old one vouches")
    rotate.add_argument("folder", type=Path)
    rotate.add_argument("--finish", action="store_true", help="all sites have it: delete the old one's key")
    for action in (init, sign, bundle, renew, rotate):
        action.add_argument(
            "--passphrase-file", type=Path, metavar="FILE", help="encrypts the authority's key; mode 0600"
        )


def _sites(actions: Any) -> None:
    csr = _action(actions, "csr", "site: make a node key and ask to be a member, or for a new key")
    csr.add_argument("home", type=Path, help="a site's home folder")
    csr.add_argument("--name", required=True, help="this site's name in the federation")
    csr.add_argument(
        "--out", type=Path, help="a copy of the request; the home has it as federation/request.json"
    )
    accept = _action(actions, "accept", "site: pin a federation's members, or a later state of them")
    accept.add_argument("home", type=Path, help="a site's home folder")
    accept.add_argument("bundle", type=Path)
    accept.add_argument("--code", help="of all members, as compared with the other sites' operators")


def _action(actions: Any, name: str, about: str) -> Arguments:
    parser: Arguments = actions.add_parser(name, help=about, description=about)
    return parser


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
    request = _federation(arguments).sign(_read(arguments.request), arguments.code)
    sys.stdout.write(
        f"{request.name} is a member, of weight {request.weight}; write a new bundle for all sites\n"
    )
    return 0


def _bundle(arguments: Any) -> int:
    from fedimg.durable import write_durably

    signed = _federation(arguments).bundle()
    if arguments.out is not None:
        write_durably(arguments.out, signed.to_bytes(), 0o644)
    _print_members(signed.manifest)
    sys.stdout.write(
        f"{arguments.out or arguments.folder / 'federation.bundle'}: number {signed.manifest.number}; "
        "every operator compares the code with two others before accepting\n"
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
            "a new authority; write a bundle and have all sites accept it (no code is needed), then `renew`, restart "
            "the server, and `rotate --finish`\n"
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
    from fedimg.home import SiteHome
    from sites.enrolment import Enrolment

    accepted = Enrolment(SiteHome.open(arguments.home)).accept(_read(arguments.bundle), arguments.code)
    _print_members(accepted.manifest)
    changes = [*(f"{name} came" for name in accepted.came), *(f"{name} went" for name in accepted.went)]
    sys.stdout.write(
        f"pinned: number {accepted.manifest.number}" + (f"; {', '.join(changes)}" if changes else "") + "\n"
    )
    return 0


def _show(arguments: Any) -> int:
    from fedimg.crypto.certificates import expiry, utc_now
    from fedimg.federation import SignedManifest, SiteRequest
    from fedimg.home import SiteHome
    from server.federation_folder import FederationFolder
    from sites.enrolment import Enrolment

    path, now = arguments.path, utc_now()
    tls = ""
    if path.is_dir() and (path / "federation.json").exists():
        folder = FederationFolder(path)
        signed, tls = folder.last(now), folder.tls_certificate
    elif path.is_dir():
        signed = Enrolment(SiteHome.open(path)).pinned(now)
    else:
        data = _read(path)
        if b'"request"' in data[:16]:
            return _show_request(SiteRequest.read(data), as_json=arguments.json)
        signed = SignedManifest.read(data, now)
    if signed is None:
        raise DataError("a bundle", "none yet", "coordinator: fedimg provision bundle; site: accept")
    manifest = signed.manifest
    found = {
        "federation": manifest.name,
        "id": manifest.id,
        "number": manifest.number,
        "issued": manifest.issued.isoformat(),
        "address": manifest.address,
        "code": manifest.roster_code,
        "authority_ends": expiry(manifest.authority).isoformat(),
        "rotation": bool(manifest.former),
        "members": _rows(manifest),
        "revoked": sorted(manifest.revoked),
    } | ({"tls_ends": expiry(tls).isoformat()} if tls else {})
    if arguments.json:
        print_json(found)
        return 0
    _print_members(manifest)
    ends = expiry(tls) if tls else expiry(manifest.authority)
    what = "the server's certificate" if tls else "the authority"
    sys.stdout.write(f"number {manifest.number}, {manifest.address}; {what} ends {ends:%Y-%m-%d}\n")
    return 0


def _show_request(request: Any, *, as_json: bool) -> int:
    found = {"name": request.name, "weight": request.weight, "identity": request.identity.hex()}
    if as_json:
        print_json(found)
    else:
        print_table([found], ("name", "weight", "identity"))
        sys.stdout.write("its code is read out by the site's operator, and typed at `sign`\n")
    return 0


def _rows(manifest: Manifest) -> list[dict[str, Any]]:
    from fedimg.crypto.certificates import utc_now

    soon, rows = utc_now(), []
    for name, certificate in sorted(manifest.certificates().items()):
        days = (certificate.not_after - soon).days
        rows.append(
            {
                "site": name,
                "weight": manifest.members[name].weight,
                "identity": certificate.identity.hex(),
                "certificate_ends": f"{certificate.not_after:%Y-%m-%d}",
                "remark": "ended" if days < 0 else f"ends in {days} days" if days < _SOON_DAYS else "",
            }
        )
    return rows


def _print_members(manifest: Manifest) -> None:
    rows = [row | {"identity": f"{row['identity'][:16]}…"} for row in _rows(manifest)]
    print_table(rows, ("site", "weight", "identity", "certificate_ends", "remark"))
    sys.stdout.write(f"code of all members: {manifest.roster_code}\n")


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


def _read(path: Path) -> bytes:
    from fedimg.canonical import MOST_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError("a file that can be read", error.strerror or "an error", "name another") from None
