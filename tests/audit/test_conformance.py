"""Before the first round: passed once, kept, refused where a check fails."""

import pytest

from fedimg.audit import battery, conformance
from fedimg.audit.shipped_clients import ClientMechanism
from fedimg.errors import PolicyRefused
from fedimg.privacy.request import PrivacyRequest

PASSED = battery.Report("fedimg", (battery.Check("noise.scale", 0.5, "fine"),), 1.25)
FAILED = battery.Report("fedimg", (battery.Check("noise.scale", 0.0, "none"),), 1.25)


@pytest.fixture
def answers(monkeypatch):
    """How often the battery ran; it answers with the last report in the list."""
    asked, reports = [], [PASSED]
    conformance._report.cache_clear()

    def run(mechanism):
        asked.append(mechanism)
        return reports[-1]

    monkeypatch.setattr(battery, "run", run)
    yield asked, reports
    conformance._report.cache_clear()


def test_sites_of_one_process_share_a_run_whatever_their_numbers(answers, tmp_path):
    asked, _ = answers
    for site in range(8):
        request = PrivacyRequest(epsilon=1 + site, expected_batch_size=10 + site)
        (tmp_path / str(site)).mkdir()
        conformance.before_first_round(tmp_path / str(site), "run", request)
    assert len(asked) == 1
    (tmp_path / "strict").mkdir()
    conformance.before_first_round(tmp_path / "strict", "run", PrivacyRequest(noise="strict"))
    assert [mechanism.request.noise for mechanism in asked] == ["gaussian", "strict"]


def test_a_coordinator_has_its_own_releases_looked_at(answers, tmp_path):
    conformance.before_first_round(tmp_path, "run", PrivacyRequest(mode="client_level", evaluations=0))
    assert [type(mechanism) for mechanism in answers[0]] == [ClientMechanism]
    answers[1].append(FAILED)
    conformance.before_first_round(
        tmp_path, "run", PrivacyRequest(mode="client_level", evaluations=0)
    )  # it has begun
    with pytest.raises(PolicyRefused, match=r"audit battery --releases clients`"):
        conformance.before_first_round(
            tmp_path, "another", PrivacyRequest(mode="client_level", evaluations=0, noise="strict")
        )


def test_the_verdict_is_kept_with_the_run(answers, tmp_path):
    conformance.before_first_round(tmp_path, "run", PrivacyRequest())
    assert conformance.kept(tmp_path, "run") == {
        "audit": "battery",
        "verdict": "pass",
        "checks": 1,
        "not_checkable": [],
        "seconds": 1.25,
    }
    assert conformance.kept(tmp_path, "another") is None


def test_a_failure_refuses_and_keeps_nothing(answers, tmp_path):
    answers[1].append(FAILED)
    with pytest.raises(PolicyRefused, match=r"failed: noise\.scale"):
        conformance.before_first_round(tmp_path, "run", PrivacyRequest())
    assert conformance.kept(tmp_path, "run") is None
