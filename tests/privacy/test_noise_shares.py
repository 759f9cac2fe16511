"""Noise in shares: its law, what it costs beyond the Gaussian's, and that a share alone goes nowhere."""

import hashlib
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import chi2, kstest

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.privacy.accounting import Event, epsilon, epsilon_prv
from fedimg.privacy.calibration import common_plan, make_plan, recomputed, scratch_ledger
from fedimg.privacy.discrete_gaussian import discrete_gaussian
from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.noise_shares import (
    SAMPLER,
    NoiseShares,
    closeness,
    closeness_at,
    keyed_noise,
    noised_steps,
)
from fedimg.privacy.plan import ReleaseSession
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.request import PrivacyRequest
from fedimg.privacy.tradeoff import trade_off
from fedimg.secagg.encoding import centred
from fedimg.values import ClippedSum, MaskedUpdate

REQUEST = PrivacyRequest(
    mode="distributed",
    epsilon=3.0,
    delta=1e-4,
    l2_clip_norm=0.3,
    sampling_rate=0.2,
    expected_batch_size=None,
    rounds=50,
    noise="discrete_gaussian",
)
SHARES = NoiseShares(8, 6, 1, 1000)
POLICY = SitePolicy(declared_patients=100, allow_shared_noise=True, max_delta=1e-3)
FLAT = torch.linspace(-1, 1, 10)


def mass(variance, reach):
    """N_ℤ(0, variance) on −reach … reach."""
    k = np.arange(-reach, reach + 1)
    weights = np.exp(-(k**2) / (2 * variance))
    return weights / weights.sum()


def rounded(std, reach):
    """N(0, std²) rounded to the nearest integer; by the lower tail, where nothing cancels."""
    k = -np.abs(np.arange(-reach, reach + 1))
    return ndtr((k + 0.5) / std) - ndtr((k - 0.5) / std)


def convolved(variance, shares, reach):
    """The sum of so many shares, on the same points; what is cut off is below 10⁻³⁰."""
    found = mass(variance, reach)
    for _ in range(shares - 1):
        found = np.convolve(found, mass(variance, reach))[reach:-reach]
    return found


@pytest.mark.parametrize(("variance", "shares"), [(0.5, 2), (0.5, 5), (1.0, 3), (1.0, 8), (2.0, 4)])
def test_shares_add_up_to_the_discrete_gaussian_within_the_published_bound(variance, shares):
    """Kairouz, Liu & Steinke 2021, Theorem 1's τ; no looser than it has to be by 10⁵."""
    reach = 40
    within = np.abs(np.arange(-reach, reach + 1)) <= 5 * math.sqrt(shares * variance)
    ratio = np.log(convolved(variance, shares, reach)[within] / mass(shares * variance, reach)[within])
    tau = 10 * sum(math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, shares))
    assert 1e-5 * tau < np.abs(ratio).max() <= tau


@given(st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.6]), min_size=2, max_size=5))
def test_parts_of_different_widths_add_up_within_the_bound_of_each_addition(variances):
    """Theorem 9 of the same paper: 5·exp(−2π²ab/(a + b)) for each, whatever the order."""
    reach = 40
    found, wide, bound = mass(variances[0], reach), variances[0], 0.0
    for variance in variances[1:]:
        found = np.convolve(found, mass(variance, reach))[reach:-reach]
        bound += 5 * math.exp(-2 * math.pi**2 * wide * variance / (wide + variance))
        wide += variance
    within = np.abs(np.arange(-reach, reach + 1)) <= 5 * math.sqrt(wide)
    assert np.abs(np.log(found[within] / mass(wide, reach)[within])).max() <= bound + 1e-12


@pytest.mark.parametrize("std", [6.0, 10.0, 25.0])
def test_shares_are_as_close_to_the_rounded_gaussian_as_claimed(std):
    """Exactly, in one dimension; the bound downwards holds where the Gaussian has all but a little of its mass."""
    shares, reach = 2, round(12 * std)
    p, r = convolved(std**2 / shares, shares, reach), rounded(std, reach)
    near, within = (
        closeness_at(std, 1, std**2 / shares, shares),
        slice(reach - round(8 * std), reach + round(8 * std) + 1),
    )
    apart = np.log(p[within] / r[within])
    assert 0.3 / (8 * std**2) < apart.max() <= near.up  # the true one is a third of the bound: E[u²] = 1/12
    # downwards it grows with the square of the outcome: that of the claim is as far out as has probability e^−200
    furthest = 8 + 1 / (2 * std)
    assert 0.3 * furthest**2 / (8 * std**2) < -apart.min() <= furthest**2 / (8 * std**2) < near.down


