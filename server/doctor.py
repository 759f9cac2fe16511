"""The checks of `fedimg doctor` at the coordinator: its folder, its certificates, its runs."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from datetime import datetime
from pathlib import Path

from fedimg import checkup
from fedimg.checkup import Checkup, Looked, Seen, State, fail, warn
from fedimg.crypto.certificates import expiry, issued_by, utc_now
from fedimg.durable import is_held
from fedimg.federation import Manifest
from fedimg.federation.manifest import split_address
from fedimg.home import SiteHome
from server.federation_folder import PUBLIC, FederationFolder
from server.model_registry import FILE as MODELS
from server.registry import FILE, Registry, ShownRegistry, Stage

_BUNDLE = "fedimg provision bundle FOLDER, and hand it to all sites"
_TO_TELL = (Stage.WAITING, Stage.FAILED)


def examine(checks: Checkup, root: Path, *, now: datetime | None = None) -> None:
    """Make every check of a coordinator's folder."""
    at = now or utc_now()
    checks.look("permissions", lambda: _permissions(root))
    folder = checks.look("folder", lambda: _folder(root))
    checks.look("disk", lambda: checkup.space(root))
    bundle = checks.after(folder, "bundle", _bundle)
    checks.after(folder, "tls", lambda found: _tls(found, at))
    remedy = "fedimg provision rotate FOLDER"
    checks.after(folder, "authority", lambda found: checkup.ends(expiry(found.certificate), at, remedy))
    checks.after(bundle, "members", lambda found: _members(found, at))
    checks.after(folder, "port", _port)
    registry = checks.look("registry", lambda: _registry(root))
    try:
        if registry.value is None and not (root / FILE).exists():
            for check in ("runs", "ends"):
                checks.skip(check, "no run was asked for yet")
        else:
            checks.after(registry, "runs", _runs)
            checks.after(registry, "ends", _owed)
    finally:
        if registry.value is not None:
            registry.value.close()
    _public(checks, root)


def _permissions(root: Path) -> Seen[None]:
    kinds = ("authority-*.key", "tls-*.key", "coordinator.key", f"{FILE}*", f"{MODELS}*")
    secrets = [path for kind in kinds for path in sorted(root.glob(kind))]
    return checkup.permissions([root, root / "members", root / PUBLIC], secrets)


def _folder(root: Path) -> Seen[FederationFolder]:
    folder = FederationFolder(root)
    state = folder.state()
    turning = "; its authority is changing: `rotate --finish` ends it" if state.former else ""
    return Seen(f"it opens; sites dial {state.address}{turning}", folder)


def _bundle(folder: FederationFolder) -> Seen[Manifest]:
    last = folder.last()
    if last is None:
        return fail("none yet: the server does not start", _BUNDLE)
    manifest = last.manifest
    certified = {name: one.certificate for name, one in manifest.members.items()}
    signed = {name: folder.member(name)[1] for name in folder.members()}
    if (certified, manifest.authority) != (signed, folder.certificate):
        return warn(
            f"number {manifest.number}, from before the last change of members or keys", _BUNDLE, manifest
        )
    return Seen(f"number {manifest.number}, of {len(certified)} members", manifest)


def _tls(folder: FederationFolder, now: datetime) -> Seen[None]:
    key, certificate = folder.tls
    remedy = "fedimg provision renew FOLDER, then start the server again"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError):
        return fail("a certificate and a key that do not belong together", remedy)
    if not issued_by(folder.tls_certificate, folder.certificate):
        if folder.state().former:
            return warn("of the former authority", f"once all sites have the new bundle: {remedy}")
        return fail("of another authority than the folder's", remedy)
    return checkup.ends(expiry(folder.tls_certificate), now, remedy)


def _members(manifest: Manifest, now: datetime) -> Seen[None]:
    """The worst of their certificates decides."""
    remedy = "fedimg provision renew FOLDER NAME, then a new bundle"
    seen = {
        name: checkup.ends(expiry(one.certificate), now, remedy)
        for name, one in sorted(manifest.members.items())
    }
    for state in (State.FAIL, State.WARN):
        found = [f"{name} {one.found}" for name, one in seen.items() if one.state is state]
        if found:
            return Seen("; ".join(found), None, state, remedy)
    return Seen("their certificates are valid") if seen else warn("none yet", "fedimg provision sign")


def _port(folder: FederationFolder) -> Seen[None]:
    if is_held(folder.root / "server.lock"):
        return Seen("a server runs")
    host, port = split_address(folder.state().address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            return fail(os.strerror(error.errno), "end what listens there, or take --listen and another port")
        remedy = (
            "start it with --listen HOST:PORT, an address of this machine that sites' connections come to"
        )
        return warn(f"no address of this machine: {host}", remedy)
    return Seen("free; no server runs, `fedimg server start FOLDER` starts it")


def _registry(root: Path) -> Seen[Registry]:
    if not (root / FILE).exists():
        return Seen("none; no run was asked for yet")
    return Seen("it opens, and its pages are sound", ShownRegistry(root))


def _runs(registry: Registry) -> Seen[None]:
    told = [f"{one.run} {one.stage}: {one.reason}" for one in registry.all() if one.stage in _TO_TELL]
    if told:
        return warn("; ".join(told), "mend what they name; `fedimg runs resume` takes a failed one up again")
    return Seen("none waits, none has failed")


def _owed(registry: Registry) -> Seen[None]:
    owed = [f"{site} of {run}" for run, site in registry.owed()]
    if owed:
        return warn(f"still to be told of a run's end: {', '.join(owed)}", "they are told once they connect")
    return Seen("every site was told of its runs' ends")


def _public(checks: Checkup, root: Path) -> None:
    if not (root / PUBLIC / "home.json").exists():
        checks.look("public set", lambda: Seen("none; models are measured at the sites only"))
        return
    home: Looked[SiteHome] = checks.look("public set", lambda: Seen("it opens", SiteHome.open(root / PUBLIC)))
    records = checks.after(home, "public receipts", lambda found: checkup.receipts(found, (None,)))
    if home.value is not None:
        own = home.value
        checks.after(records, "public data", lambda found: checkup.readable(own, found))
    else:
        checks.skip("public data", "it needs public set")
