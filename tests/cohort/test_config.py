"""A cohort that cannot be is refused with the key's name."""

from __future__ import annotations

import pytest

from fedimg.cohort import CohortConfig
from fedimg.errors import ConfigError


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"hospitals": 0}, "hospitals ≥ 1"),
        ({"patients_per_hospital": 0}, "patients_per_hospital ≥ 1"),
        ({"phantom_public_patients": -1}, "phantom_public_patients ≥ 0"),
        ({"image_size": 16}, "image_size between 32 and 1024"),
        ({"slices": 0}, "slices, cine_frames, max_studies and workers ≥ 1"),
        ({"modalities": ()}, "modalities out of CT, MR, CR, US"),
        ({"modalities": ("CT", "PT")}, "modalities out of CT, MR, CR, US"),
        ({"specialisation": 1.5}, "specialisation between 0 and 1"),
        ({"noise": -1.0}, "lesion_contrast and noise ≥ 0"),
        ({"lesion_diameter": (0.2, 0.1)}, "lesion_diameter with 0.05 ≤ least ≤ greatest ≤ 0.3"),
        ({"broken_files": -1}, "broken_files ≥ 0"),
    ],
)
def test_values_out_of_range_are_refused(changes, rule):
    with pytest.raises(ConfigError) as caught:
        CohortConfig(**changes)
    assert str(caught.value).startswith(f"expected cohort: {rule}")
    assert str(caught.value).endswith("found a value outside it; change data.cohort")
