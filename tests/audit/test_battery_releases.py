"""The battery on sums over clients, on evaluations and on secure sums: planted bugs are flagged by the check meant for them.

Entropy is seeded, so nothing fails by chance.
"""

import importlib.util
from pathlib import Path

import pytest

from fedimg.audit import battery
from fedimg.audit.shipped_clients import ClientMechanism
from fedimg.audit.shipped_histograms import HistogramMechanism
from fedimg.audit.shipped_shares import SharedNoiseMechanism

spec = importlib.util.spec_from_file_location(
    "planted_releases", Path(__file__).parent / "planted" / "releases.py"
)
releases = importlib.util.module_from_spec(spec)
spec.loader.exec_module(releases)
GROUP = {"reuse": "noise", "shape": "noise"}
THRESHOLD = battery.FALSE_ALARM / 60  # of a whole run, which a part of it has to meet too


def found(mechanism, bug=None, groups=battery.GROUPS, seed=1):
    try:
        with releases.planted(bug, seed):
            return battery.run(mechanism, seed, groups)
    finally:
        mechanism.close()


@pytest.mark.parametrize(
    ("mechanism", "missing"),
    [
        (ClientMechanism, {"sensitivity.natural", "ledger.key"}),
        (HistogramMechanism, {"sampler.all"}),
        (SharedNoiseMechanism, set()),
    ],
)
def test_what_is_shipped_passes_and_what_it_lacks_is_named(mechanism, missing):
    report = found(mechanism())
    assert report.failed == ()
    assert report.verdict == "pass"
    assert {check.name for check in report.checks if check.p is None} == missing
    assert len(report.checks) > 40


@pytest.mark.parametrize(
    ("mechanism", "bug"),
    [
        *((ClientMechanism, bug) for bug in releases.CLIENTS),
        *((HistogramMechanism, bug) for bug in releases.EVALUATION),
        *((SharedNoiseMechanism, bug) for bug in releases.SHARES),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_planted_bug_is_flagged_by_the_check_meant_for_it(mechanism, bug):
    group = bug.meant.split(".")[0]
    report = found(mechanism(), bug, {GROUP.get(group, group)})
    p = {check.name: check.p for check in report.checks}
    assert p[bug.meant] < THRESHOLD, p
