"""The study of killed trainings, small, as a user runs it: what the receiver got against what was charged."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLS, ROUNDS = 10, 6


def test_ten_kills_charge_no_less_than_was_received_and_no_noise_twice(tmp_path):
    """False alarm: 1e-6, of the largest cosine over all pairs of noises; everything else holds always."""
    command = [sys.executable, "-W", "error", str(ROOT / "scripts" / "study_kill_training.py")]
    options = ["--kills", str(KILLS), "--rounds", str(ROUNDS), "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"] == "pass"
    assert found["kills"] >= KILLS
    assert found["test_mode"]["same_model_as_unbroken"]
    assert found["released"] <= found["charged"] <= found["released"] + found["kills"]
    finished = [trial for trial in found["runs"] if not trial["declined"]]
    assert all(trial["released"] == ROUNDS for trial in finished)
