"""The one place: charged first, then sampled, clipped, summed, noised."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedimg.errors import BudgetExhausted, ConfigError, LedgerError
from fedimg.privacy.batches import gather
from fedimg.privacy.calibration import _calibrated
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.noise import InsecureSeededEntropy, OsEntropy, gaussian, grid_step
from fedimg.privacy.plan import ReleaseSession
from fedimg.privacy.request import PrivacyRequest
from fedimg.privacy.sampling import poisson_sample

FLAT = torch.linspace(-1, 1, 10)


class Asked(BaseException):
    """Like a kill: no error of a library, which a patient who causes it would be left out for."""


class Forbidden:
    """A network that must not be asked."""

    def apply(self, flat, images):
        raise Asked


def test_a_step_is_the_clipped_sum_of_the_sample_plus_the_noise_of_the_plan(
    plan_of, ledger_for, patients, linear
):
    """Rebuilt from its parts with the same insecure stream."""
    plan = plan_of(noise=1.5, l2_clip_norm=0.3, images_per_patient=2)
    dataset = patients([1, 3, 2, 4] * 5)
    session = ReleaseSession(plan, ledger_for(plan), InsecureSeededEntropy(3))
    noised = session.gradient_step(FLAT, dataset, linear)

    stream = InsecureSeededEntropy(3)
    who = poisson_sample(20, 0.5, stream)
    batch = gather(dataset, who, 2, None, stream)
    expected = clipped_sum(PatientGradients(linear, PatientLoss()), FLAT, batch, 0.3).vector
    expected = expected + gaussian(10, 0.45, stream)
    assert noised.noise_std == pytest.approx(1.5 * 0.3)
    assert np.abs(noised.vector - expected).max() <= grid_step(0.45)
    assert session.releases == (noised.release_id,)


def test_every_release_is_charged_under_its_own_name(plan_of, ledger_for, patients, linear):
    plan = plan_of(rounds=3, evaluations=1)
    ledger = ledger_for(plan)
    session = ReleaseSession(plan, ledger, OsEntropy())
    for _ in range(3):
        session.gradient_step(FLAT, patients([1, 2]), linear)
    session.histogram(lambda: np.eye(4))
    assert ledger.statement.runs["run"].charged == {"train": 3, "evaluate": 1}
    assert len(set(session.releases)) == 4


def test_the_charge_is_on_the_disk_before_the_data_is_read(plan_of, ledger_for, patients):
    plan = plan_of()
    ledger = ledger_for(plan)
    session = ReleaseSession(plan, ledger, InsecureSeededEntropy(0))
    with pytest.raises(Asked):
        session.gradient_step(FLAT, patients([1] * 50), Forbidden())
    assert ledger.statement.runs["run"].charged == {"train": 1}
    assert session.releases == ()


def test_without_a_charge_nothing_is_read(plan_of, ledger_for, patients, linear):
    plan = plan_of(rounds=1, retry_allowance=1)
    session = ReleaseSession(plan, ledger_for(plan), OsEntropy())
    for _ in range(2):
        session.gradient_step(FLAT, patients([1] * 50), linear)
    with pytest.raises(BudgetExhausted):
        session.gradient_step(FLAT, patients([1] * 50), Forbidden())
    for unknown in (plan_of(noise=2.0), plan_of(rounds=9)):
        with pytest.raises(LedgerError, match="a release of the reserved plan"):
            ReleaseSession(unknown, ledger_for(plan, name=unknown.digest), OsEntropy()).gradient_step(
                FLAT, patients([1]), Forbidden()
            )


@pytest.mark.parametrize("counts", [[], [0, 0], [1]])
def test_an_empty_site_and_an_empty_sample_release_noise_like_any_other(
    plan_of, ledger_for, patients, linear, counts
):
    plan = plan_of(sampling_rate=1e-9)
    ledger = ledger_for(plan)
    noised = ReleaseSession(plan, ledger, OsEntropy()).gradient_step(FLAT, patients(counts), linear)
    assert (noised.vector != 0).all()
    assert noised.vector.shape == (10,)
    assert ledger.statement.runs["run"].charged == {"train": 1}


def test_a_one_class_site_goes_on(plan_of, ledger_for, patients, linear):
    dataset = patients([2, 2, 2])
    dataset.labels[:] = 0
    plan = plan_of()
    assert np.isfinite(
        ReleaseSession(plan, ledger_for(plan), OsEntropy()).gradient_step(FLAT, dataset, linear).vector
    ).all()


def test_a_histogram_release_has_sensitivity_one_and_its_own_noise(plan_of, ledger_for):
    plan = plan_of(evaluation_noise=7.0)
    vectors = np.array([[3.0, 4.0], [0.0, 1.0], [np.nan, 0.0]])
    noised = ReleaseSession(plan, ledger_for(plan), InsecureSeededEntropy(1)).histogram(lambda: vectors)
    expected = np.array([0.6, 1.8]) + gaussian(2, 7.0, InsecureSeededEntropy(1))
    assert noised.noise_std == 7.0
    assert np.abs(noised.vector - expected).max() <= grid_step(7.0)


def thrice(images, labels, _entropy):
    return torch.stack([images * 9, -images, images], dim=1), torch.stack([labels] * 3, dim=1)


def test_augmented_copies_stay_inside_the_patients_clip(plan_of, ledger_for, patients, linear):
    """The noise of the known stream taken away again, one patient moves the sum by at most C."""
    plan = plan_of(noise=1.0, sampling_rate=1.0, l2_clip_norm=0.2)
    loss = PatientLoss(augment=thrice)
    session = ReleaseSession(plan, ledger_for(plan), InsecureSeededEntropy(2), loss)
    noised = session.gradient_step(FLAT, patients([3], scale=9), linear)
    stream = InsecureSeededEntropy(2)
    stream.bytes(8)
    share = np.linalg.norm(noised.vector - gaussian(10, 0.2, stream))
    assert 0.2 * (1 - 1e-5) <= share <= 0.2 * (1 + 1e-5)


def test_two_steps_share_no_noise_and_the_test_mode_repeats_itself(plan_of, ledger_for, patients, linear):
    plan = plan_of()
    dataset = patients([])

    def steps(entropy, name):
        session = ReleaseSession(plan, ledger_for(plan, name=name), entropy)
        return np.stack([session.gradient_step(FLAT, dataset, linear).vector for _ in range(3)])

    private = np.concatenate([steps(OsEntropy(), "a"), steps(OsEntropy(), "b")])
    # two of 60 draws meet on the grid with chance 1/2000, so up to two meetings are let pass
    assert len(np.unique(private)) >= private.size - 2
    insecure = steps(InsecureSeededEntropy(5), "c")
    assert (insecure == steps(InsecureSeededEntropy(5), "d")).all()
    assert len(np.unique(insecure)) == insecure.size


def test_the_insecure_mode_says_so(plan_of, ledger_for):
    plan = plan_of()
    ledger = ledger_for(plan)
    assert ReleaseSession(plan, ledger, InsecureSeededEntropy(1)).insecure
    assert not ReleaseSession(plan, ledger, OsEntropy()).insecure


def test_histograms_are_made_after_the_charge(plan_of, ledger_for):
    """They read the patients' images, as a training step does."""
    plan = plan_of(evaluations=1)
    ledger = ledger_for(plan)

    def killed():
        assert ledger.statement.runs["run"].charged == {"evaluate": 1}
        raise Asked

    with pytest.raises(Asked):
        ReleaseSession(plan, ledger, OsEntropy()).histogram(killed)
    assert ledger.statement.runs["run"].charged == {"evaluate": 1}


