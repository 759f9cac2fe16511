"""The checks of `fedimg doctor` at a site: its home from the files' modes to a step of training."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fedimg import checkup
from fedimg.checkup import Checkup, Looked, Seen, fail, warn
from fedimg.crypto.certificates import expiry, public_pem_of, read_node_certificate, utc_now
from fedimg.crypto.link_keys import NodeKey
from fedimg.durable import is_held
from fedimg.errors import DataError, PolicyRefused
from fedimg.federation import Manifest
from fedimg.home import SiteHome
from fedimg.privacy.ledger import Statement
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.stated import statement_of
from fedimg.record import code
from fedimg.secagg.roster import Roster
from fedimg.shared_site import FirstHome
from sites.dialling import dial_server
from sites.enrolment import Enrolment
from sites.offers import Offers
from sites.rehearsing import exact, rehearsed
from sites.settings import SiteSettings

LITTLE_BUDGET = 0.2
_NOTHING = 1e-6  # of ε_max: what sums of floats leave of nothing
_ACCEPT = "ask for the latest bundle, then fedimg provision accept HOME BUNDLE"
_RENEW = "have the coordinator `fedimg provision renew` this site, then accept its new bundle"


@dataclass(frozen=True, slots=True)
class Pinned:
    """A membership: the pinned federation, and this site's own name in it."""

    enrolment: Enrolment
    manifest: Manifest
    name: str

    @property
    def certificate(self) -> str:
        """This site's own, PEM."""
        return self.manifest.members[self.name].certificate


def examine(checks: Checkup, path: Path, *, dial: bool, now: datetime | None = None) -> None:
    """Make every check of a site; `path` is its process's settings, or its home. `dial`: of its server too."""
    at = now or utc_now()
    settings = Looked("settings", SiteSettings(str(path)))
    if path.is_file():
        settings = checks.look("settings", lambda: Seen("they parse", SiteSettings.load(path)))
    root = Looked(settings.check, Path(settings.value.home) if settings.value else None)
    checks.after(root, "permissions", _permissions)
    home = checks.after(root, "home", _home)
    checks.after(home, "disk", lambda found: checkup.space(found.root))
    policy = checks.after(home, "policy", _policy)
    statement = checks.after(home, "ledger", _ledger)
    checks.after(statement, "budget", _budget)
    profiles = policy.value.deid_profiles if policy.value else (None,)
    records = checks.after(home, "receipts", lambda found: checkup.receipts(found, profiles))
    if home.value is not None:
        own = home.value
        checks.after(records, "data", lambda found: checkup.readable(own, found))
    else:
        checks.skip("data", "it needs home")
    checks.after(settings, "rehearsal", lambda found: rehearsed(found.device, found.threads))
    checks.look("mechanism", exact)
    checks.after(home, "process", _process)
    checks.after(policy, "approvals", lambda found: _approvals(home, found))
    pinned = checks.after(home, "federation", _federation)
    checks.after(pinned, "certificate", lambda found: _certificate(found, at))
    checks.after(pinned, "node key", _node_key)
    remedy = "have the coordinator rotate its authority, then accept its new bundle"
    checks.after(
        pinned, "authority", lambda found: checkup.ends(expiry(found.manifest.authority), at, remedy)
    )
    if dial:
        address = settings.value.address if settings.value else None
        dial_server(checks, pinned, address)


def _permissions(root: Path) -> Seen[None]:
    folder = root / "federation"
    roots = {root, *_first(root)}
    secrets = [path / name for path in sorted(roots) for name in ("site.key", "signing.key", "ledger.sqlite")]
    secrets += [path / f"ledger.sqlite{end}" for path in sorted(roots) for end in ("-wal", "-shm")]
    secrets += [root / "ledger-keys.jsonl", folder / "node.key", *sorted(folder.glob("node-*.key"))]
    return checkup.permissions([*sorted(roots), folder], secrets)


def _first(root: Path) -> Iterator[Path]:
    """The site's first home, where this one refers to it; what does not parse is told by `home`."""
    try:
        named = FirstHome.read(json.loads((root / "home.json").read_bytes()))
    except (OSError, ValueError, TypeError, DataError):
        return
    if named is not None:
        yield Path(named.home)