@pytest.mark.parametrize(("shift", "steps", "rate"), [(3, 1, 1.0), (5, 4, 1.0), (4, 3, 0.4)])
def test_the_stated_epsilon_holds_for_the_exact_distributions(shift, steps, rate):
    """δ at the stated ε by convolving loss distributions, in both directions, and it is broken at half the ε."""
    std, shares, reach = 9.0, 3, 120
    noise, near = convolved(std**2 / shares, shares, reach), closeness_at(std, steps, std**2 / shares, shares)
    with_unit = np.zeros_like(noise)
    with_unit[shift:] = noise[:-shift]
    with_unit = (1 - rate) * noise + rate * with_unit
    delta = 1e-3
    stated = near.epsilon(epsilon([Event(std / shift, rate, steps)], near.inner(delta)))
    for upper, lower in ((with_unit, noise), (noise, with_unit)):
        assert hockey_stick(upper, lower, steps, stated) <= delta
    assert hockey_stick(with_unit, noise, steps, stated / 2) > delta


def hockey_stick(upper, lower, steps, at):
    """E[max(0, 1 − e^(ε − loss))] of `steps` independent outcomes; losses are binned upwards, so it is never too small."""
    found = np.array([(0.0, 1.0)])
    kept = (upper > 1e-18) & (lower > 1e-18)
    with np.errstate(divide="ignore"):
        one = np.stack([np.log(upper[kept] / lower[kept]), upper[kept]], axis=1)
    for _ in range(steps):
        losses = (found[:, :1] + one[:, 0]).ravel()
        weights = (found[:, 1:] * one[:, 1]).ravel()
        bins = np.ceil(losses * 1e4).astype(np.int64)
        names, places = np.unique(bins, return_inverse=True)
        found = np.stack([names / 1e4, np.bincount(places, weights)], axis=1)
    return float((found[:, 1] * np.maximum(0, 1 - np.exp(at - found[:, 0]))).sum())


def test_what_a_patient_is_exposed_to_is_a_little_more_than_with_gaussian_noise():
    events = [Event(3.0, 0.2, 100)]
    plain, shared = (trade_off(each) for each in (events, [replace(events[0], coordinates=10**6)]))
    for rate in (1e-3, 1e-2, 0.3):
        assert plain.power(rate) < shared.power(rate) < plain.power(rate) + 1e-4
    assert plain.advantage < shared.advantage < plain.advantage + 1e-4


def test_closeness_is_nothing_beside_the_promise_and_everything_where_the_grid_is_coarse():
    near = closeness(1.0, 10_000 * 400)
    assert near.up + near.down < 2e-6
    assert closeness(1.0, 10**9).up + closeness(1.0, 10**9).down < 3e-4
    assert closeness(2.0**-13, 1).up == math.inf
    events = [Event(1.2, 0.1, 100)]
    shared = [replace(events[0], coordinates=5000)]
    for accountant in (epsilon, epsilon_prv):
        assert accountant(events, 1e-5) < accountant(shared, 1e-5) < accountant(events, 1e-5) + 1e-5
    assert epsilon([replace(shared[0], coordinates=10**12)], 1e-5) > epsilon(events, 1e-5) + 0.1
    with pytest.raises(ConfigError, match="a δ above"):
        near.inner(1e-45)
    with pytest.raises(ConfigError, match="Gaussian in sum"):
        Event(1.0, 1.0, 1, "discrete_gaussian", 5)
    with pytest.raises(ConfigError, match="beside Gaussian noise only"):
        epsilon([shared[0], Event(1.0, 1.0, 1, "discrete_gaussian")], 1e-5)


@given(
    threshold=st.integers(3, 34),
    more=st.integers(0, 16),
    colluders=st.integers(1, 30),
    noise=st.floats(0.2, 50),
    norm=st.floats(1e-3, 1e3),
)
def test_whoever_survives_the_honest_have_the_whole_noise_and_hardly_more(
    threshold, more, colluders, noise, norm
):
    """For each number of drop-outs that the threshold allows."""
    colluders = min(colluders, threshold - 2)
    shares = NoiseShares(threshold + more, threshold, colluders, 1)
    parts, std = shares.parts(noise, norm), noise * norm / integer_grid(norm)
    assert len(parts) == 1 + more
    for dropped in range(1 + more):
        honest = shares.sites - colluders - dropped
        assert std**2 * (1 - 1e-12) <= honest * sum(parts[: 1 + dropped]) <= std**2 * (1 + 1e-12) + honest


