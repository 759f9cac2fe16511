from pathlib import Path

import pytest
import yaml

from fedimg.errors import ConfigError, PolicyRefused
from fedimg.privacy.policy import SitePolicy
from fedimg.privacy.request import PrivacyRequest

SHIPPED = Path(__file__).parents[2] / "sites" / "policies"
FITS = PrivacyRequest(epsilon=8.0, delta=2e-5)


@pytest.mark.parametrize("name", ["default", "strict"])
def test_the_shipped_policies_load(name):
    policy = SitePolicy.load(SHIPPED / f"{name}.yaml")
    assert policy.allow_non_private is False


def test_strict_is_stricter_than_default():
    default, strict = (SitePolicy.load(SHIPPED / f"{name}.yaml") for name in ("default", "strict"))
    default.check(FITS, "cnn", deid_profile="train")
    with pytest.raises(PolicyRefused, match="max_epsilon"):
        strict.check(FITS, "cnn", deid_profile="train")


@pytest.mark.parametrize(
    ("policy", "request_", "arguments", "message"),
    [
        ({"declared_patients": 10}, {}, {}, "at least 20 (this site's policy, min_patients); found 10;"),
        ({"max_epsilon": 3.0}, {}, {}, "ε at most 3 (this site's policy, max_epsilon); found 8;"),
        ({"max_delta": 1e-6}, {}, {}, "δ at most 1e-06 (this site's policy, max_delta); found 2e-05;"),
        (
            {"declared_patients": 6000},
            {},
            {},
            "δ at most 1/(10 · declared patients) = 1.67e-05; found 2e-05; set privacy.delta to at most 1.66e-05",
        ),
        (
            {},
            {"mode": "none"},
            {},
            "a private mode (this site's policy, allow_non_private); found privacy=none;",
        ),
        (
            {},
            {"max_sites_per_patient": 2},
            {},
            "at most 1 (this site's policy, max_sites_per_patient); found 2;",
        ),
        (
            {"allowed_noise": ("strict", "discrete_gaussian")},
            {},
            {},
            "privacy.noise strict or discrete_gaussian (this site's policy, allowed_noise); found gaussian;",
        ),
        (
            {"allowed_subgroups": ("sex",)},
            {},
            {"subgroups": ("sex", "age_band")},
            "one of sex (this site's policy, allowed_subgroups); found age_band;",
        ),
        (
            {"allowed_subgroups": ()},
            {},
            {"subgroups": ("sex",)},
            "one of none (this site's policy, allowed_subgroups); found sex;",
        ),
        (
            {"allowed_models": ("cnn",)},
            {},
            {"model": "vit"},
            "one of cnn (this site's policy, allowed_models); found vit;",
        ),
        ({}, {}, {"deid_profile": "share"}, "one of train (this site's policy, deid_profiles); found share;"),
        (
            {"allowed_extensions": ("sha256:aa",)},
            {},
            {"extensions": {"mynet": "sha256:bb"}},
            "the digest of extension mynet (this site's policy, allowed_extensions); found sha256:bb;",
        ),
    ],
)
def test_every_refusal_says_the_rule_to_the_operator(policy, request_, arguments, message):
    site = SitePolicy(**({"declared_patients": 500} | policy))
    asked = PrivacyRequest(**({"epsilon": 8.0, "delta": 2e-5} | request_))
    with pytest.raises(PolicyRefused) as refusal:
        site.check(asked, **arguments)
    assert str(refusal.value).startswith("expected " + message)
    if "delta" in str(refusal.value):
        # The way out is another δ: never a size that the site does not have.
        assert refusal.value.remedy.startswith("set privacy.delta to at most")
    else:
        assert "policy.yaml" in str(refusal.value)


def test_too_little_noise_is_refused():
    SitePolicy(500, min_noise_multiplier=1.0).check_noise(1.0)
    with pytest.raises(
        PolicyRefused, match=r"a noise multiplier of at least 1 .*min_noise_multiplier\); found 0\.990"
    ):
        SitePolicy(500, min_noise_multiplier=1.0).check_noise(0.99)


def test_what_is_allowed_passes():
    policy = SitePolicy(
        5000, allow_non_private=True, allowed_models=("cnn",), allowed_extensions=("sha256:aa",)
    )
    policy.check(FITS, "cnn", deid_profile="train", extensions={"mynet": "sha256:aa"})
    policy.check(PrivacyRequest(mode="none"), "cnn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_epsilon: 3", "declared_patients"),
        ("declared_patients: 0", "declared_patients ≥ 1"),
        ("declared_patients: many", "policy declared_patients of type int"),
        ("declared_patients: true", "policy declared_patients of type int"),
        ("{declared_patients: 500, max_epsilon: .inf}", "policy max_epsilon of type float"),
        ("{declared_patients: 500, max_epsilon: high}", "policy max_epsilon of type float"),
        ("{declared_patients: 500, allow_non_private: 1}", "policy allow_non_private of type bool"),
        ("{declared_patients: 500, allowed_models: cnn}", "policy allowed_models of type"),
        ("{declared_patients: 500, max_epsilom: 3}", "found 'max_epsilom'"),
        ("[1, 2]", "a mapping of policy keys"),
    ],
)
def test_a_policy_with_a_wrong_line_refuses_everything(tmp_path, text, message):
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigError) as refusal:
        SitePolicy.load(tmp_path / "policy.yaml")
    assert message in str(refusal.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa", b"a: [1"])
def test_a_missing_or_unreadable_policy_refuses_everything(tmp_path, content):
    if content is not None:
        (tmp_path / "policy.yaml").write_bytes(content)
    with pytest.raises(PolicyRefused, match="a readable site policy"):
        SitePolicy.load(tmp_path / "policy.yaml")


def test_numbers_written_as_yaml_1_1_reads_as_text_are_taken():
    """`1e-4` is text to PyYAML; a hospital's 1e-4 must not become a refusal, nor a bound of nothing."""
    assert (
        SitePolicy.from_mapping(yaml.safe_load("{declared_patients: 500, max_delta: 1e-4}")).max_delta == 1e-4
    )
