"""Check a release record offline: signatures, figures that follow from one another, ledgers, model.

Every check has a name and says what it found. A record that is no record is refused (`DataError`) before any
check; a record that does not hold together fails the checks by name. What cannot be checked with what is at hand
is a remark, never a silent pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedimg import canonical
from fedimg.errors import DataError
from fedimg.privacy.federation import federation_epsilon
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.request import DISTRIBUTED
from fedimg.privacy.statement import heads
from fedimg.record import code, model, schema
from fedimg.record.checks import Check, Findings
from fedimg.record.commitments import Opening
from fedimg.record.plans import plan_from_json
from fedimg.record.schema import RECORD_FORMAT
from fedimg.record.site_checks import EPSILON_TOLERANCE, check_site
from fedimg.secagg.plan import LEAST_HONEST, LEAST_SITES, usual_threshold

COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a record is checked against.

    Attributes:
        keys: public keys, hex, that the verifier knows from elsewhere, by site or "coordinator".
        ledgers: signed extracts by site; None where there is no run folder to look into.
        model: a safetensors file that is said to be the model.
        openings: of commitments, handed over by sites.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    ledgers: Mapping[str, bytes] | None = None
    model: Path | None = None
    openings: tuple[Opening, ...] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. `record` is the checked document's inner record."""

    record: Mapping[str, Any]
    checks: tuple[Check, ...]
    remarks: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)


def read(data: bytes) -> dict[str, Any]:
    """A document of the right format and shape; nothing is vouched for yet. Raises DataError."""
    document = canonical.decode(data, "release record")
    schema.check(document)
    return dict(document)


def verify(data: bytes, evidence: Evidence | None = None) -> Verification:
    """Check a record against itself and whatever evidence there is. Raises DataError: no record at all."""
    given = evidence or Evidence()
    document = read(data)
    record, found = document["record"], Findings()
    found.check(
        "coordinator's signature",
        canonical.signed_by(record, document["key"], document["signature"], RECORD_FORMAT),
        "signed as it stands",
        "not what the coordinator signed",
    )
    _key(found, COORDINATOR, document["key"], given.keys)
    _names(found, record, given.keys)
    plans: list[PrivacyPlan] = []
    for signed in record["sites"]:
        plan = _plan(found, signed["part"])
        plans += [plan] if plan is not None else []
        extract = _extract(found, given, signed["part"]["site"], simulated=record["simulated"])
        _key(found, signed["part"]["site"], signed["key"], given.keys)
        check_site(found, record, signed, plan, extract)
    _federation(found, record, plans)
    _sums(found, record, plans)
    _audits(found, record["audits"])
    _model(found, record["model"], given.model)
    for opening in given.openings:
        _opened(found, record, opening, given.ledgers or {})
    _remarks(found, record, given)
    return Verification(record, tuple(found.checks), tuple(found.remarks))


def _extract(found: Findings, given: Evidence, site: str, *, simulated: bool) -> bytes | None:
    """Of a site's ledger; empty where it ought to be there. Between machines it stays at the site, with its other runs."""
    if given.ledgers is None:
        return None
    if site not in given.ledgers and not simulated:
        found.remark(
            f"{site}: its ledger stays at the site; an extract (`fedimg ledger export`) was not given"
        )
        return None
    return given.ledgers.get(site, b"")


def _key(found: Findings, name: str, key: str | None, given: Mapping[str, str]) -> None:
    if name in given:
        found.check(f"{name}: key", key == given[name].lower(), "the one given", "not the one given")


def _names(found: Findings, record: Mapping[str, Any], keys: Mapping[str, str]) -> None:
    names = [signed["part"]["site"] for signed in record["sites"]]
    found.check(
        "participants",
        len(set(names)) == len(names) > 0,
        f"{len(names)} sites, each once",
        "a site twice, or none",
    )
    for unknown in sorted(set(keys) - {*names, COORDINATOR}):
        found.check(f"{unknown}: key", passed=False, failure="no such site in the record")


def _plan(found: Findings, part: Mapping[str, Any]) -> PrivacyPlan | None:
    """The site's plan; where the mode has one and it is none, a failure."""
    if part["plan"] is None:
        none = part["claim"]["mode"] == "none"
        found.check(
            f"{part['site']}: plan", none, "none, and none claimed", "missing, though privacy is claimed"
        )
        return None
    try:
        return plan_from_json(part["plan"])
    except DataError:
        found.check(f"{part['site']}: plan", passed=False, failure="not a plan")
        return None


