from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError, DataError
from fedimg.imaging.partition import assign, assign_units, patients_at_further_sites, site_names
from fedimg.values import SourceItem


def items_of(pairs):
    return [SourceItem(Path(f"{i}.dcm"), "dicom", patient, label) for i, (patient, label) in enumerate(pairs)]


people = st.lists(
    st.tuples(st.sampled_from([None, "", *(f"p{n}" for n in range(12))]), st.sampled_from([None, 0, 1, 2])),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    people, st.sampled_from(["iid", "dirichlet"]), st.integers(1, 7), st.floats(0.01, 100), st.integers(0, 99)
)
def test_every_item_is_at_one_site_and_no_patient_at_two(pairs, scheme, sites, alpha, seed):
    items = items_of(pairs)
    assignment = assign(items, scheme, sites, alpha, seed)
    assert tuple(assignment) == site_names(sites)
    assert sorted(i.path for own in assignment.values() for i in own) == sorted(i.path for i in items)
    where = {}
    for site, own in assignment.items():
        for item in own:
            if item.patient_id:
                assert where.setdefault(item.patient_id, site) == site
    assert not patients_at_further_sites(assignment)
    assert assignment == assign(items, scheme, sites, alpha, seed)


def test_iid_sizes_differ_by_at_most_one_and_the_seed_matters():
    labels = np.zeros(103, np.int64)
    sizes = np.bincount(assign_units(labels, "iid", 8, 1.0, 0), minlength=8)
    assert sizes.max() - sizes.min() <= 1
    assert not np.array_equal(assign_units(labels, "iid", 8, 1.0, 0), assign_units(labels, "iid", 8, 1.0, 1))


def test_a_file_sorted_by_class_is_shuffled_first():
    labels = np.repeat([0, 1], 2000)
    sites = assign_units(labels, "iid", 8, 1.0, 3)
    for k in range(8):
        # Hypergeometric, 500 of 4000 with half positive: s.d. √(500·¼·3500/3999) = 10.5.
        assert abs(int((labels[sites == k] == 1).sum()) - 250) < 5 * 10.5


def test_alpha_rules_the_skew():
    labels = np.repeat(np.arange(5), 400)

    def spread(alpha):
        shares = []
        for seed in range(5):
            sites = assign_units(labels, "dirichlet", 10, alpha, seed)
            counts = np.array([np.bincount(sites[labels == c], minlength=10) for c in range(5)]) / 400
            shares.append(counts)
        return np.var(np.concatenate(shares))

    # Var of one Dirichlet(α·1) share over S sites is (S − 1) ÷ (S²(Sα + 1)); 250 of them are averaged.
    for alpha in (0.1, 1.0, 100.0):
        assert spread(alpha) == pytest.approx(9 / (100 * (10 * alpha + 1)), rel=0.5)


def test_small_alpha_leaves_sites_of_one_class_or_none():
    labels = np.repeat([0, 1], 50)
    assigned = [assign_units(labels, "dirichlet", 20, 0.02, seed) for seed in range(10)]
    classes = [len(np.unique(labels[sites == k])) for sites in assigned for k in range(20)]
    assert 0 in classes
    assert 1 in classes


def test_the_manifest_is_taken_at_its_word():
    items = [SourceItem(Path(str(i)), "dicom", "p", 0, site) for i, site in enumerate("baba")]
    assignment = assign(items, "manifest", 99, 1.0, 0)
    assert {site: [i.path.name for i in own] for site, own in assignment.items()} == {
        "b": ["0", "2"],
        "a": ["1", "3"],
    }
    with pytest.raises(DataError, match="a site for every row; found rows without one"):
        assign([SourceItem(Path("0"), "dicom")], "manifest", 1, 1.0, 0)


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(st.sampled_from(["p1", " p1 ", "p2", "p3", None]), st.sampled_from("abcd")), max_size=20
    ),
    st.integers(1, 4),
)
def test_patients_stay_at_their_first_sites_only(pairs, allowed):
    items = [SourceItem(Path(str(i)), "dicom", p, 0, site) for i, (p, site) in enumerate(pairs)]
    assignment = assign(items, "manifest", 0, 1.0, 0)
    held = patients_at_further_sites(assignment, allowed)
    order = list(assignment)
    for site, own in assignment.items():
        for item in own:
            person = (item.patient_id or "").strip()
            places = [s for s in order if any((i.patient_id or "").strip() == person for i in assignment[s])]
            beyond = bool(person) and places.index(site) >= allowed
            assert (item in held.get(site, ())) == beyond
    kept = Counter(
        (i.patient_id or "").strip()
        for i, site in {
            ((i.patient_id or "").strip(), site): (i, site)
            for site, own in assignment.items()
            for i in own
            if i not in held.get(site, ())
        }.values()
    )
    assert all(count <= allowed for person, count in kept.items() if person)


@pytest.mark.parametrize(
    ("scheme", "sites", "alpha", "message"),
    [
        ("iidd", 2, 1.0, "data.partition to be one of manifest, iid, dirichlet; found iidd"),
        ("iid", 0, 1.0, "sites ≥ 1; found 0"),
        ("dirichlet", 2, 0.0, "data.alpha above 0; found 0.0"),
    ],
)
def test_settings_that_make_no_division_are_refused(scheme, sites, alpha, message):
    with pytest.raises(ConfigError, match=message):
        assign_units(np.zeros(3, np.int64), scheme, sites, alpha, 0)


def test_names_sort_as_numbers():
    assert list(site_names(12)) == sorted(site_names(12))
    assert site_names(3) == ("site-1", "site-2", "site-3")