def test_what_a_patient_made_a_library_raise_is_kept_for_the_operator(plan_of, ledger_for, patients, linear):
    def fragile(*_):
        raise RuntimeError("bad image")

    plan = plan_of(sampling_rate=1.0)
    session = ReleaseSession(plan, ledger_for(plan), OsEntropy(), PatientLoss(example_loss=fragile))
    noised = session.gradient_step(FLAT, patients([1, 1]), linear)
    assert (noised.vector != 0).all()  # noise, as from any other site
    assert {str(fault) for fault in session.faults} == {"bad image"}


def test_an_open_run_has_no_releases(plan_of, ledger_for):
    ledger = ledger_for(plan_of())
    with pytest.raises(ConfigError, match="an open run has no releases"):
        ReleaseSession(plan_of(mode="none"), ledger, OsEntropy())


@pytest.mark.parametrize("noise", ["strict", "discrete_gaussian"])
def test_integer_modes_release_whole_steps_of_the_patients_grid(plan_of, ledger_for, patients, linear, noise):
    plan = plan_of(noise=1.5, l2_clip_norm=0.3)
    plan = replace(plan, request=replace(plan.request, noise=noise))
    session = ReleaseSession(plan, ledger_for(plan), OsEntropy())
    for noised, clip in (
        (session.gradient_step(FLAT, patients([1, 3, 2, 4] * 5), linear), 0.3),
        (session.gradient_step(FLAT, patients([]), linear), 0.3),
        (session.histogram(lambda: np.full((3, 4), 0.3)), 1.0),
    ):
        steps = noised.vector / integer_grid(clip)
        assert np.array_equal(steps, np.rint(steps))
        assert noised.vector.any()


