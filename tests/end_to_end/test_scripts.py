"""Plain scripts around the Python API, run as a user runs them: in a process of their own, from a file."""

import subprocess
import sys

import pytest

UNGUARDED = """
import fedimg
fedimg.simulate(["experiment=quick", {overrides} "runs={runs}"])
"""
COMPOSED = """
from fedimg.config import compose
from fedimg.simulation import simulate
simulate(compose(["experiment=quick", "runs={runs}"]))
"""
FUSED = """
import numpy as np
from fedimg.errors import FedimgError
from fedimg.fusion import ClientPool
from fedimg.training import LocalTraining
class Clients:
    training = LocalTraining()
print("never started" if __name__ == "__mp_main__" else "begun", flush=True)
pool = ClientPool(Clients(), 3, workers=2)
print(pool.train(np.zeros(3), [0, 1], 1))
"""
LIMIT_S = 300


def run(tmp_path, text, **values):
    script = tmp_path / "script.py"
    script.write_text(text.format(runs=tmp_path / "runs", **values))
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


@pytest.mark.parametrize("overrides", ["", '"data.cohort.workers=1",'])
def test_a_script_without_a_main_guard_is_told_so(tmp_path, overrides):
    ended = run(tmp_path, UNGUARDED, overrides=overrides)
    assert ended.returncode == 1
    # The parent's own last words, after those of the children.
    last = ended.stderr.rstrip().splitlines()[-1]
    assert last.startswith("fedimg.errors.ConfigError: expected worker processes that start")
    assert 'if __name__ == "__main__":' in last
    assert "a call from the script itself" in ended.stderr


def test_the_same_holds_below_the_package_function(tmp_path):
    ended = run(tmp_path, COMPOSED)
    assert ended.returncode == 1
    assert "expected worker processes that start" in ended.stderr.rstrip().splitlines()[-1]


def test_the_fused_pool_gives_up_on_workers_that_never_start(tmp_path):
    ended = run(tmp_path, FUSED)
    assert ended.returncode == 1
    assert "expected worker processes that start" in ended.stderr.rstrip().splitlines()[-1]
