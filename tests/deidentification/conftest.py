"""The tools of these tests stand beside them; every case runs under every profile."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from hospital import PROFILES


@pytest.fixture(params=PROFILES)
def profile(request) -> str:
    return request.param
