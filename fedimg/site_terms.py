"""What a site agrees to: judged, tried and reserved before any data is read, and judged again at every step."""

from __future__ import annotations

from functools import partial

import torch

from fedimg import classical
from fedimg.audit import conformance
from fedimg.errors import MessageError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.models import Network
from fedimg.models.losses import Loss
from fedimg.privacy import client_level, kept_plan
from fedimg.privacy.ledger import Head, Ledger
from fedimg.privacy.noise_shares import NoiseShares
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.policy import SitePolicy
from fedimg.secagg.request import INPUT_STEP, SumRequest
from fedimg.terms import Terms
from fedimg.training.rehearsal import Rehearsal
from fedimg.training.variation import patient_loss
from fedimg.values import RoundInstructions


def check_test_mode(home: SiteHome, terms: Terms) -> None:
    """What no policy may allow."""
    if (terms.insecure_seed is not None) != home.insecure:
        raise PolicyRefused(
            "seeded noise and seeded keys together, at simulated sites only",
            "terms with seeded noise" if terms.insecure_seed is not None else "a home with a seeded key",
            "set insecure_test_mode alike for the run and its state folder; real sites never take part",
        )


def allowing(home: SiteHome, terms: Terms) -> SitePolicy:
    """The site's rules as they stand at this moment, and they allow the terms."""
    policy, extensions = SitePolicy.load(home.policy), terms.extensions
    policy.check(
        terms.privacy,
        terms.model.name,
        deid_profile=terms.deid_profile,
        extensions=extensions,
        subgroups=terms.subgroups.attributes,
    )
    return policy


def rehearse(terms: Terms, network: Network, loss: Loss, device: torch.device) -> None:
    """Try the terms on dummy patients. Raises ConfigError."""
    if (learner := classical.learner_of(network, terms.model)) is not None:
        rounds = min(2, classical.rounds_of(terms.model)[0])
        classical.rehearse(learner, network, terms.model.classes, terms.bins, rounds)
        return
    Rehearsal(
        network,
        terms.model.classes,
        patient_loss(terms.training, terms.imaging.varied, loss),
        terms.privacy,
        terms.training,
        terms.imaging.varied,
        terms.measure,
        device,
        timed=terms.insecure_seed is None,
    ).run()


def read_instructions(terms: Terms, network: Network, data: bytes) -> RoundInstructions:
    """Raises MessageError for a message that is none, or whose vector has another length than was agreed."""
    task = RoundInstructions.from_bytes(data, None).task if terms.training.algorithm.vectors > 1 else ""
    return RoundInstructions.from_bytes(data, terms.instructed_size(network, task))


def check_sum(
    home: SiteHome, terms: Terms, plan: PrivacyPlan | None, request: SumRequest, network: Network
) -> RoundInstructions | None:
    """Refuse a step of a secure sum that was not agreed; the instructions at the step at which they are carried out.

    Raises PolicyRefused, MessageError.
    """
    check_round(terms, request.task, request.round)
    if request.step != INPUT_STEP:
        return None
    instructions = read_instructions(terms, network, request.instructions)
    check_instructions(home, terms, plan, instructions)
    if (instructions.round, instructions.task) != (request.round, request.task):
        raise MessageError("instructions for this sum", "for another", "nothing was released")
    return instructions


def reserve(
    home: SiteHome, terms: Terms, policy: SitePolicy, shares: NoiseShares | None, known_head: Head | None
) -> tuple[PrivacyPlan | None, Ledger | None]:
    """The run's whole cost, set aside in the site's ledger; no plan where the site itself releases nothing.

    Raises:
        PolicyRefused, BudgetExhausted, LedgerError: nothing was reserved.
    """
    releases = terms.privacy.mode not in ("none", client_level.MODE)
    # a hospital's ledger holds its withdrawals too: without it no run, private or not, knows whom to leave out
    if not (releases or not home.simulated or home.ledger.exists()):
        return None, None
    ledger = Ledger.open(home.ledger, home.signing_key, known_head)
    if not releases:
        return None, ledger
    file = home.root / "plans" / f"{terms.run_id}.json"
    battery = policy.require_battery and terms.insecure_seed is None
    check = partial(conformance.before_first_round, home.root, terms.run_id, terms.privacy)
    first = check if battery else None
    plan = kept_plan.reserved(file, terms.run_id, terms.privacy, terms.digest, policy, ledger, first, shares)
    return plan, ledger


def check_instructions(
    home: SiteHome, terms: Terms, plan: PrivacyPlan | None, instructions: RoundInstructions
) -> None:
    """Refuse a round that was not agreed. Raises PolicyRefused, MessageError."""
    policy = allowing(home, terms)
    if plan is not None:
        policy.check_noise(plan.noise_multiplier)
    if instructions.run_id != terms.run_id or instructions.plan_digest != terms.digest:
        remedy = "ask the coordinator; nothing was released"
        raise PolicyRefused("the terms that this site joined", "others", remedy)
    check_round(terms, instructions.task, instructions.round)


def check_round(terms: Terms, task: str, number: int) -> None:
    """Refuse a round that was not declared, or an evaluation in a round that has none. Raises MessageError."""
    if not 1 <= number <= terms.rounds:
        found, remedy = f"round {number}", "the declared rounds are used up"
        raise MessageError(f"a round from 1 to {terms.rounds}", found, remedy)
    if task == "evaluate" and number not in terms.evaluation_rounds:
        raise MessageError(
            "an evaluation in a round that declares one", f"round {number}", "nothing was released"
        )
