"""Membership inference, per patient: who was in the training, judged from a model's scores alone.

LiRA: N. Carlini et al., "Membership inference attacks from first principles", IEEE S&P 2022, arXiv 2112.03570,
algorithm 1 (online): shadow models are trained on random halves of the patients; each patient's score under models
with and without them is modelled by two Gaussians, and a target model's score is judged by their ratio. Each
model in turn is the target of an attack with all the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import norm, rankdata

from fedimg.audit.bounds import Scored, clopper_pearson, epsilon_lower_bound
from fedimg.audit.recipe import Recipe
from fedimg.models import Network
from fedimg.privacy.events import Event
from fedimg.privacy.noise import Entropy
from fedimg.privacy.plan import PrivacyPlan
from fedimg.privacy.tradeoff import TradeOff, trade_off
from fedimg.values import Interval, SiteDataset, Vector

RATES = (0.001, 0.01)
CONFIDENCE = 0.95
Mask = npt.NDArray[np.bool_]
Matrix = npt.NDArray[np.float64]
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True)
class Shadows:
    """What an attacker has to go by.

    Attributes:
        statistics: (models, U), each patient's score under each model. inside: (models, U), who was in which.
    """

    statistics: Matrix
    inside: Mask


@dataclass(frozen=True)
class AtRate:
    """True positive rate at a false positive rate that was set on other patients, both as measured there."""

    aimed: float
    false_positive: Interval
    true_positive: Interval


@dataclass(frozen=True)
class Membership:
    """How well the attack does.

    Attributes:
        auroc: of all decisions. rates: at 0.1 % and 1 %. epsilon_low: with 95 % confidence the training costs more;
            the larger of the two thresholds' bounds, each at 97.5 %. roc: (points, 2) of (false, true positive rate).
        patients, models: their product is the number of decisions, which are counted as independent.
    """

    auroc: float
    rates: tuple[AtRate, ...]
    epsilon_low: float
    roc: Matrix
    patients: int
    models: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "auroc": self.auroc,
            "epsilon_lower_bound": self.epsilon_low,
            "patients": self.patients,
            "models": self.models,
            "rates": [
                {
                    "aimed_false_positive_rate": at.aimed,
                    "false_positive_rate": _listed(at.false_positive),
                    "true_positive_rate": _listed(at.true_positive),
                }
                for at in self.rates
            ],
        }


def _listed(found: Interval) -> list[float]:
    return [found.value, found.low, found.high]


def patient_scores(network: Network, vector: Vector, dataset: SiteDataset) -> Vector:
    """(U,) mean over a patient's images of log(p/(1−p)), p the probability of the image's own label."""
    flat = torch.from_numpy(vector).float()
    with torch.no_grad():
        logits = network.apply(flat, dataset.images).double()
    own = logits.gather(1, dataset.labels[:, None])[:, 0]
    others = logits.scatter(1, dataset.labels[:, None], -torch.inf).logsumexp(dim=1)
    sums = np.add.reduceat((own - others).numpy(), dataset.first_image[:-1])
    return np.asarray(sums / np.diff(dataset.first_image), dtype=np.float64)


def shadow_models(
    recipe: Recipe,
    dataset: SiteDataset,
    models: int,
    entropy: Entropy,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Shadows:
    """Train `models` models, each on a random half: every patient is in exactly half of them."""
    generator = np.random.default_rng(int.from_bytes(entropy.bytes(16), "big"))
    order = np.argsort(generator.random((models, dataset.number_of_patients)), axis=0)
    inside = order < models // 2
    statistics = np.empty(inside.shape)
    for k in range(models):
        vector = recipe.trained(dataset.of_patients(np.flatnonzero(inside[k])), entropy)
        statistics[k] = patient_scores(recipe.network, vector, dataset)
        progress(k + 1, models)
    return Shadows(statistics, inside)


def likelihood_ratios(shadows: Shadows) -> Matrix:
    """(models, U): log of how much likelier each score is with the patient than without, by the other models.

    One spread is shared by all patients, one for inside and one for outside: with few models that is the
    stronger attack (§VI-D there).
    """
    scores, inside = shadows.statistics, shadows.inside
    ratios = np.empty_like(scores)
    for target in range(len(scores)):
        rest = np.arange(len(scores)) != target
        logs = []
        for member in (inside[rest], ~inside[rest]):
            count = member.sum(axis=0)
            mean = np.where(member, scores[rest], 0).sum(axis=0) / np.maximum(count, 1)
            squares = np.where(member, (scores[rest] - mean) ** 2, 0).sum()
            spread = np.sqrt(squares / max(1, int(count.sum()) - len(count))) + _LEAST_SPREAD
            # a mean of few models is uncertain itself
            logs.append(norm.logpdf(scores[target], mean, spread * np.sqrt(1 + 1 / np.maximum(count, 1))))
        ratios[target] = logs[0] - logs[1]
    return ratios


def measured(shadows: Shadows, delta: float, generator: np.random.Generator) -> Membership:
    """Attack every model; thresholds from one half of the patients, rates from the other."""
    ratios, inside = likelihood_ratios(shadows), shadows.inside
    order = generator.permutation(inside.shape[1])
    chosen, judged = order[: len(order) // 2], order[len(order) // 2 :]
    on, scored = (
        Scored(ratios[:, part][~inside[:, part]], ratios[:, part][inside[:, part]])
        for part in (chosen, judged)
    )
    rates, lows = [], []
    for aimed in RATES:
        threshold = float(np.quantile(on.outside, 1 - aimed, method="higher"))
        errors = scored.errors(threshold)
        hits = errors.positives - errors.false_negatives
        rates.append(
            AtRate(
                aimed,
                clopper_pearson(errors.false_positives, errors.negatives, CONFIDENCE),
                clopper_pearson(hits, errors.positives, CONFIDENCE),
            )
        )
        lows.append(epsilon_lower_bound(errors, delta, 1 - (1 - CONFIDENCE) / len(RATES)))
    every = Scored(ratios[~inside], ratios[inside])
    return Membership(_auroc(every), tuple(rates), max(lows), _roc(every), inside.shape[1], inside.shape[0])


def claimed_curve(plan: PrivacyPlan) -> TradeOff | None:
    """The trade-off curve of a plan's training steps, retries left out; None where nothing is claimed."""
    return trade_off([Event(plan.noise_multiplier, plan.sampling_rate, plan.steps)])


def contradicts(found: Membership, plan: PrivacyPlan) -> bool:
    """Whether the attack shows more than the plan claims.

    More members found than the curve allows, at the ends of the intervals that speak for the claim; or a lower
    bound on ε above the claimed ε.
    """
    curve = claimed_curve(plan)
    beyond = curve is not None and any(
        at.true_positive.low > curve.power(at.false_positive.high) for at in found.rates
    )
    return beyond or found.epsilon_low > plan.epsilon


def _auroc(scored: Scored) -> float:
    ranks = rankdata(np.concatenate([scored.outside, scored.inside]))
    outside, inside = len(scored.outside), len(scored.inside)
    return float((ranks[outside:].sum() - inside * (inside + 1) / 2) / (inside * outside))


def _roc(scored: Scored, points: int = 60) -> Matrix:
    """True positive rates at false positive rates from one decision to all, evenly spaced in the logarithm."""
    rates = np.geomspace(1 / len(scored.outside), 1.0, points)
    thresholds = np.quantile(scored.outside, 1 - rates)
    inside = np.sort(scored.inside)
    hits = 1 - np.searchsorted(inside, thresholds, side="right") / len(inside)
    return np.stack([rates, hits], axis=1)
