"""What a site has agreed to, judged again at every step: its policy may have changed since it joined."""

from __future__ import annotations

from fedimg.errors import MessageError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.policy import SitePolicy
from fedimg.terms import Terms
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
    policy.check(terms.privacy, terms.model.name, deid_profile=terms.deid_profile, extensions=extensions)
    return policy


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