def test_sixteen_images_a_patient_cost_the_same_epsilon_as_one(plan_of, ledger_for, patients, linear):
    """The unit is the patient: neither the accountant nor the bound on the sum sees how many images there are."""
    one, sixteen = (PrivacyRequest(epsilon=3.0, rounds=20, images_per_patient=m) for m in (1, 16))
    plans = [_calibrated(request, 500) for request in (one, sixteen)]
    assert plans[0].epsilon == plans[1].epsilon <= 3.0
    assert plans[0].noise_multiplier == plans[1].noise_multiplier
    assert plans[0].roles == plans[1].roles
    for images in (1, 16):
        alone = gather(patients([images], scale=9.0), np.arange(1), images, None, OsEntropy())
        assert len(alone.labels) == images
        share = clipped_sum(PatientGradients(linear, PatientLoss()), FLAT, alone, 0.1).vector
        assert np.linalg.norm(share) <= 0.1 * (1 + 1e-12)
        assert np.linalg.norm(share) == pytest.approx(0.1)


def test_clipping_by_image_would_cost_as_many_times_the_shift(patients, linear):
    """What the unit must not be: sixteen images clipped one by one move the sum by up to 16 C."""
    dataset = patients([1] * 16, scale=9.0)
    images, labels = dataset.images[:1].repeat(16, 1, 1, 1), dataset.labels[:1].repeat(16)
    as_patients = replace(dataset, images=images, labels=labels)
    batch = gather(as_patients, np.arange(16), 1, None, OsEntropy())
    moved = clipped_sum(PatientGradients(linear, PatientLoss()), FLAT, batch, 0.1).vector
    assert np.linalg.norm(moved) == pytest.approx(1.6)


def rows_of(vectors, blocks=1):
    """What a classical learner gives for whom was sampled."""
    return lambda who: np.array_split(vectors[who], blocks)


def test_statistics_are_sampled_clipped_and_noised_like_gradients(plan_of, ledger_for):
    """Rebuilt from its parts with the same insecure stream; in blocks, one patient longer than C, one not finite."""
    plan = plan_of(noise=1.5, l2_clip_norm=0.5)
    vectors = np.random.default_rng(0).normal(size=(30, 6)) / 6
    first, second = poisson_sample(30, 0.5, InsecureSeededEntropy(4))[:2]
    vectors[first], vectors[second, 2] = 10.0, np.nan
    ledger = ledger_for(plan)
    session = ReleaseSession(plan, ledger, InsecureSeededEntropy(4))
    noised = session.statistics_step(30, rows_of(vectors, 4), 6)

    stream = InsecureSeededEntropy(4)
    who = poisson_sample(30, 0.5, stream)
    known = vectors[[u for u in who if u != second]]
    lengths = np.linalg.norm(known, axis=1, keepdims=True)
    expected = (known * np.minimum(1, 0.5 / lengths)).sum(axis=0) + gaussian(6, 0.75, stream)
    assert np.abs(noised.vector - expected).max() <= grid_step(0.75)
    assert noised.noise_std == pytest.approx(0.75)
    assert ledger.statement.runs["run"].charged == {"train": 1}


def test_statistics_are_charged_before_they_are_taken_and_only_of_who_is_present(plan_of, ledger_for):
    plan = plan_of(noise=1.0, l2_clip_norm=1.0)
    ledger = ledger_for(plan)

    def asked(_who):
        assert ledger.statement.runs["run"].charged == {"train": 1}
        raise Asked

    with pytest.raises(Asked):
        ReleaseSession(plan, ledger, OsEntropy()).statistics_step(9, asked, 3)
    here = ReleaseSession(plan, ledger, InsecureSeededEntropy(5), present=lambda: np.array([1, 4]))
    noised = here.statistics_step(9, rows_of(np.eye(9)), 9)
    stream = InsecureSeededEntropy(5)
    poisson_sample(9, 0.5, stream)
    found = noised.vector - gaussian(9, 1.0, stream)
    assert set(np.flatnonzero(np.round(found))) <= {1, 4}
    assert np.abs(found - np.round(found)).max() <= grid_step(1.0)
    everyone = ReleaseSession(plan, ledger, InsecureSeededEntropy(5)).statistics_step(
        9, rows_of(np.eye(9)), 9
    )
    assert not np.array_equal(everyone.vector, noised.vector)
