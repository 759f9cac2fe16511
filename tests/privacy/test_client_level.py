"""DP-FedAvg at a trusted coordinator: what it costs, what one client can move, and what is charged.

Accepting draws real entropy: a correct build fails one time in a million a test.
"""

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, norm

from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.privacy.calibration import scratch_ledger
from fedimg.privacy.client_level import ClientReleases
from fedimg.privacy.clipping import clipped_stream, clipped_vectors
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.noise import InsecureSeededEntropy, OsEntropy
from fedimg.privacy.plan import PrivacyRequest, make_plan
from fedimg.privacy.policy import SitePolicy

ACCEPT, REJECT = 1e-6, 1e-12
ASKED = {"mode": "client_level", "evaluation_share": 0.1, "local_steps": 5}
CLIENTS = tuple(f"client-{number:04d}" for number in range(1000))


def operating_system(_round, _task):
    return OsEntropy()


def seeded(round_number, task):
    return InsecureSeededEntropy(1, f"{round_number}", task)


@pytest.fixture
def releases(plan_of, ledger_for):
    """Releases under a plan with chosen numbers, roomy ledger, named so that several can stand side by side."""

    def make(entropy=operating_system, *, name="ledger.sqlite", **numbers):
        plan = plan_of(**(ASKED | {"declared": 1000} | numbers))
        return ClientReleases(plan, ledger_for(plan, name=name), entropy)

    return make


@pytest.fixture
def calibrated(tmp_path, signing_key):
    """A plan for 1,000 declared clients, made as a coordinator makes it."""

    def make(**changed):
        values = {"rounds": 40, "sampling_rate": 0.1, "epsilon": 6.0, "evaluations": 2}
        request = PrivacyRequest(**(ASKED | values | changed))
        policy = SitePolicy(declared_patients=1000, allow_client_level=True)
        ledger = scratch_ledger(tmp_path / "own.sqlite", signing_key, request, policy)
        try:
            return make_plan(request, policy, ledger)
        finally:
            ledger.disconnect()

    return make


# ------------------------------------------------------------------------------------------------ accounting


def composed(plan, accountant, factor=1.0):
    """ε by dp-accounting itself: T + r sampled Gaussians and the evaluations with theirs, one after another."""
    request = plan.request
    train = dp_accounting.PoissonSampledDpEvent(
        plan.sampling_rate, dp_accounting.GaussianDpEvent(plan.noise_multiplier * factor)
    )
    evaluate = dp_accounting.GaussianDpEvent(plan.evaluation_noise_multiplier * factor)
    whole = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.SelfComposedDpEvent(train, request.rounds + 2),
            dp_accounting.SelfComposedDpEvent(evaluate, request.evaluations + 1),
        ]
    )
    accountant.compose(whole)
    return accountant.get_epsilon(request.delta)


def test_epsilon_is_that_of_dp_accounting_for_adding_or_removing_one_client(calibrated):
    plan = calibrated()
    relation = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE
    exact = composed(plan, PLDAccountant(relation, value_discretization_interval=1e-4))
    assert abs(plan.epsilon - exact) < 0.005
    assert plan.epsilon <= 6.0
    assert exact > 5.9  # calibrated to the budget, not far below it
    assert composed(plan, RdpAccountant(neighboring_relation=relation)) > plan.epsilon  # a looser bound
    weaker = composed(plan, PLDAccountant(relation, value_discretization_interval=1e-3), factor=0.9)
    assert weaker > plan.epsilon + 0.3


def test_a_round_is_one_release_whatever_the_local_steps(calibrated):
    plan = calibrated()
    assert plan.steps == 40
    train, evaluate = plan.allowances
    assert (train.count, train.retries, train.sampling_rate) == (40, 2, 0.1)
    assert (evaluate.count, evaluate.retries, evaluate.sampling_rate) == (2, 1, 1.0)
    assert train.role == evaluate.role == "clients"  # the same client pays for both
    assert len(plan.roles) == 1


def test_the_record_names_the_unit_the_trust_and_against_whom_it_holds(calibrated):
    record = calibrated().release_record(unit="image")
    assert record["unit"] == "client"
    assert record["adjacency"] == "add_or_remove_one_client"
    assert record["declared_clients"] == 1000
    assert record["trusts"] == "the coordinator, which sees every update and adds the noise"
    assert record["holds_against"].startswith("those who see the released models; the coordinator knows")
    assert not {"declared_patients", "images_per_patient", "evaluated_patients"} & record.keys()


# -------------------------------------------------------------------------------------------------- the sum

Extreme = st.sampled_from([0.0, 1e-30, 1.0, 1e9, 1e200, np.inf, -np.inf, np.nan])
Update = st.lists(st.one_of(st.floats(-10, 10), Extreme), min_size=3, max_size=3).map(np.array)


