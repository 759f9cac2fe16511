"""Exact null distributions: the right mechanism is accepted, and each wrong one is rejected.

Accepting draws real entropy, so a correct build fails one time in a million a test.
"""

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest, norm

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.noise import InsecureSeededEntropy, OsEntropy, gaussian
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest, ReleaseSession
from fedimg.privacy.sampling import poisson_sample
from fedimg.values import SiteDataset

ACCEPT = 1e-6
REJECT = 1e-12
P, SIGMA, CLIP, STEPS = 5000, 1.7, 0.4, 20


class Constant:
    """A network whose gradient is zero: what is released is the noise."""

    def apply(self, flat, images):
        return images.new_zeros((images.shape[0], 2)) + 0 * flat.sum()


def two_sided(statistic, degrees):
    """Chance of a χ² at least as far out, in either direction."""
    return 2 * min(chi2.cdf(statistic, degrees), chi2.sf(statistic, degrees))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """(STEPS, P) released sums of a site whose patients contribute nothing, through the whole session."""
    request = PrivacyRequest(rounds=STEPS, sampling_rate=0.5, l2_clip_norm=CLIP, evaluations=0, engine="vmap")
    plan = PrivacyPlan(request, 100, 0.5, SIGMA, 0.0, 8.0, 8.0)
    key = SigningKey.from_bytes(b"k" * 32)
    ledger = Ledger.create(tmp_path_factory.mktemp("l") / "l.sqlite", key, LedgerTerms(1e6, 1e-5, 2))
    ledger.reserve("run", plan)
    session = ReleaseSession(plan, ledger, OsEntropy())
    dataset = SiteDataset(
        torch.zeros(8, 1, 2, 2), torch.zeros(8, dtype=torch.int64), tuple(map(str, range(8))), np.arange(9)
    )
    released = [session.gradient_step(torch.zeros(P), dataset, Constant()).vector for _ in range(STEPS)]
    ledger.disconnect()
    return np.stack(released)


@pytest.mark.parametrize(
    ("factor", "right"), [(1.0, True), (2 / 3, False), (1.5, False), (0.97, False), (1.03, False)]
)
def test_the_spread_of_what_is_released_is_sigma_times_c(noise, factor, right):
    """Σ(r/σC)² ~ χ² with STEPS·P = 10⁵ degrees: even 3 % more or less is seen."""
    p = two_sided(float((noise / (SIGMA * CLIP * factor)).__pow__(2).sum()), noise.size)
    assert p > ACCEPT if right else p < REJECT


def test_each_step_and_each_coordinate_has_its_share(noise):
    scaled = (noise / (SIGMA * CLIP)) ** 2
    by_step = [two_sided(s, P) for s in scaled.sum(axis=1)]
    by_coordinate = [two_sided(s, STEPS) for s in scaled.sum(axis=0)]
    assert min(by_step) > ACCEPT / STEPS
    assert min(by_coordinate) > ACCEPT / P


def test_the_shape_is_gaussian_and_a_uniform_of_the_same_spread_is_not(noise):
    assert kstest(noise.ravel() / (SIGMA * CLIP), "norm").pvalue > ACCEPT
    uniform = (np.arange(noise.size) + 0.5) / noise.size * np.sqrt(12) - np.sqrt(3)
    assert kstest(uniform, "norm").pvalue < REJECT


def cosines(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return (units @ units.T)[np.triu_indices(len(rows), 1)] * np.sqrt(rows.shape[1])


def test_no_two_steps_share_noise(noise):
    """√P·cos ~ N(0, 1) for each pair; reuse, even by a tenth, is far outside."""
    found = np.abs(cosines(noise)).max()
    limit = norm.isf(ACCEPT / 2 / (STEPS * (STEPS - 1) / 2))
    assert found < limit
    reused = noise.copy()
    reused[7] = 0.9 * reused[7] + 0.1 * noise[3] * 9
    assert np.abs(cosines(reused)).max() > limit


def test_the_tail_is_not_truncated():
    """Beyond 4σ lie 6.3e-5 of the draws: 2·10⁶ draws hold about 127; a generator cut at 4σ holds none."""
    draws = gaussian(2_000_000, 1.0, InsecureSeededEntropy(9))
    beyond = int((np.abs(draws) > 4).sum())
    assert 70 < beyond < 190
    assert np.abs(draws).max() > 4.5


def totals_p(sizes, n, q):
    return two_sided(float(((np.asarray(sizes) - n * q) ** 2 / (n * q * (1 - q))).sum()), len(sizes))


def test_batch_sizes_are_those_of_independent_coins():
    """Σ(B−nq)²/(nq(1−q)) ~ χ²_T; fixed batches have too little spread, doubled rates too much."""
    n, q, steps = 400, 0.2, 300
    entropy = OsEntropy()
    sizes = [poisson_sample(n, q, entropy).size for _ in range(steps)]
    assert totals_p(sizes, n, q) > ACCEPT
    assert totals_p([int(n * q)] * steps, n, q) < REJECT
    doubled = [poisson_sample(n, 2 * q, entropy).size for _ in range(steps)]
    assert totals_p(doubled, n, q) < REJECT


def test_every_patient_is_drawn_at_the_rate_and_pairs_are_independent():
    n, q, steps = 60, 0.3, 2000
    entropy = OsEntropy()
    drawn = np.zeros((steps, n))
    for row in drawn:
        row[poisson_sample(n, q, entropy)] = 1
    per_patient = ((drawn.sum(axis=0) - steps * q) ** 2 / (steps * q * (1 - q))).sum()
    assert two_sided(per_patient, n) > ACCEPT
    correlation = np.corrcoef(drawn.T)[np.triu_indices(n, 1)] * np.sqrt(steps)
    assert np.abs(correlation).max() < norm.isf(ACCEPT / 2 / correlation.size)
    shuffled = np.zeros_like(drawn)
    order = np.random.default_rng(0)
    for row in shuffled:
        row[order.permutation(n)[: int(n * q)]] = 1
    # a fixed batch size correlates every pair by −1/(n−1): the sum of all correlations shows it
    together = np.corrcoef(shuffled.T)[np.triu_indices(n, 1)].sum() * np.sqrt(steps / correlation.size)
    assert abs(correlation.sum() / np.sqrt(correlation.size)) < norm.isf(ACCEPT / 2)
    assert abs(together) > norm.isf(REJECT / 2)
