"""The study of faults, small, as a user runs it: a site, the server and a writer are killed at moments of this seed."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_three_kills_at_random_moments_lose_nothing(tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / "scripts" / "study_faults.py")]
    options = ["--trials", "3", "--seed", "7", "--json", str(tmp_path / "found.json")]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, cwd=ROOT, timeout=900, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["verdict"] == "pass"
    assert found["by_fault"] == {"kill a site": 1, "kill the server": 1, "kill a writer": 1}
    for trial in found["runs"]:
        assert all(6 <= charged <= 8 for charged in trial["charged"].values())
