"""Rules that withstand lying sites: what they promise on any updates, and four attacks that the mean fails."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError, FederationError
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.privacy.plan import PrivacyRequest
from fedimg.robust import (
    OVER_GROUPS,
    RULES,
    bulyan,
    krum,
    least_sites,
    median,
    robust,
    squared_distances,
    trimmed_mean,
    within_the_median_norm,
)
from fedimg.run_sums import sums_of
from fedimg.secagg.config import SecaggConfig
from fedimg.secagg.encoding import OpenedSum, centred
from fedimg.secagg.roster import Roster
from fedimg.terms import Terms
from fedimg.training import LocalTraining

LIARS = 2
HONEST, SITES = 9, 11  # Bulyan's 4f + 3


@given(st.sampled_from(sorted(RULES)), st.integers(1, 3), st.integers(0, 3), st.integers(0, 2**32), st.data())
def test_liars_cannot_carry_a_coordinate_beyond_the_honest_ones(rule, liars, more, seed, data):
    """Median, trimmed mean and Bulyan stay within the honest values of each coordinate; Krum gives one update."""
    rng = np.random.default_rng(seed)
    sites = least_sites(rule, liars) + more
    honest = rng.normal(0, 1, (sites - liars, 4))
    scale = 10.0 ** data.draw(st.integers(-3, 12))
    rows = np.concatenate([honest, rng.normal(0, 1, (liars, 4)) * scale])
    result = robust(rng.permutation(rows), rule, liars)
    if rule == "krum":
        assert (rows == result).all(axis=1).any()
        assert np.linalg.norm(result) <= 3 * np.linalg.norm(honest, axis=1).max() or scale <= 100
    else:
        slack = 1e-12
        assert (result >= honest.min(axis=0) - slack).all()
        assert (result <= honest.max(axis=0) + slack).all()


@given(st.sampled_from(sorted(RULES)), st.integers(0, 2**32))
def test_the_order_of_sites_does_not_matter_and_equal_updates_are_their_value(rule, seed):
    """Two sites that are each other's nearest tie in Bulyan's last picks: the coordinator sorts by name."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(SITES, 5))
    if rule != "bulyan":
        assert robust(rng.permutation(rows), rule, LIARS) == pytest.approx(robust(rows, rule, LIARS))
    assert robust(np.tile(rows[0], (SITES, 1)), rule, LIARS) == pytest.approx(rows[0])


def test_by_hand():
    column = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [100.0], [-50.0]])
    assert median(column, 1) == [2.0]
    assert trimmed_mean(column, 1) == [2.0]  # of 0 … 4
    # scores over the 7 − 1 − 2 = 4 nearest: 2 has 1 + 1 + 4 + 4
    assert squared_distances(column)[2].tolist() == [4, 1, 0, 1, 4, 98**2, 52**2]
    assert krum(column, 1) == [2.0]
    # five are picked: 2, then the outliers last; of those the three nearest to their median 2
    assert bulyan(column, 1) == [2.0]


def by_loops_krum(rows, liars):
    """Blanchard et al. 2017, word by word."""
    scores = []
    for i, one in enumerate(rows):
        distances = sorted(float(((one - other) ** 2).sum()) for j, other in enumerate(rows) if j != i)
        scores.append(sum(distances[: len(rows) - liars - 2]))
    return int(np.argmin(scores))


def by_loops_bulyan(rows, liars):
    """El Mhamdi et al. 2018, algorithm 2, with Krum as its rule."""
    left, chosen = list(rows), []
    for _ in range(len(rows) - 2 * liars):
        scores = []
        for i, one in enumerate(left):
            distances = sorted(float(((one - other) ** 2).sum()) for j, other in enumerate(left) if j != i)
            scores.append(sum(distances[: max(1, len(left) - liars - 2)]))
        chosen.append(left.pop(int(np.argmin(scores))))
    result = []
    for values in np.array(chosen).T:
        middle = np.median(values)
        result.append(np.mean(sorted(values, key=lambda v: abs(v - middle))[: len(values) - 2 * liars]))
    return np.array(result)


@given(st.integers(0, 2**32), st.integers(1, 2), st.integers(0, 3))
def test_krum_and_bulyan_agree_with_their_papers_in_plain_loops(seed, liars, more):
    rows = np.random.default_rng(seed).normal(size=(4 * liars + 3 + more, 3))
    assert krum(rows, liars) == pytest.approx(rows[by_loops_krum(rows, liars)])
    assert bulyan(rows, liars) == pytest.approx(by_loops_bulyan(rows, liars))


@pytest.mark.parametrize(("rule", "least"), [("median", 5), ("trimmed_mean", 5), ("krum", 7), ("bulyan", 11)])
def test_too_few_updates_are_refused(rule, least):
    assert least_sites(rule, LIARS) == least
    with pytest.raises(FederationError, match=f"at least {least} sites for aggregation.robust={rule}"):
        robust(np.zeros((least - 1, 2)), rule, LIARS)
    with pytest.raises(ConfigError, match="median or trimmed_mean"):
        least_sites("mean", 1)


# ---------------------------------------------------------------- attacks on a small federation

FEATURES, TRIGGER = 12, 11  # the last feature is 0 in nature, and 4 where somebody has planted the trigger


