"""The example of docs/radiomics.md works as printed, and its rules are rules."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from fedimg.imaging.rules import rulebook

DOCUMENT = Path(__file__).parents[2] / "docs" / "radiomics.md"


def printed(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_example_measures_a_mass_of_known_size(capsys):
    """An ellipsoid of half axes 2.5 voxels of 4 mm and 5 of 2 mm: a ball of radius 10 mm, 4.2 ml."""
    (code,) = printed("python")
    after: dict = {}
    exec(compile(code, str(DOCUMENT), "exec"), after)
    assert capsys.readouterr().out
    found = after["found"]
    assert found["lesion_volume_ml"] == pytest.approx(4 / 3 * np.pi, rel=0.35)
    assert found["lesion_longest_diameter_mm"] == pytest.approx(20, abs=4)
    assert found["hu_p95"] > 400
    assert after["decision"].label in (0, 1)


def test_the_printed_rules_can_be_read():
    (text,) = printed("yaml")
    assert rulebook(yaml.safe_load(text)).names == {"hu_p95", "lesion_perpendicular_diameter_mm"}
