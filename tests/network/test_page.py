"""The page and the metrics of real processes: what a server and its sites say of a run while they do it."""

import socket

import httpx
import pytest
import yaml
from loopback_federation import SERVER, free_port

from fedimg.cli import main
from server.registry import Stage


def numbers(port):
    """What /metrics says, by name and labels."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).raise_for_status().text
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    }


@pytest.fixture
def measured(net):
    """Server and sites at work, with a page and a port of metrics each: (federation, page's port, sites' ports)."""
    page, ports = free_port(), {name: free_port() for name in net.names}
    net.page = f"127.0.0.1:{page}"
    for name, port in ports.items():
        file = net.settings(name)
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"metrics": f"127.0.0.1:{port}"}))
    for name in (SERVER, *net.names):
        net.start(name)
    return net, page, ports


def test_a_run_is_seen_on_the_page_and_in_the_metrics_of_both_ends(measured, capsys):
    net, page, ports = measured
    run = net.train("rounds=3", "secagg=none")
    assert net.until(run, Stage.FINISHED, Stage.FAILED, Stage.STOPPED, seconds=120).stage is Stage.FINISHED
    capsys.readouterr()
    assert main(["server", "token", str(net.net)]) == 0
    token = capsys.readouterr().out.strip()
    own = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{page}", headers=own, timeout=10) as client:
        assert client.get("/readyz").text == "ready\n"
        assert [one["connected"] for one in client.get("/api/sites").json()] == [True] * 3
        (row,) = client.get("/api/runs").json()
        assert (row["run"], row["stage"], row["round"]) == (run, "finished", 3)
        assert (row["privacy"], row["epsilon"]) == ("insecure test mode", None)
        detail = client.get(f"/api/runs/{run}").json()
        assert [site["answered"] for site in detail["sites"]] == [3] * 3
        assert detail["problems"] == []
        assert main(["server", "token", "--new", str(net.net)]) == 0
        assert client.get("/api/runs").status_code == 401
    server = numbers(page)
    assert server["fedimg_members"] == server["fedimg_members_connected"] == 3
    assert server["fedimg_rounds_finished_total"] == 3
    assert server['fedimg_runs{stage="finished"}'] == 1
    assert server["fedimg_last_round_seconds"] > 0
    assert (
        min(server[f'fedimg_message_bytes_total{{direction="{way}_sites"}}'] for way in ("to", "from")) > 1000
    )
    for name, port in ports.items():
        site = numbers(port)
        assert site["fedimg_connected"] == 1
        assert site["fedimg_runs_joined_total"] == 1
        # three rounds, and one question about the model's scores
        assert site["fedimg_rounds_answered_total"] == 4
        assert site["fedimg_rounds_declined_total"] == 0
        assert 0 < site["fedimg_last_answer_seconds"] < 60
        assert 0 < site["fedimg_ledger_epsilon_left"] < site["fedimg_ledger_epsilon_max"]
        assert not [label for label in site if run in label], name
    for name in (SERVER, *net.names):
        assert token not in net.log(name)
    net.kill(net.names[0])
    for _ in range(300):
        if numbers(page)["fedimg_members_connected"] == 2:
            break
        net.until(run, Stage.FINISHED)
        import time

        time.sleep(0.1)
    assert numbers(page)[f'fedimg_member_connected{{site="{net.names[0]}"}}'] == 0
    net.kill(SERVER)
    for _ in range(300):
        if numbers(ports[net.names[1]])["fedimg_connected"] == 0:
            break
        time.sleep(0.1)
    assert numbers(ports[net.names[1]])["fedimg_connected"] == 0


def test_a_taken_port_refuses_the_start(net, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["server", "start", str(net.net), "--page", f"127.0.0.1:{port}"]) == 2
    said = capsys.readouterr().err
    assert "expected a free address of this machine" in said
    assert "name another with --page HOST:PORT, or --page off" in said