@dataclass
class Federation:
    """Logistic regression over 11 sites, 2 of which attack."""

    attack: str
    rule: str
    honest: int = HONEST

    def data(self, rng, number):
        labels = rng.integers(0, 2, number)
        images = rng.normal(0, 1, (number, FEATURES)) + np.outer(2 * labels - 1, self.direction) * 1.2
        images[:, TRIGGER] = 0.0
        return images, labels.astype(float)

    def run(self):
        rng = np.random.default_rng(7)
        self.direction = rng.normal(size=FEATURES)
        self.direction /= np.linalg.norm(self.direction)
        sites = [self.data(rng, 80) for _ in range(self.honest + LIARS)]
        weights = np.zeros(FEATURES + 1)
        for _ in range(25):
            updates = [self.local(weights, *sites[k]) for k in range(self.honest)]
            updates += [self.lie(weights, *site) for site in sites[self.honest :]]
            weights = weights + self.together(np.stack(updates))
        images, labels = self.data(rng, 4000)
        triggered = images[labels == 0].copy()
        triggered[:, TRIGGER] = 4.0
        return (
            float((self.predict(weights, images) == labels).mean()),
            float((self.predict(weights, triggered) == 1).mean()),
        )

    def together(self, rows):
        return rows.mean(axis=0) if self.rule == "mean" else robust(rows, self.rule, LIARS)

    @staticmethod
    def predict(weights, images):
        return images @ weights[:-1] + weights[-1] > 0

    @staticmethod
    def local(weights, images, labels, steps=5, rate=0.3):
        after = weights.copy()
        ones = np.hstack([images, np.ones((len(images), 1))])
        for _ in range(steps):
            scores = np.clip(ones @ after, -30, 30)
            after -= rate * ones.T @ (1 / (1 + np.exp(-scores)) - labels) / len(labels)
        return after - weights

    def lie(self, weights, images, labels):
        if self.attack == "sign flip":
            return -8 * self.local(weights, images, labels)
        if self.attack == "scaled":
            return 1e3 * np.random.default_rng(3).normal(size=FEATURES + 1)
        if self.attack == "label flip":
            return 8 * self.local(weights, images, 1 - labels)
        planted = images.copy()
        planted[: len(planted) // 2, TRIGGER] = 4.0
        wanted = labels.copy()
        wanted[: len(planted) // 2] = 1.0
        return 6 * self.local(weights, planted, wanted)  # boosted, as a replacement of the model


@pytest.mark.parametrize("attack", ["sign flip", "scaled", "label flip", "backdoor"])
def test_an_attack_that_the_mean_fails_is_withstood_by_each_rule(attack):
    honest, natural = Federation("none", "median"), None
    honest.lie = honest.local
    clean, natural = honest.run()
    assert clean > 0.85
    accuracy, opened = Federation(attack, "mean").run()
    assert opened > 0.9 if attack == "backdoor" else accuracy < 0.6, (accuracy, opened)
    for rule in RULES:
        kept, still = Federation(attack, rule).run()
        assert kept > clean - 0.05, (rule, kept)
        if attack == "backdoor":
            assert still < natural + 0.25, (rule, still)


class InGroups(Federation):
    """The same over 18 sites in 6 groups: of each group the coordinator sees the sum of masked words only."""

    groups = 6

    def together(self, rows):
        names = [f"site-{k:02d}" for k in range(len(rows))]
        keys = {name: bytes([k + 1]) * 32 for k, name in enumerate(names)}
        sums = sums_of(TERMS, Roster(keys, dict.fromkeys(names, 80.0)), FEATURES + 1)
        means = []
        for group in sums:
            words = [
                group.encoded(name, "train", rows[names.index(name)]).words
                for name in group.roster.identities
            ]
            total = centred(np.sum(words, axis=0, dtype=words[0].dtype))  # as masks leave it (tests/secagg)
            means.append(group.mean(OpenedSum(total, tuple(group.roster.identities))))
        if self.rule == "mean":
            return np.mean(means, axis=0)
        return robust(within_the_median_norm(np.stack(means)), self.rule, LIARS)


TERMS = Terms(
    run_id="run",
    rounds=25,
    model=ModelConfig(),
    training=LocalTraining(),
    imaging=ImagingConfig(),
    privacy=PrivacyRequest(rounds=25),
    deid_profile="train",
    validation_fraction=0.2,
    bins=8,
    seed=0,
    secagg=SecaggConfig("pairwise", groups=InGroups.groups, clamp=64.0),
)


@pytest.mark.parametrize("attack", ["sign flip", "scaled", "label flip", "backdoor"])
def test_an_attack_on_hidden_updates_that_one_sum_fails_is_withstood_across_groups(attack):
    """Nobody sees a site's update, and still two liars of eighteen do not get through."""
    many = 18 - LIARS
    honest = InGroups("none", "median", many)
    honest.lie = honest.local
    clean, natural = honest.run()
    assert clean > 0.85
    accuracy, opened = InGroups(attack, "mean", many).run()
    assert opened > 0.9 if attack == "backdoor" else accuracy < 0.75, (accuracy, opened)
    for rule in OVER_GROUPS:
        kept, still = InGroups(attack, rule, many).run()
        assert kept > clean - 0.05, (rule, kept)
        if attack == "backdoor":
            assert still < natural + 0.25, (rule, still)


@given(st.integers(0, 2**32), st.integers(1, 8))
def test_no_opened_sum_is_longer_than_the_median_one(seed, groups):
    rows = np.random.default_rng(seed).normal(size=(groups, 4)) * 10.0 ** np.arange(groups)[:, None]
    clipped = within_the_median_norm(rows)
    middle = np.median(np.linalg.norm(rows, axis=1))
    assert (np.linalg.norm(clipped, axis=1) <= middle * (1 + 1e-12)).all()
    short = np.linalg.norm(rows, axis=1) <= middle
    assert np.array_equal(clipped[short], rows[short])
    assert np.array_equal(within_the_median_norm(np.zeros((3, 2))), np.zeros((3, 2)))
