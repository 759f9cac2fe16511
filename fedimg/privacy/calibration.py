"""From what a run asks for and what a site allows to fixed public numbers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, ConfigError
from fedimg.privacy import accounting
from fedimg.privacy.events import Event
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.renyi import best_order, rdp
from fedimg.privacy.request import PrivacyRequest

TRAIN, EVALUATE = "train", "evaluate"
# The filter's conversion is looser than a privacy loss distribution: at equal ε it wants 7–13 % more noise
# (measured for ε 0.5 to 8, q 0.1 to 1). A plan may be raised by that much to fit; needing more means that
# the budget is short, and the plan is refused rather than drowned in noise.
FILTER_HEADROOM = 1.15
# Where evaluation has patients of its own it takes half of ε, so that training is the costlier role at every
# Rényi order and its noise is what the ledger's order is chosen for.
HELD_OUT_SHARE = 0.5
# A scratch ledger opens with so much more than one run's ε, so that the filter never moves its noise.
SCRATCH_HEADROOM = 1.25
# Halvings of the interval (0, ε) when a refusal names the ε that would fit: to 1 % of what was asked.
_SEARCH_STEPS = 7


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """Everything public about a site's releases in one run, fixed before round 1.

    `epsilon` covers every declared release *and* every retry. All numbers come from the request and the
    site's declared size; none from its data. With `client_level` the plan is the coordinator's, and
    `declared_patients` counts its units: the clients that it has declared.
    """

    request: PrivacyRequest
    declared_patients: int
    sampling_rate: float
    noise_multiplier: float
    evaluation_noise_multiplier: float
    epsilon: float
    epsilon_second: float

    @property
    def mode(self) -> str:
        return self.request.mode

    @property
    def delta(self) -> float:
        return self.request.delta

    @property
    def l2_clip_norm(self) -> float:
        return self.request.l2_clip_norm

    @property
    def steps(self) -> int:
        """T, the training releases of an unbroken run."""
        return self.request.steps

    @property
    def expected_batch_size(self) -> float:
        """q · n̄: what a noised sum is divided by. Never the actual batch."""
        return self.sampling_rate * self.declared_patients

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """What the ledger sets aside."""
        r = self.request
        roles = ("patients", "patients")
        if r.mode == "client_level":
            roles = ("clients", "clients")
        elif r.evaluation_share is None:
            roles = ("training patients", "held-out patients")
        train = Allowance(TRAIN, self.noise_multiplier, self.sampling_rate, r.steps, r.retries, roles[0])
        evaluate = Allowance(
            EVALUATE, self.evaluation_noise_multiplier, 1.0, r.evaluations, r.evaluation_retries, roles[1]
        )
        return (train, evaluate) if r.evaluations else (train,)

    @property
    def roles(self) -> tuple[tuple[Event, ...], ...]:
        """What one patient can be exposed to, as the accountant sees it, retries included.

        One tuple of events for each group of patients; nobody is in two groups.
        """
        return self._roles({a.release: a.most for a in self.allowances})

    def _roles(self, counts: Mapping[str, int]) -> tuple[tuple[Event, ...], ...]:
        groups: dict[str, list[Event]] = {}
        for a in self.allowances:
            event = Event(a.noise_multiplier, a.sampling_rate, counts[a.release], self.request.noise_law)
            groups.setdefault(a.role, []).append(event)
        return tuple(tuple(group) for group in groups.values())

    def as_json(self) -> dict[str, Any]:
        """Every field as JSON values; an infinite ε is null."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex: round instructions and ledger entries name it."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def epsilon_after(self, training_releases: int, evaluations: int) -> float:
        """ε of that many of this plan's releases: for a curve by round, at fixed (q, σ)."""
        roles = self._roles({TRAIN: training_releases, EVALUATE: evaluations})
        return max(accounting.epsilon(role, self.delta) for role in roles)

    def release_record(self, *, insecure: bool = False, unit: str = "patient") -> dict[str, Any]:
        """What is promised about a model, as JSON values. `insecure`: noise came from a seed, so nothing is.

        `unit` is "image" where the source knows of no patients, and the record must say so; with
        `client_level` it is the client, whatever the source knows.

        ε stands only where it is true: with `privacy=none` and in the insecure test mode it is null.
        """
        private = self.mode != "none" and not insecure
        of_clients = self.mode == "client_level"
        unit = "client" if of_clients else unit
        versions = accounting.accountant_versions()
        return {
            "mode": self.mode,
            "private": private,
            "unit": unit,
            "adjacency": f"add_or_remove_one_{unit}",
            "epsilon": self.epsilon if private else None,
            "delta": self.delta if private else None,
            "accountants": [
                {"name": versions[name], "method": method, "epsilon": value if private else None}
                for (name, method), value in zip(
                    accounting.methods(self.request.noise_law),
                    (self.epsilon, self.epsilon_second),
                    strict=True,
                )
            ],
            "sampler": "poisson" if self.mode != "none" else "shuffle",
            "sampling_rate": self.sampling_rate,
            "noise_multiplier": self.noise_multiplier,
            "noise": self.request.noise if self.mode != "none" else "none",
            "noise_source": "insecure seed" if insecure else "operating system",
            "steps": self.steps,
            "retry_allowance": self.request.retries,
            "l2_clip_norm": self.l2_clip_norm,
            "expected_batch_size": self.expected_batch_size,
            **(self._of_clients() if of_clients else self._of_patients()),
            "max_sites_per_patient": self.request.max_sites_per_patient,
            "evaluations": self.request.evaluations,
            "evaluation_noise_multiplier": self.evaluation_noise_multiplier,
            "plan": self.digest,
        }

    def _of_patients(self) -> dict[str, Any]:
        held_out = self.request.evaluation_share is None
        return {
            "declared_patients": self.declared_patients,
            "images_per_patient": self.request.images_per_patient,
            "evaluated_patients": "held out of training" if held_out else "may be in training",
        }

    def _of_clients(self) -> dict[str, Any]:
        return {
            "declared_clients": self.declared_patients,
            "trusts": "the coordinator, which sees every update and adds the noise",
            "holds_against": "those who see the released models; the coordinator knows whom it sampled",
        }


