"""A site's own part of a release record: what it declared, what it charged, and commitments; signed by the site."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from fedimg import canonical
from fedimg.errors import LedgerError, ReceiptError
from fedimg.home import SiteHome
from fedimg.intake.commitment import hash_of, history
from fedimg.privacy.chain import follow
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.stated import statement_of
from fedimg.record import code, commitments
from fedimg.record.commitments import Committed, Opening
from fedimg.record.schema import PART_FORMAT


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """What a site says of itself in one run.

    Attributes:
        terms: digest of what the sites agreed to. plan: what its ledger reserved; None with `privacy=none`.
        insecure: noise came from a seed, so nothing is claimed.
        receipts: the site's commitment to its receipts as it joined (`intake.commitment`).
        left_after_round: the last round before it left; None if it stayed.
    """

    run: str
    site: str
    terms: str
    plan: PrivacyPlan | None
    unit: Literal["patient", "image", "client"]
    insecure: bool
    receipts: str
    left_after_round: int | None = None


def signed_part(home: SiteHome, facts: SiteFacts) -> dict[str, Any]:
    """The site's part with its signature; a fresh secret behind its commitments stays in the home.

    Raises:
        LedgerError, ReceiptError: ledger or receipts cannot be vouched for.
    """
    charged, ledger, head = _spent(home, facts)
    committed = Committed(hash_of(home, facts.run, facts.receipts), _arrays(home), head)
    secret, name = commitments.fresh_secret(home.root, facts.run)
    if ledger is not None:
        ledger["commitment"] = committed.of_ledger(secret, facts.run, facts.site)
    data = {"commitment": committed.data(secret, facts.run, facts.site), "secret": name}
    part = _part(facts, charged, ledger, data)
    return {
        "part": part,
        "key": home.signing_key.public_bytes.hex(),
        "signature": canonical.sign(part, home.signing_key, PART_FORMAT),
    }


def unsigned_part(facts: SiteFacts) -> dict[str, Any]:
    """For a site that has left and cannot be asked any more: what it had declared, in the coordinator's words."""
    return {"part": _part(facts, None, None, None), "key": None, "signature": None}


def opening(home: SiteHome, part: dict[str, Any]) -> Opening:
    """What opens the commitments of this site's part; its receipts and ledger are searched for what fits.

    Raises:
        DataError: the secret is not here. ReceiptError, LedgerError: none of the site's fits.
    """
    secret = commitments.kept_secret(home.root, part["data"]["secret"])
    run, site, ledger = part["run"], part["site"], part["ledger"]
    arrays = _arrays(home)
    receipts = next(
        (
            r
            for r in history(home)
            if Committed(r, arrays, "").data(secret, run, site) == part["data"]["commitment"]
        ),
        None,
    )
    if receipts is None:
        raise ReceiptError("the data that were committed to", "others", "restore the site's receipts")
    if ledger is None:
        return Opening(run, site, secret, Committed(receipts, arrays, ""))
    for head in _heads(home):
        committed = Committed(receipts, arrays, head)
        if committed.of_ledger(secret, run, site) == ledger["commitment"]:
            return Opening(run, site, secret, committed)
    raise LedgerError("the ledger that was committed to", "another one", "restore the ledger of that time")


def _arrays(home: SiteHome) -> str:
    """SHA-256 of the receipt of declared public arrays, hex; "" without any."""
    receipt = home.root / "declared_public.json"
    return hashlib.sha256(receipt.read_bytes()).hexdigest() if receipt.is_file() else ""


def claim(plan: PrivacyPlan | None, *, insecure: bool, unit: str) -> dict[str, Any]:
    """What is promised at a site; without a plan, that nothing is."""
    if plan is not None:
        return plan.release_record(insecure=insecure, unit=unit)
    return {"mode": "none", "private": False, "unit": unit, "epsilon": None, "delta": None}


def _part(
    facts: SiteFacts, charged: dict[str, int] | None, ledger: dict[str, Any] | None, data: Any
) -> dict[str, Any]:
    return {
        "format": PART_FORMAT,
        "run": facts.run,
        "site": facts.site,
        "terms": facts.terms,
        "code": code.installed(),
        "claim": claim(facts.plan, insecure=facts.insecure, unit=facts.unit),
        "plan": facts.plan.as_json() if facts.plan is not None else None,
        "charged": charged,
        "ledger": ledger,
        "data": data,
        "left_after_round": facts.left_after_round,
    }


def _spent(home: SiteHome, facts: SiteFacts) -> tuple[dict[str, int] | None, dict[str, Any] | None, str]:
    """Releases charged to this run, the ledger's public terms, and its head."""
    if facts.plan is None:
        return None, None, ""
    statement = statement_of(home.ledger, home.signing_key)
    run = statement.runs.get(facts.run)
    if run is None:
        raise LedgerError(
            "this run in the site's ledger", "none", "restore the ledger that it was charged to"
        )
    terms = {
        "scratch": statement.terms.scratch,
        "epsilon_max": statement.terms.epsilon_max,
        "delta": statement.terms.delta,
        "order": statement.terms.order,
        "earlier_runs": list(statement.runs).index(facts.run),
    }
    return dict(run.charged), terms, statement.head.digest.hex()


def _heads(home: SiteHome) -> list[str]:
    """Digest after every entry of the ledger."""
    entries = statement_of(home.ledger, home.signing_key).entries
    return [head.digest.hex() for head, _ in follow(entries)]
