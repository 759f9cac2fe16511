"""The battery flags each planted bug by the check meant for it, and a correct mechanism by none.

Entropy is seeded here, so nothing fails by chance; `scripts/study_battery.py` runs many seeds.
"""

import importlib.util
import json
import stat
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest

from fedimg import cli
from fedimg.audit import battery
from fedimg.audit.battery import statistics
from fedimg.audit.mechanism import Claim, Mechanism, Round, Session, Tensor
from fedimg.audit.shipped import ShippedMechanism
from fedimg.report.battery import render

PLANTED = Path(__file__).parent / "planted"
# Groups of checks by the first half of their names.
GROUP = {"reuse": "noise", "shape": "noise"}
THRESHOLD = battery.FALSE_ALARM / 60  # of a whole run, which a part of it has to meet too


def loaded(name):
    spec = importlib.util.spec_from_file_location(f"planted_{name}", PLANTED / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bugs, shares = loaded("bugs"), loaded("shares")


def found(mechanism, bug=None, groups=battery.GROUPS, seed=1):
    try:
        with bugs.planted(bug, seed):
            return battery.run(mechanism, seed, groups)
    finally:
        mechanism.close()


def group_of(check):
    return GROUP.get(check.split(".")[0], check.split(".")[0])


@pytest.fixture(scope="module")
def clean():
    return found(ShippedMechanism())


def test_the_shipped_mechanism_passes_and_what_it_lacks_is_no_pass(clean):
    assert clean.failed == ()
    assert clean.verdict == "pass"
    said = {check.name: clean.verdict_of(check) for check in clean.checks}
    assert len(said) == len(clean.checks) >= 45
    assert set(said.values()) == {"pass"}


@pytest.mark.parametrize("bug", [*bugs.LISTED, *bugs.OTHERS], ids=lambda bug: bug.name)
def test_a_planted_bug_is_flagged_by_the_check_meant_for_it(bug):
    report = found(ShippedMechanism(), bug, {group_of(bug.meant)})
    p = {check.name: check.p for check in report.checks}
    assert p[bug.meant] < THRESHOLD, p


def test_an_image_level_clip_called_patient_level_fails_the_battery():
    """Sixteen images then count for sixteen times C, where one patient may count for C."""
    (bug,) = (bug for bug in bugs.LISTED if bug.name == "image-level clip called patient-level")
    report = found(ShippedMechanism(), bug, {"sensitivity"})
    detail = {check.name: check.detail for check in report.checks}["sensitivity.images"]
    assert report.verdict == "fail"
    assert "sensitivity.images" in report.failed
    assert "one unit moved the sum by 4 C at most" in detail  # the cap lets four of its images in


@pytest.mark.parametrize(
    ("made", "flagged"),
    [
        ({}, set()),
        ({"declared": 6}, {"noise.share"}),
        ({"used": 10}, {"noise.share", "noise.scale"}),
        ({"messages": 2}, {"upload.inputs"}),
    ],
    ids=["as claimed", "h too large", "h too large and not said", "a second masked input in a round"],
)
def test_shares_of_noise_are_judged_through_the_adapter(made, flagged):
    report = found(shares.SharedMechanism(**made), groups={"noise", "upload", "ledger"})
    assert flagged <= set(report.failed)
    if not flagged:
        assert report.failed == ()


@pytest.mark.parametrize("salted", [False, True])
def test_a_ledger_key_that_depends_on_the_project_is_flagged(salted):
    report = found(shares.KeyedMechanism(salted), groups={"ledger"})
    assert ("ledger.key" in report.failed) == salted


class Bare(Mechanism):
    """Nothing but a right sum with right noise: every hook is missing."""

    name = "bare"

    def open(self, setting, units, site="a"):
        return BareSession(setting, units)


class BareSession(Session):
    def __init__(self, setting, units):
        self.setting, self.units, self.source = setting, units, np.random.default_rng()

    @property
    def claim(self):
        s = self.setting
        return Claim(s.l2_clip_norm, s.noise_multiplier, s.sampling_rate, s.declared_units, 1.0)

    def step(self, steps=1):
        raise OSError("no disk")


def test_a_mechanism_that_breaks_off_fails_and_its_words_are_not_repeated():
    report = battery.run(Bare(), 0, {"sampler", "ledger"})
    assert report.verdict == "fail"
    assert "broke off with OSError" in {check.detail for check in report.checks}
    assert "no disk" not in json.dumps(report.as_dict())


class Silent(BareSession):
    def step(self, steps=1):
        return Round((Tensor("all", np.zeros(self.setting.size)),), steps)


def test_missing_hooks_are_not_checkable_and_never_a_pass(monkeypatch):
    monkeypatch.setattr(Bare, "open", lambda _self, setting, units, _site="a": Silent(setting, units))
    report = battery.run(Bare(), 0, {"ledger"})
    assert {report.verdict_of(check) for check in report.checks} == {"not checkable"}
    assert report.verdict == "fail"


def test_scores_of_counts_are_exactly_normal():
    """10⁵ binomial counts of 12 coins, smoothed by their own step: KS beyond 1e-6 would be a wrong null."""
    source = np.random.default_rng(2)
    scores = statistics.normal_scores(source.binomial(12, 0.2, 100_000), 12, 0.2, source)
    assert kstest(scores, "norm").pvalue > 1e-6


def test_the_verb_says_pass_in_json_and_writes_a_page(tmp_path, capsys, clean, monkeypatch):
    monkeypatch.setattr(battery, "run", lambda _mechanism: clean)
    assert cli.main(["audit", "battery", "--json", "--report", str(tmp_path / "page.html")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["audit"] == "battery"
    assert said["verdict"] == "pass"
    assert set(said["checks"][0]) == {"name", "verdict", "p", "detail"}
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") >= 3
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o600
    assert "noise.scale" in page


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(battery, "run", lambda _mechanism: pytest.fail("the battery ran"))
    assert cli.main(["audit", "battery", "--report", str(tmp_path / "none" / "page.html")]) == 2
    assert "a folder to write the page into" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("releases", "name"),
    [("training", "fedimg"), ("clients", "fedimg, client_level"), ("evaluation", "fedimg, evaluation")],
)
def test_the_verb_takes_the_kind_of_release_that_is_asked_for(releases, name, monkeypatch, clean):
    seen = []
    monkeypatch.setattr(battery, "run", lambda mechanism: seen.append(mechanism.name) or clean)
    assert cli.main(["audit", "battery", "--releases", releases]) == 0
    assert seen == [name]


def test_the_verb_ends_with_1_where_a_check_failed(capsys, monkeypatch, clean):
    check = battery.Check("noise.scale", 0.0, "noise of 0.5 times the claimed standard deviation")
    report = battery.Report("fedimg", (*clean.checks, check), 1.0)
    monkeypatch.setattr(battery, "run", lambda _mechanism: report)
    assert cli.main(["audit", "battery"]) == 1
    assert f"1 of {len(clean.checks) + 1} checks failed\nfail, 1.0 s" in capsys.readouterr().out
    assert "fail" in render(report.as_dict())
