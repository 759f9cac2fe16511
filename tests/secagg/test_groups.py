"""Groups of sites: jointly made, fixed, of equal size, each with keys, threshold and noise of its own."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.crypto.keys import SigningKey
from fedimg.errors import ConfigError
from fedimg.secagg.groups import grouped
from fedimg.secagg.roster import Roster


def roster(sites, salt=0):
    identities = {
        f"site-{k:02d}": SigningKey.from_bytes(bytes([k + 1, salt]) * 16).public_bytes for k in range(sites)
    }
    return Roster(identities, {name: 10.0 + k for k, name in enumerate(identities)})


@given(st.integers(1, 8), st.integers(0, 9))
def test_every_site_is_in_one_group_and_groups_are_of_equal_size(groups, more):
    whole = roster(3 * groups + more)
    parts = grouped(whole, groups)
    assert len(parts) == groups
    assert sorted(name for part in parts for name in part.identities) == sorted(whole.identities)
    sizes = [len(part.identities) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 3
    for part in parts:
        assert all(part.weights[name] == whole.weights[name] for name in part.identities)
        assert all(part.identities[name] == whole.identities[name] for name in part.identities)


def test_they_follow_from_all_keys_and_from_nothing_else():
    """The same in any order of the file, others where one site has another key, and no matter what sites are called."""
    whole = roster(12)
    first = [set(part.identities) for part in grouped(whole, 4)]
    turned = replace(whole, identities=dict(reversed(whole.identities.items())))
    assert [set(part.identities) for part in grouped(turned, 4)] == first
    others = set()
    for salt in range(20):
        key = SigningKey.from_bytes(bytes([99, salt]) * 16).public_bytes
        changed = replace(whole, identities=whole.identities | {"site-00": key})
        others.add(str([sorted(part.identities) for part in grouped(changed, 4)]))
    assert len(others) == 20
    assert grouped(whole, 1) == (whole,)


@pytest.mark.parametrize(("sites", "groups"), [(8, 3), (2, 1), (12, 0)])
def test_groups_below_three_sites_are_refused(sites, groups):
    with pytest.raises(ConfigError, match="at least 3 sites in each"):
        grouped(roster(sites), groups)
