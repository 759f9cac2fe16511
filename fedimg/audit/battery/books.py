"""Group 6: the ledger records what was used, before it was used, and cannot be put back.

A crash is a copy of the disk taken between the charge and the release, and a process that goes on from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from fedimg.audit.battery.probes import NOISE, along, total
from fedimg.audit.battery.result import Check
from fedimg.audit.battery.statistics import exactly
from fedimg.audit.mechanism import Mechanism, NotCheckable, Session

KEPT = replace(NOISE, tensors=(12, 6, 6, 4), releases=8, retries=2)


def checks(mechanism: Mechanism) -> Iterator[Check]:
    for name, check in (
        ("recorded", _recorded),
        ("crash", _crash),
        ("redone", _redone),
        ("restart", _restart),
        ("stop", _stop),
        ("rollback", _rollback),
    ):
        yield _with_session(f"ledger.{name}", mechanism, check)
    yield _key(mechanism)


def _with_session(name: str, mechanism: Mechanism, check: Callable[[Session], tuple[bool, str]]) -> Check:
    units = tuple(along(u, KEPT.size, 1.0) for u in range(6))
    session = mechanism.open(KEPT, units, f"ledger-{name}")
    try:
        holds, detail = check(session)
    except NotCheckable as missing:
        return Check(name, None, str(missing))
    finally:
        session.close()
    return Check(name, exactly(holds), detail)


def _recorded(session: Session) -> tuple[bool, str]:
    """Every release is in the ledger under its own name, with the σ and q that were claimed."""
    made, named = 0, set[str]()
    for steps in (1, 3, 1):
        left = session.step(steps)
        made += left.steps
        named |= {name for tensor in left.tensors for name in tensor.releases}
    found, claim = session.recorded(), session.claim
    holds = (
        found.count == made == len(named)
        and named <= found.names
        and found.noise_multiplier == claim.noise_multiplier
        and found.sampling_rate == claim.sampling_rate
    )
    detail = (
        f"{made} releases made, {len(named)} named, {found.count} recorded; "
        f"σ {found.noise_multiplier:g} of {claim.noise_multiplier:g}, q {found.sampling_rate:g} of {claim.sampling_rate:g}"
    )
    return holds, detail


def _crash(session: Session) -> tuple[bool, str]:
    """Dying between charge and release leaves a charge: the ledger overstates, never understates."""
    total(session)
    session = session.crash()
    found = session.recorded()
    session.close()
    return found.count == 2, f"1 release and 1 begun, {found.count} recorded"


def _redone(session: Session) -> tuple[bool, str]:
    """The step that was lost is made and charged anew."""
    total(session)
    session = session.crash()
    before = session.recorded()
    left = session.step()
    after = session.recorded()
    session.close()
    names = {name for tensor in left.tensors for name in tensor.releases}
    new = after.names - before.names
    holds = after.count == before.count + 1 and names <= new and bool(names)
    return holds, f"{before.count} recorded before the step was done again, {after.count} after"


def _restart(session: Session) -> tuple[bool, str]:
    """Ending in good order loses nothing and records nothing."""
    for _ in range(3):
        total(session)
    before = session.recorded()
    session = session.restart()
    kept = session.recorded()
    total(session)
    after = session.recorded()
    session.close()
    holds = before == kept and after.count == before.count + 1 == 4
    return (
        holds,
        f"{before.count} recorded, {kept.count} after a restart, {after.count} after one more release",
    )


def _stop(session: Session) -> tuple[bool, str]:
    """What is declared, retries included, is all there is."""
    most = KEPT.releases + KEPT.retries
    session.recorded()
    made, refusal = 0, ""
    while made <= most and not refusal:
        try:
            total(session)
            made += 1
        except NotCheckable:
            raise
        except Exception as refused:  # noqa: BLE001 - whichever way a mechanism refuses
            refusal = type(refused).__name__
    return made == most, f"{made} releases made where {most} are declared; then {refusal or 'no refusal'}"


def _rollback(session: Session) -> tuple[bool, str]:
    """An older copy of the ledger is not taken for the newest where a later state has been seen."""
    total(session)
    refused = session.roll_back()
    return refused, "an older copy was refused" if refused else "an older copy was taken"


def _key(mechanism: Mechanism) -> Check:
    """A patient's spending has one key for all projects, else every study starts them anew."""
    try:
        one, same, other = (
            mechanism.ledger_key(patient, project)
            for patient, project in (("p1", "x"), ("p1", "y"), ("p2", "x"))
        )
    except NotCheckable as missing:
        return Check("ledger.key", None, str(missing))
    detail = f"one patient has {'one key' if one == same else 'another key'} in another project"
    return Check("ledger.key", exactly(one == same and one != other), detail)