def opened(shares):
    """What each of these sums holds, by the only way there is."""
    seen = []

    def look(words):
        seen.append(centred(words))
        return MaskedUpdate(words)

    for share in shares:
        share.mask(look)
    return np.sum(seen, axis=0)


@pytest.mark.parametrize("factor", [1.0, 0.97, 1.03])
def test_the_noise_of_the_honest_sites_is_the_noise_of_the_plan_whoever_drops_out(factor):
    """And 3 % more or less is told."""
    sigma, norm, size = 1.7, 0.3, 40_000
    zero, stream = ClippedSum(np.zeros(size), norm), InsecureSeededEntropy(5)
    parts = SHARES.parts(factor * sigma, norm)
    for dropped in range(3):
        total = np.zeros(size)
        for _ in range(8 - 1 - dropped):  # the honest ones that are left
            steps, keys = noised_steps(zero, sigma * factor, SHARES, 10, stream)
            total += steps - sum(
                (keyed_noise(keys[d - 1], parts[d], size) for d in range(dropped + 1, 3)), np.zeros(size)
            )
        scaled = total * integer_grid(norm) / (sigma * norm)
        likely = min(chi2.cdf((scaled**2).sum(), size), chi2.sf((scaled**2).sum(), size))
        assert (likely > 1e-4) == (factor == 1.0), dropped
        assert kstest(scaled / factor, "norm").pvalue > 1e-3
    # and nobody who has not seen the keys can do without more
    assert np.var(steps * integer_grid(norm)) == pytest.approx(sum(parts) * integer_grid(norm) ** 2, rel=0.05)


def test_a_coordinate_beyond_the_declared_patients_is_clamped_before_the_noise():
    """Whoever has more patients than declared; the noise is the same for the same stream, so it is not clamped."""
    norm, grid = 0.3, integer_grid(0.3)
    sums = [np.array([value, 0.0, -value]) * norm for value in (3.0, 50.0)]
    clean = [np.trunc(vector / grid) * grid for vector in sums]
    few, many = (
        noised_steps(ClippedSum(c, norm), 1.0, SHARES, 3, InsecureSeededEntropy(1))[0] for c in clean
    )
    assert np.abs(few - many).max() <= 1
    wide, _ = noised_steps(ClippedSum(clean[1], norm), 1.0, SHARES, 99, InsecureSeededEntropy(1))
    assert (wide - few)[0] * grid == pytest.approx(47 * norm, rel=1e-5)


def test_what_is_no_sum_of_integers_and_shares_of_too_little_noise_are_refused():
    with pytest.raises(ConfigError, match="a sum of patients' integers"):
        noised_steps(ClippedSum(np.array([1e-9]), 1.0), 1.0, SHARES, 1, OsEntropy())
    with pytest.raises(ConfigError, match="at least 3 steps of the grid"):
        SHARES.parts(2.0**-20, 1.0)
    for numbers in ((51, 40, 1, 1), (8, 6, 0, 1), (8, 3, 2, 1), (5, 6, 1, 1), (8, 6, 1, 0)):
        with pytest.raises(ConfigError, match="two honest ones of which survive"):
            NoiseShares(*numbers)


def test_the_common_plan_follows_from_public_numbers_and_is_accounted_for():
    plan, other = (common_plan(REQUEST, patients, SHARES) for patients in (100, 99_000))
    assert plan.noise_multiplier == other.noise_multiplier
    assert 2.99 < plan.epsilon <= 3.0
    assert plan.epsilon_second == pytest.approx(plan.epsilon, abs=0.02)
    assert recomputed(plan) == (plan.epsilon, plan.epsilon_second)
    alone = replace(REQUEST, mode="per_site", noise="gaussian", retry_allowance=0)
    of_one = make_plan(alone, POLICY, scratch(alone))
    assert plan.noise_multiplier == pytest.approx(of_one.noise_multiplier, rel=2e-3)
    assert plan.release_record()["noise_shares"] == {"sites": 8, "threshold": 6, "colluders": 1}
    assert {method["method"] for method in plan.release_record()["accountants"]} == {"PLD", "PRV"}
    assert plan.digest != replace(plan, sum_threshold=7).digest
    assert plan.epsilon_after(10, 0) < plan.epsilon_after(50, 1) <= plan.epsilon


def scratch(request, epsilon_max=None):
    path = scratch.folder / f"ledger-{len(list(scratch.folder.iterdir()))}.sqlite"
    return scratch_ledger(path, SigningKey(bytes(range(32))), request, POLICY, epsilon_max)


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    scratch.folder = tmp_path