def make_plan(request: PrivacyRequest, policy: SitePolicy, ledger: Ledger | None) -> PrivacyPlan:
    """Fix the noise of a run: ε by privacy loss distributions *and* the ledger's filter must hold.

    Training noise is calibrated such that no patient's releases, retries included, cost more than ε;
    evaluation noise on half of ε for held-out patients, or on its share of (ε, δ). With `privacy=none` the plan has no noise, and no ledger is asked.

    Raises:
        PolicyRefused: the site does not allow it. BudgetExhausted: it does not fit the ledger.
    """
    policy.check(request)
    plan = _calibrated(request, policy.declared_patients)
    if request.mode == "none":
        return plan
    if ledger is None:
        raise ConfigError("a ledger for a private run", "none", "open the site's ledger")
    plan = _raised_to_fit(plan, ledger)
    policy.check_noise(plan.noise_multiplier)
    return plan


def scratch_ledger(
    path: Path,
    signing_key: SigningKey,
    request: PrivacyRequest,
    policy: SitePolicy,
    epsilon_max: float | None = None,
) -> Ledger:
    """A new ledger for a simulated site: ε_max = 1.25 ε unless given, the order that suits the run best."""
    plan = _calibrated(request, policy.declared_patients)
    most = SCRATCH_HEADROOM * request.epsilon if epsilon_max is None else epsilon_max
    order = best_order(most, request.delta, plan.roles[0])
    return Ledger.create(path, signing_key, LedgerTerms(most, request.delta, order, scratch=True))


def recomputed(plan: PrivacyPlan) -> tuple[float, float]:
    """ε of a plan by both accountants, from its releases alone and not from what it states."""
    again = _accounted(plan)
    return again.epsilon, again.epsilon_second


def _calibrated(request: PrivacyRequest, declared_patients: int) -> PrivacyPlan:
    plan = _with_noise(request, declared_patients)
    return plan if request.mode == "none" else _accounted(plan)


def _with_noise(request: PrivacyRequest, declared_patients: int) -> PrivacyPlan:
    """The plan whose ε is not yet stated: infinite."""
    rate = request.rate_at(declared_patients)
    if request.mode == "none":
        return PrivacyPlan(request, declared_patients, rate, 0.0, 0.0, math.inf, math.inf)
    law, evaluation = request.noise_law, 0.0
    others: tuple[Event, ...] = ()
    if request.evaluations:
        count, share = request.evaluations + request.evaluation_retries, request.evaluation_share
        if share is None:
            evaluation = accounting.calibrate(
                HELD_OUT_SHARE * request.epsilon, request.delta, 1.0, count, law=law
            )
        else:
            evaluation = accounting.calibrate(
                share * request.epsilon, share * request.delta, 1.0, count, law=law
            )
            others = (Event(evaluation, 1.0, count, law),)
    steps = request.steps + request.retries
    noise = accounting.calibrate(request.epsilon, request.delta, rate, steps, others, law)
    return PrivacyPlan(request, declared_patients, rate, noise, evaluation, math.inf, math.inf)


def _accounted(plan: PrivacyPlan) -> PrivacyPlan:
    first, second = (
        max(accountant(role, plan.delta) for role in plan.roles)
        for accountant in (accounting.epsilon, accounting.epsilon_prv)
    )
    return replace(plan, epsilon=first, epsilon_second=second)


def _raised_to_fit(plan: PrivacyPlan, ledger: Ledger) -> PrivacyPlan:
    if _fits(plan, ledger):
        return plan
    if not _fits(plan, ledger, FILTER_HEADROOM):
        largest = _largest_epsilon(plan, ledger)
        raise BudgetExhausted(
            f"room for ε = {plan.epsilon:.3g} in this site's ledger",
            f"{max(0.0, ledger.remaining):.4g} left at Rényi order {ledger.terms.order}",
            f"ask for privacy.epsilon={largest:g} or less: the largest that still fits"
            if largest
            else "no run of this kind fits any more: end it here, or ask for fewer rounds",
        )
    low, high = 1.0, FILTER_HEADROOM
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _fits(plan, ledger, middle) else (middle, high)
    raised = replace(
        plan,
        noise_multiplier=plan.noise_multiplier * high,
        evaluation_noise_multiplier=plan.evaluation_noise_multiplier * high,
    )
    return _accounted(raised)


def _fits(plan: PrivacyPlan, ledger: Ledger, factor: float = 1.0) -> bool:
    """Whether the plan, with `factor` times its noise, costs no more than the ledger has left."""

    def cost(role: tuple[Event, ...]) -> float:
        raised = (replace(e, noise_multiplier=e.noise_multiplier * factor) for e in role)
        return math.fsum(rdp(event, ledger.terms.order) for event in raised)

    return max(map(cost, plan.roles)) <= ledger.remaining


def _largest_epsilon(plan: PrivacyPlan, ledger: Ledger) -> float:
    """The largest ε, to two digits, with which the same run would fit; 0 where none does."""
    low, high = 0.0, plan.request.epsilon
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2
        smaller = _with_noise(replace(plan.request, epsilon=middle), plan.declared_patients)
        low, high = (middle, high) if _fits(smaller, ledger, FILTER_HEADROOM) else (low, middle)
    digits = 1 - math.floor(math.log10(low)) if low else 0
    return math.floor(low * 10.0**digits) / 10.0**digits
