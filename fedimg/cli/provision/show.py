"""`fedimg provision show`, and what other actions print of members."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fedimg.canonical import MOST_BYTES
from fedimg.cli.console import print_json, print_table
from fedimg.crypto.certificates import expiry, utc_now
from fedimg.errors import DataError
from fedimg.federation import Manifest, SignedManifest, SiteRequest
from fedimg.home import SiteHome
from server.federation_folder import FederationFolder
from sites.enrolment import Enrolment

_SOON_DAYS = 60


def show(path: Path, *, as_json: bool) -> int:
    """Exit code 0."""
    now = utc_now()
    tls = ""
    if path.is_dir() and (path / "federation.json").exists():
        folder = FederationFolder(path)
        signed, tls = folder.last(), folder.tls_certificate
    elif path.is_dir():
        enrolment = Enrolment(SiteHome.open(path))
        signed, asked = enrolment.pinned(), enrolment.requested()
        if signed is None and asked is not None:
            sys.stdout.write(
                f"asked to be {asked.name}, and is no member yet; the code of its request is {asked.code}\n"
            )
            return 0
    else:
        data = read_file(path)
        if b'"request"' in data[:16]:
            return _show_request(SiteRequest.read(data), as_json=as_json)
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
    if as_json:
        print_json(found)
        return 0
    print_members(manifest)
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
    now, rows = utc_now(), list[dict[str, Any]]()
    for name, certificate in sorted(manifest.certificates().items()):
        days = (certificate.not_after - now).days
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


def print_members(manifest: Manifest) -> None:
    rows = [row | {"identity": f"{row['identity'][:16]}…"} for row in _rows(manifest)]
    print_table(rows, ("site", "weight", "identity", "certificate_ends", "remark"))
    sys.stdout.write(f"code of all members: {manifest.roster_code}\n")


def read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError("a file that can be read", error.strerror or "an error", "name another") from None
