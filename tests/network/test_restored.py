"""A site whose disk is lost within a run, between real processes: its backup brings back the home, and not the run."""

import json
import shutil
import time

from loopback_federation import SERVER

from fedimg.cli import main
from fedimg.crypto.sealing import SealingKey
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from server.registry import Stage
from sites.backup import back_up
from sites.restoring import restore

KEY = SealingKey.from_bytes(bytes([1]) * 32)
DONE = (Stage.FINISHED, Stage.STOPPED, Stage.FAILED)


def test_a_site_that_was_restored_within_a_run_has_no_more_part_in_it(started, tmp_path, capsys):
    name = started.names[1]
    run = started.train("rounds=20", "secagg=pairwise", "aggregation.min_sites=3", "federation.deadline_s=20")
    started.until(run, Stage.RUNNING, Stage.WAITING, rounds=1)
    back_up(SiteHome.open(started.home(name)), tmp_path / "b", KEY.public_bytes)  # while it takes part
    started.kill(name)
    shutil.rmtree(started.home(name))
    found = restore(tmp_path / "b", started.home(name), KEY)
    assert run in found.closed
    started.start(name)
    end = time.monotonic() + 60
    while started.running(name) and time.monotonic() < end:
        time.sleep(0.1)
    assert started.stop(name) == 3
    assert "fedimg ledger recover" in started.log(name)
    kept = json.loads((started.net / "ledger-heads.json").read_text())[name]
    command = [
        "ledger",
        "recover",
        str(started.home(name)),
        "--backup",
        str(found.ledger),
        "--head",
        kept["head"],
    ]
    assert main([*command, "--reserved", str(kept["reserved"])]) == 0
    assert started.charged(name, run)["train"] >= 20  # everything that was reserved counts as spent
    started.start(name)
    while "after this home was restored" not in json.dumps(read_operator_log(started.home(name))):
        assert time.monotonic() < end + 60
        time.sleep(0.1)
    assert (
        started.entry(run).stage not in DONE
    )  # three are needed: the coordinator waits for one that declines
    rows = [
        json.loads(line) for line in (started.net / "runs" / run / "metrics.jsonl").read_text().splitlines()
    ]
    assert 1 <= len(rows) < 20
    assert started.running(SERVER)
