"""Empirical ε: what canaries measure of a plan's mechanism, to stand beside the claim.

A shadow site of public units runs the plan's own (q, σ, T, C) through `ReleaseSession`: the same sampling,
clipping, summing, noise and charge; with shared noise through as many sites and secure sums as the plan has. What its
canaries' coordinates show is fitted (`mixture`), and the fitted mechanism is accounted like the claimed one. It is an
*estimate* of what this mechanism with these numbers costs a worst-case patient; it is neither a proof nor a bound, and
it cannot see faults that canaries do not meet.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm

from fedimg.audit.mixture import Fit, Mechanism, Observed, fit, free_of, mechanism_of, score_tests
from fedimg.audit.recipe import scratch_session, shared_session
from fedimg.audit.shadow import Canaries, LinearShadow, ShadowNetwork, shadow_site
from fedimg.errors import ConfigError
from fedimg.privacy import accounting
from fedimg.privacy.events import Event
from fedimg.privacy.noise import Entropy
from fedimg.privacy.plan import PrivacyPlan
from fedimg.values import Vector

LEVEL = 1e-4
"""Chance of a flag where the claim is true, for each of the two rules."""
COVERAGE = 0.98
_MOST_STEPS = 400
_MOST_SUMS = 40  # five exchanges each
_MOST_ROWS = 80_000  # sampled canaries over all steps; about a second
_MOST_CANARIES = 16_000  # inside; a run of few steps is measured less finely, and says how finely
_LEAST_GROUPS = 16
_NOISE_VALUES = 16_000  # fixes s within 0.6 %
_MOST_SINGLES = 512
_MOST_IN_GROUP = 256
_RATE_SIGNAL = 10.0  # the statistic that a rate 1.2 times too large should reach
_FEATURES, _ORDINARY = 8, 16
TESTS = ("noise", "rate", "length")


@dataclass(frozen=True)
class EmpiricalEpsilon:
    """What the canaries measured beside what was claimed.

    Attributes:
        claim: ε of (σ, q, T) as accounted, at `delta`; `claimed`: (σ, q, 1).
        estimate, low, high: ε of the fitted mechanism with a central 98 % delta-method interval: an estimate.
        fitted: (ŝ, q̂, ĉ). Where σ hides single canaries, only q̂·ĉ is well known, and ε̂ depends on little else.
        p_values: one-sided, of less noise, more sampling and longer shares than claimed.
        exceeds: the estimate's lower 10⁻⁴ bound lies above the claim. deviates: a one-sided test rejects at 10⁻⁴.
        canaries, steps: how much was measured. detectable: factors on σ and q that would be flagged in 95 of 100 runs;
            None where q is 1.
        seconds: of one core.
    """

    claim: float
    delta: float
    claimed: Mechanism
    estimate: float
    low: float
    high: float
    fitted: Mechanism
    p_values: tuple[float, float, float]
    exceeds: bool
    deviates: bool
    canaries: int
    steps: int
    detectable: tuple[float, float | None]
    seconds: float

    @property
    def flagged(self) -> bool:
        return self.exceeds or self.deviates

    def as_dict(self) -> dict[str, Any]:
        """JSON values; None stands for an infinite ε."""
        return {
            "verdict": "fail" if self.flagged else "pass",
            "kind": "estimate",
            "claim": _finite(self.claim),
            "delta": self.delta,
            "estimate": _finite(self.estimate),
            "interval": [_finite(self.low), _finite(self.high)],
            "coverage": COVERAGE,
            "claimed": _mechanism(self.claimed),
            "fitted": _mechanism(self.fitted),
            "p_values": dict(zip(TESTS, self.p_values, strict=True)),
            "flags": {"estimate_exceeds_claim": self.exceeds, "mechanism_deviates": self.deviates},
            "canaries": self.canaries,
            "steps": self.steps,
            "detectable": {
                "noise_multiplier_factor": self.detectable[0],
                "sampling_rate_factor": self.detectable[1],
            },
            "seconds": round(self.seconds, 3),
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _mechanism(of: Mechanism) -> dict[str, float]:
    return {"noise_multiplier": of.noise, "sampling_rate": of.rate, "clipped_length": of.length}


def canary_sizes(noise: float, rate: float, steps: int) -> npt.NDArray[np.int64]:
    """(G,) canaries at each coordinate of the shadow block, from public numbers.

    Single canaries fix the noise. Where σ hides a single canary, q shows only in many that share a coordinate: as
    many as make sampling's spread visible beside the noise, in so many coordinates that q·1.2 would be seen.
    """
    singles = min(_MOST_SINGLES, _even(_NOISE_VALUES / steps))
    spread = rate * (1 - rate)
    wanted = min(_MOST_IN_GROUP, math.ceil(noise**2 / (2 * spread))) if spread > 0 else _MOST_IN_GROUP
    for size in range(wanted, 0, -1):
        needed = (_RATE_SIGNAL / 0.2) ** 2 * (noise**2 + size * spread) / (size * rate)
        rows = min(needed, _MOST_ROWS, _MOST_CANARIES * rate * steps)
        groups = _even(2 * rows / (size * rate * steps))
        if groups >= _LEAST_GROUPS or size == 1:
            groups = max(groups, _LEAST_GROUPS)
            return np.concatenate([np.ones(singles, np.int64), np.full(groups, size, np.int64)])
    raise ConfigError("a sampling rate and noise above 0", f"{rate}, {noise}", "check the plan")


def _even(number: float) -> int:
    return 2 * max(1, math.ceil(number / 2))


def audited_plan(plan: PrivacyPlan) -> PrivacyPlan:
    """The same (q, σ, C), with no evaluations and no retries, and at most 400 steps, or 40 secure sums."""
    steps = min(plan.steps, _MOST_SUMS if plan.shares else _MOST_STEPS)
    request = replace(
        plan.request,
        rounds=steps,
        local_steps=1,
        evaluations=0,
        retry_allowance=0,
        engine="auto",
        chunk=0,
    )
    return replace(plan, request=request)


def audit_plan(
    plan: PrivacyPlan,
    entropy: Entropy,
    *,
    network: ShadowNetwork | None = None,
    mechanism: PrivacyPlan | None = None,
) -> EmpiricalEpsilon:
    """Measure a private plan's mechanism. About a second of one core, at most three.

    Args:
        plan: makes the claim.
        entropy: of the mechanism; the canaries' coins come from it as well.
        network: with as many coordinates as `canary_sizes` says; by default a small linear one.
        mechanism: what is run instead of `plan`, to show that a deviation from the claim is found.
    """
    begun, own = time.process_time(), audited_plan(plan)
    sizes = canary_sizes(own.noise_multiplier, own.sampling_rate, own.steps)
    canaries = Canaries.drawn(sizes, np.random.default_rng(int.from_bytes(entropy.bytes(16), "big")))
    shadow = network if network is not None else LinearShadow(_FEATURES, len(sizes))
    run = own if mechanism is None else audited_plan(mechanism)
    released = _released(run, entropy, shadow, canaries)
    return judged(plan, released / own.l2_clip_norm, canaries, begun)


def _released(plan: PrivacyPlan, entropy: Entropy, network: ShadowNetwork, canaries: Canaries) -> Vector:
    """(T, G): each step's released coordinates of the shadow block, cut off before the model moves."""
    values = np.frombuffer(entropy.bytes(8 * network.features), dtype="<u8") / 2.0**64 - 0.5
    cases = torch.from_numpy(np.cos(np.outer(np.arange(_ORDINARY), values + 1))).float()
    labels = torch.arange(_ORDINARY) % 2
    site = shadow_site(network, canaries, cases, labels)
    own = np.zeros(network.own)
    steps = np.empty((plan.steps, network.coordinates))
    with (shared_session if plan.shares else scratch_session)(plan, entropy) as session:
        for step in range(plan.steps):
            params = torch.from_numpy(network.joined(own)).float()
            noised = session.gradient_step(params, site, network)
            model, steps[step] = network.split(noised.vector)
            own = own - model / (_ORDINARY * max(1.0, plan.noise_multiplier * plan.l2_clip_norm) * 100)
    return steps


