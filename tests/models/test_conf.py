"""The shipped configurations of networks are complete and right."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fedimg.models import ModelConfig
from fedimg.models.build import BUILTIN

CONF = Path(__file__).parents[2] / "conf" / "model"


def test_every_built_in_network_has_a_configuration():
    assert {path.stem for path in CONF.glob("*.yaml")} == set(BUILTIN)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_configuration_names_its_network_and_known_keys(path):
    found = yaml.safe_load(path.read_text())
    config = ModelConfig(**found.get("model", found))  # one that sets its data too has a section of its own
    assert config.name in BUILTIN
    if path.stem != "default":
        assert config.name == path.stem
