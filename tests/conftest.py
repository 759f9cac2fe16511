"""For every test: one thread, no telemetry, examples that come again, and the real files where they are."""

import os
import shutil

# Before torch, flwr and ray are imported anywhere.
os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

# A slow core is no finding, and a failure must come again: the examples are a function of the test.
settings.register_profile(
    "fedimg", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fedimg")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def state_of_this_machine(tmp_path_factory):
    """What was seen of receipts is noted apart from the user's own notes."""
    os.environ["FEDIMG_STATE_DIR"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def no_site_was_made_on_this_machine(state_of_this_machine):
    """Each test begins on a machine that knows of no site; `fedimg site init` makes the second one explicit."""
    shutil.rmtree(Path(os.environ["FEDIMG_STATE_DIR"]) / "sites", ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data():
    """Real public files beside the checkout, for those who have them."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data, which is not here")
    return SHARED
