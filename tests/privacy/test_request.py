import math

import pytest

from fedimg.errors import ConfigError
from fedimg.privacy.request import PrivacyRequest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mode", "shared"),
        ("engine", "opacus"),
        ("epsilon", 0.0),
        ("epsilon", math.inf),
        ("delta", 0.0),
        ("delta", 1.0),
        ("evaluation_share", 1.0),
        ("l2_clip_norm", -1.0),
        ("rounds", 0),
        ("local_steps", 0),
        ("images_per_patient", 0),
        ("max_sites_per_patient", 0),
        ("evaluations", -1),
        ("chunk", -1),
        ("retry_allowance", -1),
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.5),
        ("expected_batch_size", None),
        ("expected_batch_size", 0.0),
    ],
)
def test_each_value_that_promises_nothing_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"privacy\.{name}"):
        PrivacyRequest(**{name: value})


def test_the_rate_follows_from_the_declared_size_alone():
    assert PrivacyRequest(expected_batch_size=64.0).rate_at(256) == 0.25
    assert PrivacyRequest(expected_batch_size=64.0).rate_at(10) == 1.0
    assert PrivacyRequest(sampling_rate=0.3, expected_batch_size=None).rate_at(10) == 0.3


def test_steps_and_the_retries_kept_back():
    assert PrivacyRequest(rounds=30, local_steps=4).steps == 120
    assert PrivacyRequest(rounds=30, local_steps=4).retries == 8
    assert PrivacyRequest(retry_allowance=0).evaluation_retries == 0
    assert PrivacyRequest(retry_allowance=5, evaluations=3).evaluation_retries == 1
    assert PrivacyRequest(evaluations=0).evaluation_retries == 0
