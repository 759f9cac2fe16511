"""Ask every site's policy and ledger before any file is opened: a refusal is cheap first and dear last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedimg.client_round import Terms
from fedimg.errors import FederationError, FedimgError
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.ledger import Head, Ledger
from fedimg.privacy.plan import make_plan
from fedimg.privacy.policy import SitePolicy
from fedimg.run_sums import RunSums, agreed
from fedimg.simulation import remarks


def ask(
    homes: Sequence[tuple[str, Path]],
    terms: Terms,
    size: int,
    heads: KeptHeads,
    coordinator: Path | None = None,
) -> None:
    """Stop where every site would refuse; say so where some would. Nothing is reserved.

    Args:
        size: of an update.
        coordinator: the home whose ledger is charged instead of the sites', with `client_level`.

    Raises:
        PolicyRefused, BudgetExhausted, LedgerError: naming a site, with what it would allow.
    """
    if coordinator is not None:
        _ask(coordinator, terms, None, None)
    refusals: list[tuple[str, FedimgError]] = []
    for name, root in homes:
        try:
            home = SiteHome.open(root)
            sums = agreed(home, name, terms, SitePolicy.load(home.policy), size)
            _ask(root, terms, heads.known(name), sums, charged=coordinator is None)
        except FedimgError as refusal:
            refusals.append((name, refusal))
    if not refusals:
        return
    if len(refusals) < len(homes):
        for name, why in refusals:
            remarks.say(f"{name} will not take part: {why}")
        return
    for (_, root), (_, why) in zip(homes, refusals, strict=True):
        tell_operator(root, "joining", why)
    raise nobody_joins(refusals)


def nobody_joins(refusals: Sequence[tuple[str, FedimgError]]) -> FedimgError:
    """One error for the refusals of all sites: their own, with its exit code, where they are of one kind."""
    if len({type(refusal) for _, refusal in refusals}) != 1:
        return FederationError(
            "at least one site that joins", "none", "read operator.log in the sites' homes"
        )
    name, first = refusals[0]
    others = f" and {len(refusals) - 1} more" if len(refusals) > 1 else ""
    return type(first)(f"{first.expected} (asked at {name}{others})", first.found, first.remedy)


def _ask(root: Path, terms: Terms, known: Head | None, sums: RunSums | None, *, charged: bool = True) -> None:
    if (root / "plans" / f"{terms.run_id}.json").exists():
        return  # a resumed run: its cost is reserved
    home = SiteHome.open(root)
    policy = SitePolicy.load(home.policy)
    policy.check(
        terms.privacy, terms.model.name, deid_profile=terms.deid_profile, extensions=terms.extensions
    )
    if not charged or terms.privacy.mode == "none":
        return
    ledger = Ledger.open(home.ledger, home.signing_key, known)
    try:
        make_plan(terms.privacy, policy, ledger, sums.shares if sums is not None else None)
    finally:
        ledger.disconnect()