@given(st.lists(Update, max_size=6), Update, st.floats(1e-3, 1e3), st.integers(0, 6))
def test_one_client_moves_the_sum_by_at_most_c(others, one, clip, where):
    where = min(where, len(others))
    without = clipped_stream(iter(others), 3, clip)
    with_it = clipped_stream([*others[:where], one, *others[where:]], 3, clip)
    assert np.isfinite(with_it.vector).all()
    moved = float(np.linalg.norm(with_it.vector - without.vector))
    assert moved <= clip * (1 + 1e-9)
    assert with_it.sensitivity == clip
    assert moved == 0 or np.isfinite(one).all()


def test_a_client_of_another_shape_counts_for_nothing():
    rows = [np.ones(3), np.ones(4), np.ones((3, 1)), np.zeros(0)]
    assert np.array_equal(clipped_stream(rows, 3, 10.0).vector, np.ones(3))


def test_the_stream_sums_like_the_rows_of_a_release_at_a_site():
    rows = np.random.default_rng(0).normal(size=(50, 7)) * np.logspace(-3, 3, 50)[:, None]
    assert np.array_equal(clipped_stream(rows, 7, 0.3).vector, clipped_vectors(rows, 0.3).vector)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(Update, st.integers(0, 4))
def test_one_client_moves_what_is_released_by_at_most_c(plan_of, tmp_path_factory, signing_key, one, where):
    """The whole release with equal noise on both sides (the insecure test mode): only the client differs."""
    plan = plan_of(**ASKED, declared=1000, sampling_rate=1.0, l2_clip_norm=0.5, noise=0.3)

    def released(rows):
        path = tmp_path_factory.mktemp("pair") / "l.sqlite"
        ledger = Ledger.create(path, signing_key, LedgerTerms(1e6, 1e-5, 2))
        ledger.reserve("run", plan)
        names = CLIENTS[: len(rows)]
        found = ClientReleases(plan, ledger, seeded).training_sum(1, names, 3, lambda _: iter(rows))
        ledger.disconnect()
        return found.vector

    others = list(np.random.default_rng(1).normal(size=(4, 3)) * 5)
    moved = np.linalg.norm(released([*others[:where], one, *others[where:]]) - released(others))
    assert moved <= 0.5 * (1 + 1e-5)  # noise is rounded to a grid of its standard deviation · 2⁻²⁰
    if 1 < np.abs(one).max() < 1e100:
        assert moved > 0.49


# ---------------------------------------------------------------------------------------------- the release


def two_sided(statistic, degrees):
    return 2 * min(chi2.cdf(statistic, degrees), chi2.sf(statistic, degrees))


def test_the_noise_is_sigma_times_c_once_for_the_whole_sum(releases):
    """Σ(r/σC)² ~ χ²; 0.9σ and a share of noise from each client are both far outside."""
    session = releases(noise=1.3, l2_clip_norm=0.2, rounds=20, evaluations=0, sampling_rate=0.05)
    zeros = np.zeros(4000)
    found = np.stack(
        [
            session.training_sum(r, CLIENTS, 4000, lambda cohort: (zeros for _ in cohort)).vector
            for r in range(1, 21)
        ]
    )
    total = float((found / (1.3 * 0.2)).__pow__(2).sum())
    assert two_sided(total, found.size) > ACCEPT
    assert two_sided(total / 0.9**2, found.size) < REJECT
    assert two_sided(total / 50, found.size) < REJECT
    units = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = (units @ units.T)[np.triu_indices(20, 1)] * np.sqrt(4000)
    assert np.abs(cosines).max() < norm.isf(ACCEPT / 2 / cosines.size)


def test_cohorts_are_those_of_independent_coins(releases):
    q, n, rounds = 0.1, 300, 250
    session = releases(rounds=rounds, evaluations=0, sampling_rate=q)
    cohorts = []

    def updates(cohort):
        cohorts.append(cohort)
        return iter(())

    for number in range(1, rounds + 1):
        session.training_sum(number, CLIENTS[:n], 1, updates)
    drawn = np.array([[name in set(cohort) for name in CLIENTS[:n]] for cohort in cohorts], dtype=float)
    spread = n * q * (1 - q)
    sizes = drawn.sum(axis=1)
    assert two_sided(float(((sizes - n * q) ** 2 / spread).sum()), rounds) > ACCEPT
    assert two_sided(0.0, rounds) < REJECT  # cohorts of one size, as by drawing without replacement
    counts = ((drawn.sum(axis=0) - rounds * q) ** 2 / (rounds * q * (1 - q))).sum()
    assert two_sided(float(counts), n) > ACCEPT
    overlaps = (drawn[1:] * drawn[:-1]).sum(axis=1)  # of one round with the next: independent coins again
    rate = q * q
    assert two_sided(float(((overlaps - n * rate) ** 2 / (n * rate * (1 - rate))).sum()), rounds - 1) > 1e-9
    doubled = ((2 * sizes - n * q) ** 2 / spread).sum()
    assert two_sided(float(doubled), rounds) < REJECT