def _home(root: Path) -> Seen[SiteHome]:
    home = SiteHome.open(root)
    if home.simulated:
        remedy = "make one of a hospital with `fedimg site init`"
        return warn("it opens; a virtual site's, whose data are nobody's", remedy, home)
    return Seen("it opens", home)


def _policy(home: SiteHome) -> Seen[SitePolicy]:
    policy = SitePolicy.load(home.policy)
    if policy.declared_patients < policy.min_patients:
        remedy = "correct declared_patients or min_patients: as they are, every run is refused"
        return fail("declared_patients below min_patients", remedy, policy)
    return Seen(f"it parses; a run may cost ε ≤ {policy.max_epsilon:g}", policy)


def _ledger(home: SiteHome) -> Seen[Statement]:
    statement = statement_of(home.ledger, home.signing_key)
    return Seen(f"it verifies, up to entry {statement.head.sequence}", statement)


def _budget(statement: Statement) -> Seen[None]:
    most, left = statement.terms.epsilon_max, statement.epsilon_left
    found = f"ε {left:.4g} left of {most:g}"
    if left <= _NOTHING * most or statement.remaining <= 0:
        return fail(found, "no private run takes this site any more: its ledger's promise is used up")
    if left < LITTLE_BUDGET * most:
        return warn(found, "ask for runs of a smaller ε: what is left is for good")
    return Seen(found)


def _process(home: SiteHome) -> Seen[None]:
    held = is_held(home.root / "attend.lock")
    return Seen("runs" if held else "does not run; `fedimg site start --config FILE` starts it")


def _approvals(home: Looked[SiteHome], policy: SitePolicy) -> Seen[None]:
    if home.value is None:  # a policy is read from a home
        raise DataError("a home", "none", "name a site's home")
    offers, digest = Offers(home.value), code.installed()["digest"]
    waiting = [
        one.run
        for one in offers.all()
        if one.state != "ended" and not offers.agreed(one.run, one.terms, policy, digest)
    ]
    if waiting:
        return warn(f"runs that wait for a person here: {', '.join(waiting)}", "fedimg site approve HOME")
    return Seen("no run waits for a person here")


def _federation(home: SiteHome) -> Seen[Pinned]:
    enrolment = Enrolment(home)
    signed, asked = enrolment.pinned(), enrolment.requested()
    if signed is None and asked is None:
        return warn("a site that has not asked", "fedimg provision csr HOME --name NAME")
    if signed is None or asked is None:
        return warn("a site that asked, and has accepted no bundle yet", _ACCEPT)
    manifest = signed.manifest
    member = manifest.members.get(asked.name)
    if member is None or member.identity != home.signing_key.public_bytes:
        return fail("a pinned bundle in which this site is no member", _ACCEPT)
    pinned = Pinned(enrolment, manifest, asked.name)
    if not _is_whole(pinned):
        return fail("what was pinned beside the bundle is another's", _ACCEPT, pinned)
    turning = "; its authority is changing" if manifest.former else ""
    return Seen(f"member {asked.name}, bundle number {manifest.number}{turning}", pinned)


def _is_whole(pinned: Pinned) -> bool:
    """Whether roots and roster are those of the bundle: an accepting may have been cut short."""
    manifest, enrolment = pinned.manifest, pinned.enrolment
    try:
        roots, roster = enrolment.roots.read_text("utf-8"), Roster.load(enrolment.home.roster)
    except (OSError, ValueError, PolicyRefused):
        return False
    members = manifest.members
    return (
        roots == manifest.authority + manifest.former
        and roster.identities == {name: one.identity for name, one in members.items()}
        and roster.weights == {name: float(one.weight) for name, one in members.items()}
    )


def _certificate(pinned: Pinned, now: datetime) -> Seen[None]:
    seen = checkup.ends(expiry(pinned.certificate), now, _RENEW)
    if seen.state is not checkup.State.FAIL:
        read_node_certificate(pinned.certificate, pinned.manifest.authority, now)
    return seen


def _node_key(pinned: Pinned) -> Seen[None]:
    key = NodeKey.load(pinned.enrolment.node_key)
    if key.public_pem != public_pem_of(pinned.certificate):
        return fail("another key than the certificate's", _ACCEPT)
    return Seen("it is the certificate's")