def observed_of(released: Vector, canaries: Canaries) -> Observed:
    """(T, G) released coordinates ÷ C, put together by how many canaries stand behind them."""
    inside = {
        int(size): released[:, canaries.inside & (canaries.size == size)].ravel()
        for size in np.unique(canaries.size)
    }
    return Observed(released[:, ~canaries.inside].ravel(), inside)


def judged(plan: PrivacyPlan, released: Vector, canaries: Canaries, begun: float) -> EmpiricalEpsilon:
    """Fit, account, and compare with the claim. `released` is (T, G) ÷ C; `begun` of `time.process_time`."""
    claimed = Mechanism(plan.noise_multiplier, plan.sampling_rate, 1.0)
    steps, delta = plan.steps, plan.delta
    observed = observed_of(released, canaries)
    found = fit(observed, claimed)
    estimate, error = _epsilon_with_error(found, steps, delta)
    claim = _epsilon(claimed, steps, delta)

    def bound(level: float) -> float:
        return math.exp(norm.ppf(level) * error) * estimate

    p_values = norm.sf(score_tests(observed, claimed))
    spread = np.sqrt((observed.scores(claimed) ** 2).sum(axis=0))
    needed = norm.isf(LEVEL / len(TESTS)) + norm.isf(0.05)
    return EmpiricalEpsilon(
        claim,
        delta,
        claimed,
        estimate,
        bound((1 - COVERAGE) / 2),
        bound((1 + COVERAGE) / 2),
        found.mechanism,
        (float(p_values[0]), float(p_values[1]), float(p_values[2])),
        exceeds=bound(LEVEL) > claim,
        deviates=bool(p_values.min() * len(TESTS) < LEVEL),
        canaries=canaries.count,
        steps=len(released),
        detectable=(
            float(math.exp(-needed / spread[0])),
            float(1 + needed / (spread[1] * claimed.rate)) if claimed.rate < 1 else None,
        ),
        seconds=time.process_time() - begun,
    )


def _epsilon(at: Mechanism, steps: int, delta: float) -> float:
    return accounting.epsilon([Event(at.noise / at.length, min(1.0, at.rate), steps)], delta)


def _epsilon_with_error(found: Fit, steps: int, delta: float) -> tuple[float, float]:
    """ε̂ and the standard error of log ε̂ by the delta method, with central differences of 2 %."""
    free = free_of(found.mechanism)
    estimate = _epsilon(found.mechanism, steps, delta)
    if not math.isfinite(estimate) or estimate <= 0:
        return estimate, 0.0
    slope = np.zeros(3)
    for k, step in enumerate((0.02, 0.02, max(1e-3, 0.02 * free[2]))):
        if found.covariance[k, k] == 0:
            continue
        up, down = free.copy(), free.copy()
        up[k] += step
        down[k] = max(0.0, free[k] - step) if k == 2 else free[k] - step
        ends = [_epsilon(mechanism_of(point), steps, delta) for point in (up, down)]
        slope[k] = (math.log(ends[0]) - math.log(ends[1])) / (up[k] - down[k])
    return estimate, math.sqrt(max(0.0, float(slope @ found.covariance @ slope)))
