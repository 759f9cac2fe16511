"""kill -9 at moments of a fixed seed: the ledger may overstate, never understate."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Ledger, LedgerTerms

CHILD = Path(__file__).parent / "releasing_child.py"
KILLS = 3
VECTOR = 10 * 8


def loaded():
    spec = importlib.util.spec_from_file_location("releasing_child", CHILD)
    child = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(child)
    return child


def released(folder):
    """What a receiver counts: whole vectors (a torn last one was never received)."""
    data = (folder / "released").read_bytes() if (folder / "released").exists() else b""
    return np.frombuffer(data[: len(data) // VECTOR * VECTOR], np.float64).reshape(-1, 10)


def start(folder):
    command = [sys.executable, "-P", "-W", "ignore", str(CHILD), str(folder)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."})


def killed_at_a_random_moment(folder, moment):
    """Wait until the site is releasing, then a little, then kill -9."""
    before, child = len(released(folder)), start(folder)
    while len(released(folder)) == before and child.poll() is None:
        time.sleep(0.002)
    time.sleep(moment)
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_charged_is_never_less_than_released_and_nothing_passes_what_was_declared(tmp_path):
    child, key = loaded(), SigningKey.create(tmp_path / "signing.key")
    Ledger.create(tmp_path / "ledger.sqlite", key, LedgerTerms(50.0, 1e-5, 4)).disconnect()
    chance = random.Random(11)
    for kill in range(1, KILLS + 1):
        killed_at_a_random_moment(tmp_path, chance.uniform(0.0, 0.05))
        ledger = Ledger.open(tmp_path / "ledger.sqlite", key)
        charged = ledger.statement.runs["run"].charged["train"]
        ledger.disconnect()
        count = len(released(tmp_path))
        assert count <= charged <= count + kill
    child.main(tmp_path)
    assert (tmp_path / "finished").exists()

    ledger = Ledger.open(tmp_path / "ledger.sqlite", key)
    most = child.PLAN.allowances[0].most
    assert ledger.statement.runs["run"].charged["train"] == most
    ledger.disconnect()
    vectors = released(tmp_path)
    assert most - KILLS <= len(vectors) <= most
    # No noise twice. On the grid of 2^20 to 2^21 points a sigma, 3,400 draws meet by chance about once;
    # one vector used again would add ten.
    assert vectors.size - len(np.unique(vectors)) < 10
