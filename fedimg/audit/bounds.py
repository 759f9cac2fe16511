"""Lower bounds on ε from an attack's errors: what any mechanism that allowed this attack must cost.

An attack on an (ε, δ)-private mechanism has false positive rate α and false negative rate β with
α + e^ε·β ≥ 1 − δ and β + e^ε·α ≥ 1 − δ (Kairouz, Oh & Viswanath 2015). Bounding both rates from above gives a lower
bound on ε; if the mechanism is at most as distinguishable as N(0,1) and N(μ,1), the bound on μ is much tighter
(Nasr et al. 2023, "Tight auditing of differentially private machine learning", arXiv 2302.07956).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, norm

from fedimg.errors import ConfigError
from fedimg.evaluation import intervals
from fedimg.values import Interval, Vector


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval, [0, 1] without trials: an attack that tried nothing has shown nothing. Raises ConfigError."""
    if not 0 <= hits <= trials:
        raise ConfigError("hits between 0 and the trials", f"{hits} of {trials}", "count again")
    if trials == 0:
        return Interval(0.0, 0.0, 1.0)
    return intervals.clopper_pearson(hits, trials, confidence)


@dataclass(frozen=True, slots=True)
class Errors:
    """An attack's counted errors: false positives of negatives (outside), false negatives of positives (inside)."""

    false_positives: int
    negatives: int
    false_negatives: int
    positives: int

    def upper(self, confidence: float) -> tuple[float, float]:
        """Upper bounds (α, β) that hold together with at least `confidence`, by Clopper–Pearson."""
        each = 1 - 2 * ((1 - confidence) / 2)  # one-sided (1 − confidence)/2 for each of the two
        false_positive = clopper_pearson(self.false_positives, self.negatives, each).high
        false_negative = clopper_pearson(self.false_negatives, self.positives, each).high
        return false_positive, false_negative


def epsilon_lower_bound(errors: Errors, delta: float, confidence: float = 0.95) -> float:
    """ε that the mechanism exceeds with `confidence`, whatever the mechanism is; 0 where nothing is shown."""
    alpha, miss = errors.upper(confidence)
    return max(0.0, *(_log_ratio(1 - delta - a, b) for a, b in ((alpha, miss), (miss, alpha))))


def _log_ratio(above: float, below: float) -> float:
    return math.log(above / below) if above > 0 and below > 0 else 0.0


def gaussian_lower_bound(errors: Errors, confidence: float = 0.95) -> float:
    """μ that a Gaussian mechanism's trade-off Φ(Φ⁻¹(1−α)−μ) exceeds with `confidence` (Nasr et al. 2023, §4)."""
    alpha, miss = errors.upper(confidence)
    if alpha + miss >= 1:
        return 0.0
    return max(0.0, float(norm.isf(alpha) - norm.ppf(miss)))


def gaussian_delta(mu: float, epsilon: float) -> float:
    """δ(ε) of μ-GDP (Dong, Roth & Su 2022, corollary 2.13)."""
    if mu <= 0:
        return 0.0
    return float(norm.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon + norm.logcdf(-epsilon / mu - mu / 2)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The ε of μ-GDP at `delta`; 0 where δ alone covers it."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
    return float(brentq(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, high, xtol=1e-10))


@dataclass(frozen=True, slots=True)
class Scored:
    """An attack's scores, higher where it thinks a unit was inside: (n,) outside and (n,) inside."""

    outside: Vector
    inside: Vector

    def halves(self, generator: np.random.Generator) -> tuple[Scored, Scored]:
        """A random half to choose a threshold on, and the other to evaluate it on."""
        outside, inside = (generator.permutation(part) for part in (self.outside, self.inside))
        a, b = len(outside) // 2, len(inside) // 2
        return Scored(outside[:a], inside[:b]), Scored(outside[a:], inside[b:])

    def errors(self, threshold: float) -> Errors:
        """Of calling inside what scores above `threshold`."""
        return Errors(
            int((self.outside > threshold).sum()),
            len(self.outside),
            int((self.inside <= threshold).sum()),
            len(self.inside),
        )


def best_threshold(scored: Scored, confidence: float = 0.95) -> float:
    """The threshold whose Gaussian bound is largest on `scored`: never evaluate it there."""
    values = np.unique(np.concatenate([scored.outside, scored.inside]))
    if not len(values):
        return math.inf
    candidates = np.quantile(values, np.linspace(0, 1, min(len(values), 400)))
    above = len(scored.outside) - np.searchsorted(np.sort(scored.outside), candidates, side="right")
    missed = np.searchsorted(np.sort(scored.inside), candidates, side="right")
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        false_positive = beta.isf(tail, above + 1, len(scored.outside) - above)
        false_negative = beta.isf(tail, missed + 1, len(scored.inside) - missed)
    # where every trial is an error the beta law has no spread, and the bound is 1
    rates = [np.nan_to_num(rate, nan=1.0) for rate in (false_positive, false_negative)]
    return float(candidates[np.argmax(norm.isf(rates[0]) - norm.ppf(rates[1]))])


def audited_epsilon(
    scored: Scored, delta: float, generator: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float]:
    """Lower bounds (ε for any mechanism, ε for a Gaussian one): threshold on one half, evaluation on the other."""
    chosen_on, evaluated_on = scored.halves(generator)
    errors = evaluated_on.errors(best_threshold(chosen_on, confidence))
    general = epsilon_lower_bound(errors, delta, confidence)
    return general, gaussian_epsilon(gaussian_lower_bound(errors, confidence), delta)
