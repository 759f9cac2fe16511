"""The shipped options of the group `imaging` are configurations that this station accepts."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from fedimg.errors import ConfigError
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


@pytest.mark.parametrize("spacing", [9e-4, 1.1e3, 0.0, -1.0, float("nan"), float("inf")])
def test_a_spacing_without_bounds_is_refused_with_the_bounds(spacing):
    with pytest.raises(ConfigError, match=r"imaging\.spacing_mm of 2 numbers from 0\.001 to 1000, \(H, W\)"):
        ImagingConfig(spacing_mm=(1.0, spacing))


@pytest.mark.parametrize("side", [0, 16385])
def test_an_image_size_without_bounds_is_refused_with_the_bounds(side):
    with pytest.raises(ConfigError, match=r"imaging\.image_size of 2 numbers from 1 to 16384"):
        ImagingConfig(image_size=(64, side))


def test_the_default_option_is_the_default_configuration():
    own = yaml.safe_load((FOLDER / "default.yaml").read_text())
    intensity = IntensityConfig(**{key: listed(value) for key, value in own.pop("intensity").items()})
    config = ImagingConfig(**{key: listed(value) for key, value in own.items()}, intensity=intensity)
    assert config == ImagingConfig()
