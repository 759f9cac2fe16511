import json
import math
import re
from dataclasses import replace

import pytest

from fedimg.errors import BudgetExhausted, ConfigError, PolicyRefused
from fedimg.privacy.accounting import epsilon, epsilon_prv
from fedimg.privacy.calibration import make_plan, scratch_ledger
from fedimg.privacy.federation import composed_epsilon, federation_epsilon
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.renyi import epsilon_rdp, rdp
from fedimg.privacy.request import PrivacyRequest

POLICY = SitePolicy(500)
REQUEST = PrivacyRequest(
    epsilon=3.0, expected_batch_size=100.0, rounds=50, evaluations=2, evaluation_share=0.05
)
HELD_OUT = replace(REQUEST, evaluation_share=None)


@pytest.fixture
def ledger(tmp_path, signing_key):
    made = scratch_ledger(tmp_path / "l.sqlite", signing_key, REQUEST, POLICY)
    yield made
    made.disconnect()


def test_everything_declared_and_retried_together_costs_at_most_epsilon(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    (events,) = plan.roles
    assert [(e.count, e.sampling_rate) for e in events] == [(52, 0.2), (3, 1.0)]
    assert 2.98 < plan.epsilon == epsilon(events, 2e-5) <= 3.0
    assert plan.epsilon_second == epsilon_prv(events, 2e-5) == pytest.approx(plan.epsilon, abs=0.02)


def test_evaluation_noise_is_calibrated_on_its_own_share(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    assert epsilon(plan.roles[0][1:], 0.05 * 2e-5) == pytest.approx(0.05 * 3.0, rel=2e-3)


def test_held_out_patients_cost_no_training_patient_anything(ledger):
    """Parallel composition: nobody is in both groups, so the larger cost counts and not the sum."""
    plan = make_plan(HELD_OUT, POLICY, ledger)
    training, held_out = plan.roles
    assert [(e.count, e.sampling_rate) for e in training] == [(52, 0.2)]
    assert [(e.count, e.sampling_rate) for e in held_out] == [(3, 1.0)]
    assert epsilon(held_out, 2e-5) == pytest.approx(1.5, rel=2e-3)
    assert plan.epsilon == epsilon(training, 2e-5) <= 3.0
    assert plan.epsilon < epsilon([*training, *held_out], 2e-5)
    # The ledger's filter reserves the costlier role, and a smaller budget than that is not enough.
    ledger.reserve("one", plan)
    order = ledger.terms.order
    spent = ledger.terms.budget - ledger.remaining
    assert spent == pytest.approx(max(sum(rdp(e, order) for e in role) for role in plan.roles))
    assert spent < sum(rdp(e, order) for role in plan.roles for e in role)


def test_a_patient_in_training_here_and_held_out_there_pays_the_worst_of_all_combinations(ledger, changed):
    plan = make_plan(HELD_OUT, POLICY, ledger)
    twice = changed(plan, request=changed(HELD_OUT, max_sites_per_patient=2))
    training = plan.roles[0]
    assert federation_epsilon([twice, twice]) == epsilon([*training, *training], 2e-5)


def test_public_constants_come_from_the_declared_size_alone(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    assert plan.sampling_rate == 100 / 500
    assert plan.expected_batch_size == pytest.approx(100)


def test_a_scratch_ledger_holds_its_run_and_not_a_second_one(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    assert ledger.terms.scratch
    assert ledger.terms.epsilon_max == 1.25 * 3.0
    ledger.reserve("one", plan)
    with pytest.raises(
        BudgetExhausted, match=r"room for ε = 3 .*in this site's ledger; found 0\.\d+ left at Rényi order"
    ) as refusal:
        make_plan(REQUEST, POLICY, ledger)
    # What the remedy names fits, and a tenth more does not.
    named = re.search(r"privacy\.epsilon=([\d.e-]+) or less", refusal.value.remedy)
    assert named is not None
    largest = float(named.group(1))
    make_plan(replace(REQUEST, epsilon=largest), POLICY, ledger)
    with pytest.raises(BudgetExhausted):
        make_plan(replace(REQUEST, epsilon=1.15 * largest), POLICY, ledger)


def test_noise_is_raised_a_little_so_that_the_filter_holds_too(tmp_path, signing_key):
    """At ε_max = ε the filter wants 7 to 13 % more noise than the privacy loss distribution."""
    ledger = scratch_ledger(tmp_path / "l.sqlite", signing_key, REQUEST, POLICY, epsilon_max=3.0)
    plan = make_plan(REQUEST, POLICY, ledger)
    roomy = Ledger.create(tmp_path / "r.sqlite", signing_key, LedgerTerms(100.0, 2e-5, 4))
    loose = make_plan(REQUEST, POLICY, roomy)
    assert 1.05 < plan.noise_multiplier / loose.noise_multiplier < 1.15
    assert plan.epsilon < loose.epsilon
    assert sum(rdp(event, ledger.terms.order) for event in plan.roles[0]) <= ledger.remaining
    ledger.reserve("fits", plan)
    ledger.disconnect()
    roomy.disconnect()


@pytest.mark.parametrize(
    ("policy", "rule"),
    [
        ({"max_epsilon": 1.0}, "max_epsilon"),
        ({"declared_patients": 5001}, r"declared patients.*set privacy\.delta to at most 1.99e-05"),
        ({"min_noise_multiplier": 50.0}, "min_noise_multiplier"),
    ],
)
def test_the_sites_policy_is_asked_before_and_after(ledger, policy, rule):
    with pytest.raises(PolicyRefused, match=rule):
        make_plan(REQUEST, SitePolicy(**({"declared_patients": 500} | policy)), ledger)


def test_a_private_run_needs_a_ledger():
    with pytest.raises(ConfigError, match="a ledger for a private run"):
        make_plan(REQUEST, POLICY, None)


def test_the_digest_moves_with_every_number(ledger, changed):
    plan = make_plan(REQUEST, POLICY, ledger)
    others = [
        changed(plan, noise_multiplier=plan.noise_multiplier * 1.0001),
        changed(plan, sampling_rate=0.21),
        changed(plan, declared_patients=501),
        changed(plan, request=changed(REQUEST, l2_clip_norm=0.5)),
        changed(plan, request=changed(REQUEST, images_per_patient=5)),
    ]
    assert len({p.digest for p in [plan, *others]}) == 6
    assert plan.digest == changed(plan).digest


def test_epsilon_by_round_grows_to_what_was_promised(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    curve = [plan.epsilon_after(steps, 0) for steps in (0, 1, 10, 50)]
    assert curve == sorted(curve)
    assert curve[0] == 0
    assert plan.epsilon_after(50, 2) < plan.epsilon == plan.epsilon_after(52, 3)


def test_the_release_record_says_what_is_promised(ledger):
    record = make_plan(REQUEST, POLICY, ledger).release_record()
    json.dumps(record, allow_nan=False)
    assert record["private"] is True
    assert (record["unit"], record["adjacency"]) == ("patient", "add_or_remove_one_patient")
    assert record["epsilon"] <= 3.0
    assert [a["method"] for a in record["accountants"]] == ["PLD", "PRV"]
    assert record["steps"] == 50
    assert record["sampler"] == "poisson"
    assert (
        make_plan(REQUEST, POLICY, ledger).release_record(unit="image")["adjacency"]
        == "add_or_remove_one_image"
    )


def test_nothing_is_called_private_that_is_not(ledger):
    insecure = make_plan(REQUEST, POLICY, ledger).release_record(insecure=True)
    open_run = make_plan(PrivacyRequest(mode="none"), SitePolicy(500, allow_non_private=True), None)
    for record in (insecure, open_run.release_record()):
        json.dumps(record, allow_nan=False)
        assert record["private"] is False
        assert record["epsilon"] is None
        assert all(a["epsilon"] is None for a in record["accountants"])
    assert insecure["noise_source"] == "insecure seed"
    assert len(open_run.digest) == 64


def test_the_federations_epsilon_is_the_costliest_site_not_a_sum(ledger, changed):
    plan = make_plan(REQUEST, POLICY, ledger)
    quieter = changed(plan, noise_multiplier=2 * plan.noise_multiplier, epsilon=1.0)
    assert federation_epsilon([quieter, plan, quieter]) == plan.epsilon
    assert federation_epsilon([]) == 0


def test_a_patient_at_two_sites_pays_at_both(ledger, changed):
    plan = make_plan(REQUEST, POLICY, ledger)
    twice = changed(plan, request=changed(REQUEST, max_sites_per_patient=2))
    found = federation_epsilon([twice, twice, twice])
    assert found == epsilon([*plan.roles[0], *plan.roles[0]], 2e-5)
    assert plan.epsilon < found < 2 * plan.epsilon


def test_an_open_site_makes_the_federation_open(ledger):
    open_plan = make_plan(PrivacyRequest(mode="none"), SitePolicy(500, allow_non_private=True), None)
    assert federation_epsilon([make_plan(REQUEST, POLICY, ledger), open_plan]) == math.inf


def test_sites_that_differ_compose_at_their_worst_pair(ledger):
    """m = 2 of three: the pair that costs most counts, whichever the order; ties by ε alone do not decide."""
    plan = make_plan(REQUEST, POLICY, ledger)
    two = replace(plan.request, max_sites_per_patient=2, evaluations=0)
    plans = [
        replace(plan, request=two, noise_multiplier=noise, sampling_rate=rate)
        for noise, rate in ((1.5, 0.3), (0.9, 0.05), (1.2, 0.2))
    ]
    pairs = [
        epsilon([*a.roles[0], *b.roles[0]], two.delta) for k, a in enumerate(plans) for b in plans[k + 1 :]
    ]
    assert federation_epsilon(plans) == pytest.approx(max(pairs))
    assert federation_epsilon(plans[::-1]) == pytest.approx(max(pairs))


def test_too_many_different_sites_are_added_up_which_is_never_less(ledger):
    plan = make_plan(REQUEST, POLICY, ledger)
    two = replace(plan.request, max_sites_per_patient=2, evaluations=0)
    plans = [replace(plan, request=two, noise_multiplier=2 + k / 10, sampling_rate=1.0) for k in range(12)]
    worst = epsilon([*plans[0].roles[0], *plans[1].roles[0]], two.delta)
    assert federation_epsilon(plans) >= worst


def test_discrete_noise_is_calibrated_and_recorded_by_the_accountant_it_has(tmp_path, signing_key):
    """Never by the Gaussian's privacy loss distribution, which would say less noise is enough."""
    request = replace(REQUEST, noise="discrete_gaussian")
    opened = scratch_ledger(tmp_path / "d.sqlite", signing_key, request, POLICY)
    plan = make_plan(request, POLICY, opened)
    gaussian_plan = make_plan(replace(REQUEST, noise="strict"), POLICY, opened)
    opened.disconnect()
    assert {event.law for role in plan.roles for event in role} == {"discrete_gaussian"}
    assert plan.noise_multiplier > gaussian_plan.noise_multiplier * 1.03
    assert plan.epsilon == epsilon_rdp(plan.roles[0], 2e-5) <= 3.0
    record = plan.release_record()
    assert record["noise"] == "discrete_gaussian"
    assert [a["method"] for a in record["accountants"]] == ["RDP", "RDP"]
    assert record["accountants"][1]["epsilon"] == pytest.approx(plan.epsilon, rel=0.01)
    strict = gaussian_plan.release_record()
    assert (strict["noise"], [a["method"] for a in strict["accountants"]]) == ("strict", ["PLD", "PRV"])
    assert plan.epsilon_after(10, 0) < plan.epsilon


def test_noise_is_calibrated_to_what_the_ledger_has_left_and_not_to_what_it_opened_with(
    tmp_path, signing_key
):
    """A ledger that holds one run and a part of another raises the second run's noise, or refuses it."""
    roomy = scratch_ledger(tmp_path / "r.sqlite", signing_key, REQUEST, POLICY)
    first = make_plan(REQUEST, POLICY, roomy)
    cost = roomy.terms.budget - roomy.remaining
    assert cost == 0
    roomy.reserve("one", first)
    left = roomy.remaining
    with pytest.raises(BudgetExhausted, match="the largest that still fits") as refusal:
        make_plan(REQUEST, POLICY, roomy)
    fits = float(re.search(r"privacy.epsilon=([\d.]+)", str(refusal.value))[1])
    second = make_plan(replace(REQUEST, epsilon=fits), POLICY, roomy)
    spent = math.fsum(rdp(event, roomy.terms.order) for event in second.roles[0])
    assert 0.8 * left < spent <= left < roomy.terms.budget
    assert second.epsilon <= fits
    roomy.disconnect()


def test_a_sweep_composes_over_its_runs(ledger):
    """Two runs of one site: more than either, at most the sum; the same events as one run of twice the steps."""
    plan = make_plan(REQUEST, POLICY, ledger)
    alone = replace(plan, request=replace(plan.request, evaluations=0))
    (train,) = alone.roles[0]
    both = composed_epsilon([[alone], [alone]], alone.delta)
    assert both == pytest.approx(epsilon([replace(train, count=2 * train.count)], alone.delta))
    assert alone.epsilon_after(train.count, 0) < both
    assert composed_epsilon([[alone], []], alone.delta) == math.inf


def test_of_too_many_roles_to_go_through_the_composed_epsilon_is_still_an_upper_bound(ledger, monkeypatch):
    """Against all combinations of roles, which three runs still allow; and lower than adding ε up at δ/3."""
    plan = make_plan(replace(REQUEST, evaluations=1, evaluation_share=None), POLICY, ledger)
    runs = [[replace(plan, noise_multiplier=plan.noise_multiplier * factor)] for factor in (1.0, 1.3, 1.7)]
    assert len(plan.roles) == 2
    exact = composed_epsilon(runs, plan.delta)
    monkeypatch.setattr("fedimg.privacy.federation._MOST_EXPOSURES", 2)
    bound = composed_epsilon(runs, plan.delta)
    added = math.fsum(max(epsilon(role, plan.delta / 3) for role in own.roles) for (own,) in runs)
    assert exact < bound < added
    # nobody has more than every role in every run
    everything = [event for (own,) in runs for role in own.roles for event in role]
    assert bound == pytest.approx(epsilon(everything, plan.delta))