def test_a_ledger_that_cannot_hold_the_common_noise_refuses_and_raises_nothing():
    """More noise at one site would be more noise in its share only: others count on the common one."""
    ledger = scratch(REQUEST)
    assert make_plan(REQUEST, POLICY, ledger, SHARES).epsilon <= 3.0
    ledger.reserve("first", make_plan(REQUEST, POLICY, ledger, SHARES))
    with pytest.raises(BudgetExhausted, match="room for ε = 3"):
        make_plan(REQUEST, POLICY, ledger, SHARES)


def test_policies_decide_on_shared_noise():
    with pytest.raises(PolicyRefused, match="allow_shared_noise"):
        make_plan(REQUEST, replace(POLICY, allow_shared_noise=False), scratch(REQUEST), SHARES)
    with pytest.raises(PolicyRefused, match="min_noise_multiplier"):
        make_plan(REQUEST, replace(POLICY, min_noise_multiplier=9.0), scratch(REQUEST), SHARES)
    with pytest.raises(PolicyRefused, match="min_colluders"):
        replace(POLICY, min_colluders=3).check_shared_noise(2)
    with pytest.raises(ConfigError, match="secure sums in a run with privacy=distributed"):
        make_plan(REQUEST, POLICY, scratch(REQUEST))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"noise": "gaussian"}, "discrete_gaussian with privacy=distributed"),
        ({"sampling_rate": None, "expected_batch_size": 64.0}, "the same at every site"),
        ({"local_steps": 2}, "set training.local_steps=1"),
        ({"max_sites_per_patient": 2}, "patients at one site each"),
    ],
)
def test_a_request_that_sites_could_not_draw_alike_is_refused(changed, expected):
    with pytest.raises(ConfigError, match=expected):
        replace(REQUEST, **changed)


def test_a_share_is_charged_before_the_data_are_read_and_has_no_other_way_out(patients, linear):
    ledger = scratch(REQUEST)
    plan = make_plan(REQUEST, POLICY, ledger, SHARES)
    ledger.reserve("run", plan)
    session = ReleaseSession(plan, ledger, OsEntropy())

    def dies():
        assert ledger.statement.runs["run"].charged == {"train": 1}
        raise RuntimeError

    with pytest.raises(RuntimeError):
        session.contribute("train", dies, plan.noise_multiplier)
    share = session.gradient_share(FLAT, patients([1, 2, 3]), linear)
    assert session.releases[-1] == share.release_id
    assert not hasattr(share, "to_bytes")
    assert not hasattr(share, "vector")
    with pytest.raises(TypeError, match="never stored or sent"):
        pickle.dumps(share)
    assert not any(character.isdigit() for character in repr(share).split("object at")[0])
    with pytest.raises(ConfigError, match="a release that is a secure sum"):
        session.gradient_step(FLAT, patients([1]), linear)
    with pytest.raises(ConfigError, match="use `release`"):
        ReleaseSession(
            replace(plan, request=replace(REQUEST, mode="per_site"), sum_sites=0), ledger, OsEntropy()
        ).histogram_share(lambda: np.zeros((0, 3)))


def test_shares_of_a_step_are_the_clipped_sums_and_discrete_gaussian_noise(patients, linear):
    """Rebuilt from its parts with the same insecure stream, and placed among the coordinates of the whole."""
    ledger = scratch(REQUEST)
    plan = make_plan(REQUEST, POLICY, ledger, SHARES)
    ledger.reserve("run", plan)
    rows = np.eye(4) * 0.5
    share = ReleaseSession(plan, ledger, InsecureSeededEntropy(2)).histogram_share(lambda: rows)
    own, *further = SHARES.parts(plan.evaluation_noise_multiplier, 1.0)
    stream = InsecureSeededEntropy(2)
    expected = rows.sum(axis=0) / integer_grid(1.0) + discrete_gaussian(4, own, stream)
    for key, variance in zip(share.excess, further, strict=True):
        assert key == stream.bytes(32)
        expected += keyed_noise(key, variance, 4)
    assert np.array_equal(opened([share]), expected)
    placed = opened([share.placed(slice(2, 6), 8)])
    assert np.array_equal(placed, [0, 0, *expected, 0, 0])


def test_the_noise_of_a_key_is_the_one_that_sites_and_coordinators_agree_on():
    """By the sampler's name: whoever changes these numbers changes `SAMPLER` too."""
    drawn = keyed_noise(bytes(range(32)), 10**9, 1000).astype("<i8")
    digest = hashlib.sha256(drawn.tobytes()).hexdigest()
    assert (SAMPLER, digest[:16]) == ("sampler 1", "45c0eb29c032d168")
