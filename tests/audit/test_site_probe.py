"""The site probe: finds what is there, nothing where nothing is, and does not count a site's share of diseased."""

import numpy as np
import pytest

from fedimg.audit.site_probe import by_patient, probe
from fedimg.errors import DataError


def cases(shift, seed=0, patients=80, shares=(0.5, 0.5, 0.5)):
    generator = np.random.default_rng(seed)
    sites = np.repeat(np.arange(3), patients)
    labels = (generator.random(len(sites)) < np.array(shares)[sites]).astype(np.int64)
    logit = 2 * labels - 1 + shift * sites + generator.normal(size=len(sites))
    return np.stack([-logit, logit], axis=1), labels, sites


def test_answers_that_move_with_the_site_tell():
    answers, labels, sites = cases(1.5)
    found = probe(answers, labels, sites, np.random.default_rng(0), 199)
    assert found.tells
    assert found.p_value == pytest.approx(1 / 200)
    assert found.accuracy.low > found.chance


def test_the_p_value_is_uniform_where_nothing_tells():
    """40 probes of answers that know no site: p ≤ 0.05 more than 8 times has chance 10⁻⁴, were seeds not fixed."""
    found = []
    for seed in range(40):
        answers, labels, sites = cases(0.0, seed, patients=30)
        found.append(probe(answers, labels, sites, np.random.default_rng(seed), 99).p_value)
    assert sum(p <= 0.05 for p in found) <= 8
    assert 0.25 < np.mean(found) < 0.75


def test_different_shares_of_diseased_patients_do_not_count_as_telling():
    answers, labels, sites = cases(0.0, shares=(0.1, 0.5, 0.9))
    found = probe(answers, labels, sites, np.random.default_rng(0), 199)
    assert found.chance > 0.4  # the labels alone name sites
    assert not found.tells


def test_too_few_patients_are_refused():
    answers, labels, sites = cases(0.0, patients=5)
    with pytest.raises(
        DataError, match="two sites with ten patients each; found 3 sites, the smallest with 5"
    ):
        probe(answers, labels, sites, np.random.default_rng(0))


def test_a_patients_images_are_averaged():
    values = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert by_patient(values, np.array([0, 2, 3])).tolist() == [[2, 3], [5, 6]]
