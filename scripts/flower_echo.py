"""Flower 1.41 as its documentation starts it, with an app that sends bytes back: the peer of `benchmark_link.py`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from loopback_federation import free_port

from fedimg.crypto.link_keys import NodeKey

_PROJECT = """[project]
name = "echo"
version = "1.0.0"
description = "answers"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "fedimg"
[tool.flwr.app.components]
serverapp = "echo.app:server"
clientapp = "echo.app:client"
[tool.flwr.app.config]
sites = {sites}
size = {size}
rounds = {rounds}
out = "{out}"
"""
_APP = """import json
import time

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client, server = ClientApp(), ServerApp()


@client.train()
def train(message, context):
    return Message(RecordDict({"r": ConfigRecord({"p": message.content["r"]["p"]})}), reply_to=message)


@server.main()
def main(grid, context):
    config = context.run_config
    while len(nodes := list(grid.get_node_ids())) < config["sites"]:
        time.sleep(0.1)
    seconds = []
    for number in range(config["rounds"] + 1):
        data = number.to_bytes(4, "big") * config["size"]
        begin = time.monotonic()
        record = RecordDict({"r": ConfigRecord({"p": data})})
        replies = list(grid.send_and_receive([Message(record, n, "train") for n in nodes], timeout=120))
        if [reply.content["r"]["p"] for reply in replies] != [data] * len(nodes):
            raise RuntimeError("not all answered")
        seconds.append(time.monotonic() - begin)
    with open(config["out"], "w") as file:
        json.dump(seconds[1:], file)
"""


@contextlib.contextmanager
def running(commands: list[list[str]], home: Path) -> Iterator[None]:
    """Processes that end with the block, whoever they started."""
    environment = os.environ | {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_HOME": str(home),
        "OMP_NUM_THREADS": "1",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    started = [
        subprocess.Popen(
            command,
            env=environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for process in reversed(started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def flower(folder: Path, sites: int, size: int, rounds: int) -> list[float]:
    """Rounds of Flower's, as a ServerApp of its own measured them."""
    from flwr.cli.build import build_fab_from_disk
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import RegisterNodeRequest, StartRunRequest
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supercore.fab import Fab
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

    from fedimg.flower.node_keys import public_bytes

    app, out, port = folder / "echo-app", folder / "flower.json", free_port()
    (app / "echo").mkdir(parents=True)
    (app / "pyproject.toml").write_text(_PROJECT.format(sites=sites, size=size, rounds=rounds, out=out))
    (app / "echo" / "__init__.py").touch()
    (app / "echo" / "app.py").write_text(_APP)
    roots, pair = str(folder / "roots.pem"), [str(folder / "tls.pem"), str(folder / "tls.key")]
    tls = ["--ssl-certfile", pair[0], "--ssl-keyfile", pair[1], "--ssl-ca-certfile", roots]
    link = ["flower-superlink", *tls, "--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    address = f"127.0.0.1:{port}"
    nodes = [
        [
            *("flower-supernode", "--superlink", address, "--root-certificates", roots, *tls),
            *("--auth-supernode-private-key", str(folder / f"site-{k}.key"), "--port", str(free_port())),
        ]
        for k in range(sites)
    ]
    with running([[*link, "--port", str(port)]], folder):
        wait_for(port)
        with ControlHttpClient.from_server_address(
            address, False, Path(roots).read_bytes(), [RuntimeVersionHttpInterceptor(component_name="flwr")]
        ) as control:
            for k in range(sites):
                key = public_bytes(NodeKey.load(folder / f"site-{k}.key").public_pem)
                control.RegisterNode(RegisterNodeRequest(public_key=key))
            with running(nodes, folder):
                data = build_fab_from_disk(app)
                fab = Fab(hashlib.sha256(data).hexdigest(), data, {})
                control.StartRun(StartRunRequest(fab=fab_to_proto(fab)))
                end = time.monotonic() + 60 + 60 * (rounds + 1)
                while not out.exists() or not out.read_text().endswith("]"):
                    if time.monotonic() > end:
                        raise RuntimeError("Flower's run did not end")
                    time.sleep(0.5)
    return [float(seconds) for seconds in json.loads(out.read_text())]


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.2)
    raise RuntimeError("nobody listens")
