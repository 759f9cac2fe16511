"""What is not a round: a run that closes, members that change, runs that nobody ends, whoever is killed meanwhile."""

import json
import time

import pytest
from loopback_federation import SERVER, Loopback

from fedimg.cli import main
from fedimg.home import SiteHome
from fedimg.operator_log import read_operator_log
from fedimg.privacy.ledger import Ledger
from server.membership import Federation
from server.registry import Registry, Stage
from sites.enrolment import Enrolment

DONE = (Stage.FINISHED, Stage.STOPPED, Stage.FAILED)


def until(true, seconds=60.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def closed(net, name, run):
    home = SiteHome.open(net.home(name))
    ledger = Ledger.open(home.ledger, home.signing_key)
    try:
        spend = ledger.statement.runs.get(run)
        return spend is not None and spend.closed
    finally:
        ledger.disconnect()


def test_a_server_that_is_killed_while_a_run_closes_ends_it_when_it_is_back(net):
    """One site is away, so that closing takes as long as it may; the others have closed already."""
    first, _second, third = net.names
    for name in (SERVER, *net.names):
        net.start(name)
    run = net.train("rounds=2", "secagg=none", "aggregation.min_sites=2", "federation.deadline_s=5")
    net.until(run, Stage.RUNNING, rounds=1)
    net.kill(third)
    parts = net.net / "runs" / run / "parts"
    until(lambda: parts.is_dir() and len(list(parts.glob("*.json"))) == 2)
    assert net.entry(run).stage is Stage.CLOSING
    assert main(["runs", "stop", str(net.net / "runs" / run)]) == 4  # it ends by itself
    net.kill(SERVER)
    net.start(SERVER)
    assert net.until(run, *DONE).stage is Stage.FINISHED
    assert main(["verify", str(net.net / "runs" / run)]) == 0
    assert closed(net, first, run)
    assert not closed(net, third, run)
    net.start(third)
    until(lambda: closed(net, third, run))


def test_members_that_change_under_way(net):
    """A revoked one is out with its next request; one with a new node key comes back under it; the run goes on."""
    _first, second, third = net.names
    for name in (SERVER, *net.names):
        net.start(name)
    run = net.train(
        "rounds=60",
        "secagg=none",
        "aggregation.min_sites=1",
        "federation.deadline_s=20",
        "privacy.retry_allowance=2",
    )
    net.until(run, Stage.RUNNING, rounds=1)
    federation, enrolment = Federation(net.net), Enrolment(SiteHome.open(net.home(second)))
    request = enrolment.request(second)
    federation.sign((enrolment.folder / "request.json").read_bytes(), request.code)
    federation.revoke(third)
    signed = federation.bundle()
    enrolment.accept(signed.to_bytes(), signed.manifest.roster_code)
    until(lambda: "the server refused (401)" in net.log(third))
    until(lambda: net.log(second).count('"about": "connected"') >= 2)
    at = net.entry(run).round
    assert net.until(run, *DONE, seconds=240).stage is Stage.FINISHED
    lines = (net.net / "runs" / run / "metrics.jsonl").read_text().splitlines()
    late = [json.loads(line) for line in lines][at + 2 :]
    assert late
    assert not any(third in row["sites"] for row in late)
    assert second in late[-1]["sites"]


def test_another_roster_stops_a_run_with_secure_sums_before_a_round_is_used_up(net):
    first, _second, _third = net.names
    for name in (SERVER, *net.names):
        net.start(name)
    run = net.train("rounds=50", "secagg=pairwise", "federation.deadline_s=20", "privacy.retry_allowance=2")
    net.until(run, Stage.RUNNING, rounds=1)
    net.stop(first)
    net.change_policy(first, declared_patients=17)
    federation, home = Federation(net.net), SiteHome.open(net.home(first))
    request = Enrolment(home).request(first)
    federation.sign((Enrolment(home).folder / "request.json").read_bytes(), request.code)
    signed = federation.bundle()
    Enrolment(home).accept(signed.to_bytes(), signed.manifest.roster_code)
    at = net.entry(run).round
    net.start(first)
    until(lambda: "has pinned other members" in net.entry(run).reason)
    lines = (net.net / "runs" / run / "metrics.jsonl").read_text().splitlines()
    assert sum("void" in line for line in lines) <= 1  # of the moment at which it went
    assert len(lines) <= at + 1
    assert "the members that this site has pinned" in json.dumps(read_operator_log(home.root))


def test_a_run_that_nobody_resumes_is_abandoned_and_its_budget_is_free(net, capsys):
    for name in (SERVER, *net.names):
        net.start(name)
    run = net.train("rounds=60", "secagg=none", "federation.deadline_s=20")
    net.until(run, Stage.RUNNING, rounds=1)
    folder = str(net.net / "runs" / run)
    assert main(["runs", "stop", folder]) == 0
    net.until(run, Stage.STOPPED)
    assert not closed(net, net.names[0], run)
    net.stop(net.names[2])
    assert main(["site", "close", str(net.home(net.names[2])), run]) == 0  # its operator does not wait
    assert main(["runs", "abandon", folder]) == 0
    until(lambda: all(closed(net, name, run) for name in net.names), seconds=180.0)
    assert main(["runs", "resume", folder]) == 4
    capsys.readouterr()


def test_one_server_for_a_federation_and_one_process_for_a_home(net, capsys):
    net.start(SERVER)
    until(lambda: "listening" in net.log(SERVER))
    assert main(["server", "start", str(net.net)]) == 4
    net.start(net.names[0])
    until(lambda: "connected" in net.log(net.names[0]))
    assert main(["site", "start", "--config", str(net.settings(net.names[0]))]) == 4
    assert "end that one first" in capsys.readouterr().err


def test_a_run_whose_row_was_lost_is_resumed_from_its_folder(net, capsys):
    run = net.train("rounds=2", "secagg=none")
    for file in net.net.glob("runs.sqlite*"):
        file.unlink()
    Registry(net.net).close()
    assert main(["runs", "resume", str(net.net / "runs" / run)]) == 0
    for name in (SERVER, *net.names):
        net.start(name)
    assert net.until(run, *DONE).stage is Stage.FINISHED
    capsys.readouterr()


@pytest.mark.parametrize("listed", [True, False])
def test_a_federation_that_has_done_nothing_lists_nothing(net, capsys, listed):
    assert isinstance(net, Loopback)
    arguments = ["runs", "list", str(net.net), "--json"] if listed else ["runs", "list", str(net.net)]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() in (
        "[]",
        "run  state  round  privacy  epsilon  figure  score  overrides  reason",
    )