def test_an_empty_cohort_releases_noise_and_is_charged(releases):
    session = releases(sampling_rate=1e-6, noise=1.0)
    asked = []

    def updates(cohort):
        asked.append(cohort)
        return iter(())

    found = session.training_sum(1, CLIENTS, 100, updates)
    assert asked == [()]
    assert session.ledger.statement.runs["run"].charged == {"train": 1}
    assert 0.3 < found.vector.std() < 3
    assert session.divisor == 1e-6 * 1000


def test_the_charge_is_on_the_disk_before_anyone_is_asked(releases):
    session = releases()
    charged = []

    def updates(cohort):
        charged.append(dict(session.ledger.statement.runs["run"].charged))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        session.training_sum(1, CLIENTS, 3, updates)
    assert charged == [{"train": 1}]
    with pytest.raises(RuntimeError):  # redone, and charged anew
        session.training_sum(1, CLIENTS, 3, updates)
    assert charged[-1] == {"train": 2}


def test_what_is_declared_and_its_retries_are_the_end(releases):
    session = releases(rounds=3, retry_allowance=1, evaluations=1)
    for number in range(4):
        session.training_sum(number, CLIENTS, 2, lambda _: iter(()))
    with pytest.raises(BudgetExhausted, match="at most 4 releases of kind train in this run"):
        session.training_sum(4, CLIENTS, 2, lambda _: pytest.fail("nobody may be asked"))
    for _ in range(2):
        session.evaluation_sum(3, CLIENTS, 2, lambda _: iter(()))
    with pytest.raises(BudgetExhausted, match="kind evaluate"):
        session.evaluation_sum(3, CLIENTS, 2, lambda _: pytest.fail("nobody may be asked"))


def test_the_divisor_is_declared_and_not_counted(releases):
    session = releases(declared=1000, sampling_rate=0.1)
    for clients in (CLIENTS, CLIENTS[:-1], CLIENTS[:3]):
        session.training_sum(1, clients, 2, lambda _: iter(()))
        assert session.divisor == 100.0


def test_an_evaluation_asks_everyone_and_clips_each_histogram_to_one(releases):
    asked = []

    def histograms(clients):
        asked.append(clients)
        return iter([np.array([0.6, 0.0]), np.array([30.0, 40.0]), np.array([np.nan, 1.0])])

    first, second = releases(seeded), releases(seeded, name="other.sqlite")  # equal noise
    found = first.evaluation_sum(1, CLIENTS, 2, histograms)
    noise = second.evaluation_sum(1, CLIENTS, 2, lambda _: iter(()))
    assert asked == [CLIENTS]
    assert np.abs(found.vector - noise.vector - [0.6 + 0.6, 0.8]).max() < 1e-4
    assert found.noise_std == 10.0


# ---------------------------------------------------------------------------------------------- refusals


def test_a_site_refuses_to_trust_the_coordinator_unless_its_policy_says_so():
    request = PrivacyRequest(**ASKED)
    with pytest.raises(PolicyRefused) as refused:
        SitePolicy(declared_patients=500).check(request)
    assert str(refused.value) == (
        "expected a mode that does not trust the coordinator (this site's policy, allow_client_level); "
        "found client_level; ask for a run that the policy allows, or change allow_client_level in the "
        "site's policy.yaml"
    )
    SitePolicy(declared_patients=500, allow_client_level=True).check(request)
    with pytest.raises(PolicyRefused, match="max_epsilon"):
        SitePolicy(declared_patients=500, allow_client_level=True, max_epsilon=1.0).check(request)


def test_evaluations_of_the_same_clients_need_a_share_of_the_budget():
    with pytest.raises(ConfigError, match="evaluation_share: a number between 0 and 1 with privacy=client"):
        PrivacyRequest(mode="client_level")
    PrivacyRequest(mode="client_level", evaluations=0)


def test_another_modes_plan_is_refused(plan_of, ledger_for):
    plan = plan_of()
    with pytest.raises(ConfigError, match="expected a plan of mode client_level; found per_site"):
        ClientReleases(plan, ledger_for(plan), operating_system)


def test_delta_is_held_to_a_tenth_of_the_declared_clients(calibrated):
    with pytest.raises(PolicyRefused, match="δ at most 1/"):
        calibrated(delta=2e-4)
