"""The end of a run at a site: closed in its ledger, with its signed part of the release record."""

from __future__ import annotations

from typing import Literal

from fedimg import intake, record
from fedimg.errors import PolicyRefused
from fedimg.federation.conversation import Ended
from fedimg.home import SiteHome
from fedimg.privacy import kept_plan
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.stated import statement_of
from fedimg.record import SiteFacts
from sites.offers import Offers


def close(home: SiteHome, name: str, run: str) -> bytes:
    """Close a run for good, and return what a coordinator is answered: the same each time.

    What was set aside for it and not spent is free again. A site that never came to set anything aside, or to join,
    answers with an empty part, and will not join the run any more either.

    Raises:
        PolicyRefused: a run that was not offered. LedgerError, ReceiptError: they cannot be vouched for; nothing is closed.
    """
    offers = Offers(home)
    if (answered := offers.ended(run)) is not None:
        return answered
    if (terms := offers.terms(run)) is None:
        raise PolicyRefused("a run that this site was offered", "another", "nothing was closed")
    plan = kept_plan.kept(home.root / "plans" / f"{run}.json", terms.privacy, terms.digest)
    if plan is not None and not _reserved(home, run):
        plan = None  # it was made, and a kill came before anything was set aside
    receipts = offers.joined_with(run)
    answer = Ended(run, {})
    if plan is not None or receipts is not None:
        facts = SiteFacts(
            run,
            name,
            terms.digest,
            plan,
            unit_of(home),
            terms.insecure_seed is not None,
            receipts if receipts is not None else intake.commitment(home, run),
        )
        answer = Ended(run, record.signed_part(home, facts))
    if plan is not None:
        ledger = Ledger.open(home.ledger, home.signing_key)
        try:
            ledger.close(run)
        finally:
            ledger.disconnect()
    offers.end(run, answer.to_bytes())
    return answer.to_bytes()


def _reserved(home: SiteHome, run: str) -> bool:
    return run in statement_of(home.ledger, home.signing_key).runs


def unit_of(home: SiteHome) -> Literal["patient", "image"]:
    """Of arrays that were declared public there is no patient number: their units are images."""
    return "image" if (home.root / "declared_public.json").exists() else "patient"
