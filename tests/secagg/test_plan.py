"""The numbers of a plan: which may be, and that its digest stands for every one of them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from fedimg.errors import ConfigError
from fedimg.secagg.graph import COMPLETE_UP_TO, least_shares, neighbours, sparse
from fedimg.secagg.plan import SumPlan, usual_threshold


def roster(sites: int) -> dict[str, bytes]:
    return {f"site-{i}": bytes([i % 256, i // 256]) * 16 for i in range(sites)}


def plan(sites: int, **changed) -> SumPlan:
    usual = {"threshold": usual_threshold(sites), "colluders": 1, "size": 3, "word_bits": 32, "terms": "x"}
    return SumPlan(run_id="run", identities=roster(sites), **usual | changed)


@pytest.mark.parametrize(
    ("sites", "threshold"), [(3, 3), (4, 3), (5, 4), (8, 6), (10, 7), (20, 14), (50, 34)]
)
def test_the_usual_threshold(sites, threshold):
    assert usual_threshold(sites) == threshold
    assert plan(sites).honest == threshold - 1


@given(st.integers(3, 60), st.data())
def test_every_plan_that_is_allowed_is_safe(sites, data):
    threshold = data.draw(st.integers(1, sites))
    colluders = data.draw(st.integers(0, sites))
    try:
        allowed = plan(sites, threshold=threshold, colluders=colluders)
    except ConfigError:
        # refused for a reason: too few survivors, too many colluders, or an honest site left alone
        safe = 3 * threshold > 2 * sites and colluders >= 1 and 2 * threshold > sites + colluders
        assert not safe or threshold - colluders < 2
        return
    # two quorums that share no honest site would need 2(t − c) honest ones
    assert 2 * (threshold - colluders) > sites - colluders
    assert allowed.honest >= 2


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"threshold": 5}, "a threshold from 6 to 8"),
        ({"threshold": 9}, "a threshold from 6 to 8"),
        ({"colluders": 0}, "1 to 3 colluders"),
        ({"colluders": 4}, "1 to 3 colluders"),
        ({"word_bits": 16}, "words of 32 or 64 bits"),
        ({"size": 0}, "at least one word"),
        ({"share_threshold": 5}, "no threshold of shares among everybody"),
        ({"degree": 5}, "an even degree"),
        ({"degree": 6, "share_threshold": 3}, "a threshold of shares from 4 on"),
    ],
)
def test_what_may_not_be(changed, expected):
    with pytest.raises(ConfigError, match=expected):
        plan(8, **changed)


def test_two_sites_and_one_key_twice_are_no_secure_sum():
    with pytest.raises(ConfigError, match="3 to 10000 sites"):
        plan(2, threshold=2)
    twice = roster(3) | {"site-1": roster(3)["site-0"]}
    with pytest.raises(ConfigError, match="a key of its own for each site"):
        replace(plan(3), identities=twice)


def test_the_digest_and_every_context_change_with_each_number():
    base = plan(8)
    others = [
        replace(base, **changed)
        for changed in (
            {"run_id": "other"},
            {"identities": roster(8) | {"site-0": b"k" * 32}},
            {"threshold": 7},
            {"colluders": 2},
            {"size": 4},
            {"word_bits": 64},
            {"terms": "y"},
        )
    ]
    digests = {one.digest for one in (base, *others)}
    assert len(digests) == 8
    contexts = {one.context(label) for one in (base, *others) for label in ("a", "b")}
    assert len(contexts) == 16


@given(st.integers(51, 300), st.integers(2, 20), st.binary(min_size=32, max_size=32))
def test_a_sparse_graph_is_regular_symmetric_and_connected(sites, half, seed):
    graph = neighbours(sites, 2 * half, seed)
    assert {len(others) for others in graph} == {2 * half}
    assert all(
        site in graph[other] and site != other for site, others in enumerate(graph) for other in others
    )
    assert graph == neighbours(sites, 2 * half, seed)
    assert graph != neighbours(sites, 2 * half, seed[::-1] + b"x")


def test_everybody_up_to_fifty_then_a_few_dozen():
    assert sparse(COMPLETE_UP_TO, 34, 5) == (0, 0)
    assert sparse(1000, 800, 50) == (124, 63)
    with pytest.raises(ConfigError, match="few enough colluders"):
        sparse(60, 41, 41)


@pytest.mark.parametrize(("sites", "threshold", "colluders"), [(200, 160, 10), (1000, 800, 50)])
def test_the_degree_is_the_smallest_with_secrecy_and_recovery(sites, threshold, colluders):
    """By the hypergeometric law directly, and by what happens to random neighbourhoods."""
    degree, shares = sparse(sites, threshold, colluders)
    assert sites * hypergeom(sites - 1, colluders, degree).sf(shares - 1) <= 2.0**-40
    assert sites * hypergeom(sites - 1, threshold - 1, degree).cdf(shares - 1) <= 2.0**-40
    smaller = degree - 2
    fewer = least_shares(sites, colluders, smaller)
    assert sites * hypergeom(sites - 1, threshold - 1, smaller).cdf(fewer - 1) > 2.0**-40
    graph, rng = neighbours(sites, degree, b"s" * 32), np.random.default_rng(0)
    alive = np.zeros(sites, bool)
    alive[rng.permutation(sites)[:threshold]] = True
    assert min(alive[list(others)].sum() for others in graph) >= shares