def _federation(found: Findings, record: Mapping[str, Any], plans: list[PrivacyPlan]) -> None:
    """The federation's claim follows from the sites': mode, unit, and the composition over m sites."""
    claim = record["claim"]
    parts = [signed["part"] for signed in record["sites"]]
    private = bool(parts) and all(part["claim"]["private"] for part in parts)
    alike = all(
        (part["claim"]["mode"], part["claim"]["unit"]) == (claim["mode"], claim["unit"]) for part in parts
    )
    alike = alike and claim["adjacency"] == f"add_or_remove_one_{claim['unit']}"
    alike = alike and claim["private"] is (private and not record["insecure_test_mode"])
    found.check(
        "federation: claim", alike, "that of its sites", "another mode, unit or promise than its sites'"
    )
    several = {plan.request.max_sites_per_patient for plan in plans} - {claim["max_sites_per_patient"]}
    m = claim["max_sites_per_patient"]
    found.check(
        "federation: sites per patient",
        m >= 1 and not several,
        f"{m}, as every site declared",
        "not what the sites declared",
    )
    if not claim["private"]:
        silent = claim["epsilon"] is None and claim["delta"] is None
        found.check(
            "federation: epsilon",
            silent,
            "none stated: nothing is promised",
            "stated where nothing is promised",
        )
        return
    stated, delta = claim["epsilon"], claim["delta"]
    if several or not plans or stated is None:
        found.check("federation: epsilon", passed=False, failure="not to be recomputed")
        return
    again = federation_epsilon(plans)
    found.check(
        "federation: epsilon",
        abs(stated - again) <= EPSILON_TOLERANCE and delta == max(plan.delta for plan in plans),
        f"{stated:.4f} at δ = {delta:g}, composed over {m} site{'s' if m > 1 else ''} a patient",
        f"recomputed from the sites' plans it is {again:.4f}",
    )


def _sums(found: Findings, record: Mapping[str, Any], plans: list[PrivacyPlan]) -> None:
    """The secure sums' numbers bear the promise; shared noise rests on them, and is the same at every site."""
    sums, shared = record["secagg"], record["claim"]["mode"] == DISTRIBUTED
    expected, colluders = {(0, 0, 0)}, 0
    if sums is None:
        found.check("secure sums", not shared, "none", "none, though the noise is said to be shared in them")
    else:
        colluders, groups = sums["colluders"], {(one["sites"], one["threshold"]) for one in sums["sums"]}
        sound = bool(groups) and len(record["sites"]) <= sum(one["sites"] for one in sums["sums"])
        for sites, threshold in groups:
            sound = sound and sites >= LEAST_SITES and usual_threshold(sites) <= threshold <= sites
            sound = sound and 1 <= colluders <= 2 * threshold - sites - 1
            sound = sound and threshold - colluders >= LEAST_HONEST
        told = "; ".join(f"{threshold} of {sites} sites must survive" for sites, threshold in sorted(groups))
        told += f", {colluders} may collude"
        found.check("secure sums", sound, told, f"{told}: that opens more than sums")
        expected = {(*group, colluders) for group in groups} if shared else expected
    stated = {(plan.sum_sites, plan.sum_threshold, plan.sum_colluders) for plan in plans}
    alike = {(plan.noise_multiplier, plan.sampling_rate, plan.evaluation_noise_multiplier) for plan in plans}
    good = stated <= expected and (not shared or len(alike) == 1)
    told = "in shares that fit the sums" if shared else "each site's own"
    found.check("noise", good, told, "divided otherwise than the sums allow")


def _audits(found: Findings, audits: list[Mapping[str, Any]]) -> None:
    for audit in audits:
        found.check(
            f"audit: {audit['audit']}", audit["verdict"] == "pass", "passed", "failed, and the record says so"
        )
    if not audits:
        found.remark("no audit results are in the record")


def _model(found: Findings, stated: Mapping[str, Any], file: Path | None) -> None:
    if file is None:
        found.remark("no model file was given: its weights were not compared")
        return
    same = model.digest_of_file(file) == stated["weights"]
    found.check("model", same, "the weights that the record names", "other weights than the record names")


def _opened(
    found: Findings, record: Mapping[str, Any], opening: Opening, ledgers: Mapping[str, bytes]
) -> None:
    part = next((s["part"] for s in record["sites"] if s["part"]["site"] == opening.site), None)
    name = f"{opening.site}: opening"
    if part is None or opening.run != record["run"] or part["data"] is None:
        found.check(name, passed=False, failure="of another record")
        return
    ledger = part["ledger"]["commitment"] if part["ledger"] else ""
    data_fits, ledger_fits = opening.opens(part["data"]["commitment"], ledger)
    found.check(
        f"{name} of data", data_fits, f"receipts up to {opening.committed.receipts}", "does not open it"
    )
    if not ledger:
        return
    found.check(f"{name} of ledger", ledger_fits, f"head {opening.committed.ledger}", "does not open it")
    try:
        extract = ledgers.get(opening.site)
        known = extract is None or opening.committed.ledger in heads(extract)
    except (ValueError, KeyError, TypeError):
        known = False
    found.check(f"{name}: ledger extract", known, "holds that head", "does not hold that head")


def _remarks(found: Findings, record: Mapping[str, Any], given: Evidence) -> None:
    here = code.installed()
    if record["code"] != here:
        found.remark(
            f"made by another build of fedimg ({record['code']['fedimg']}) than this one ({here['fedimg']})"
        )
    if given.ledgers is None:
        found.remark("no run folder was given: the ledgers' extracts were not compared")
    if not given.keys:
        found.remark("the keys are those that the record itself names: compare them, or give --key")
    if record["simulated"]:
        found.remark("a simulated federation: all keys were in one hand")
