"""The shipped options of the group `imaging` are configurations that this station accepts."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from fedimg.imaging.config import (
    AugmentationConfig,
    CleaningConfig,
    EnhancementConfig,
    ImagingConfig,
    IntensityConfig,
)

FOLDER = Path(__file__).parents[2] / "conf" / "imaging"
SECTIONS = {
    "intensity": IntensityConfig,
    "enhancement": EnhancementConfig,
    "cleaning": CleaningConfig,
    "augmentation": AugmentationConfig,
}


def listed(value):
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("option", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_every_option_builds(option):
    own = yaml.safe_load((FOLDER / f"{option}.yaml").read_text())
    merged = yaml.safe_load((FOLDER / "default.yaml").read_text()) | own
    assert merged.pop("defaults", ["default", "_self_"]) == ["default", "_self_"]
    for name, section in SECTIONS.items():
        if name in merged:
            values = {key: listed(value) for key, value in merged[name].items()}
            assert set(values) <= {f.name for f in fields(section)}
            merged[name] = section(**values)
    config = ImagingConfig(**{key: listed(value) for key, value in merged.items()})
    assert len(config.image_size) == config.dimensions


def test_the_default_option_is_the_default_configuration():
    own = yaml.safe_load((FOLDER / "default.yaml").read_text())
    intensity = IntensityConfig(**{key: listed(value) for key, value in own.pop("intensity").items()})
    config = ImagingConfig(**{key: listed(value) for key, value in own.items()}, intensity=intensity)
    assert config == ImagingConfig()
