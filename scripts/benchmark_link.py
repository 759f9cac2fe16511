"""What a round's messages cost over the link, beside Flower 1.41 with a process for each message.

    python scripts/benchmark_link.py [--sites 3] [--size 1000000] [--rounds 5] [--json FILE]

Nothing is trained: the coordinator sends a model of so many float32 values to every site and each answers as many, over
TLS on the loopback with signed requests, each site in a process of its own. *plain* is one exchange between
`FleetServer` and `FleetNode`, *secure* five, as a secure sum makes, one of which carries the vectors. *flower* is its
SuperLink and SuperNodes as their documentation starts them, the same bytes in one record, and a ServerApp that times
`grid.send_and_receive`. Wall-clock seconds, medians over rounds, after one that is not counted. Exit code 1 where a
figure that is asked for is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fedimg.crypto.authority import Authority
from fedimg.crypto.certificates import utc_now
from fedimg.crypto.link_keys import NodeKey, ServerKey
from fedimg.flower.fleet_node import FleetNode
from fedimg.flower.fleet_server import FleetServer

MOST_SECONDS, FASTER = 1.5, 3.0
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


def papers(folder: Path, sites: int) -> None:
    """An authority, a TLS pair and node keys."""
    now = utc_now()
    authority = Authority.create(folder / "authority.key", None, now)
    (folder / "roots.pem").write_text(authority.certificate)
    tls = ServerKey.create(folder / "tls.key")
    (folder / "tls.pem").write_text(authority.certify_server(tls, [], now))
    for k in range(sites):
        NodeKey.create(folder / f"site-{k}.key")


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


def attend(address: str, roots: Path, key: Path) -> None:
    """A site of ours, until it is killed."""
    FleetNode(address, roots, key, lambda data: data).attend()


def ours(folder: Path, sites: int, size: int, rounds: int) -> dict[str, list[float]]:
    names = [f"site-{k}" for k in range(sites)]
    public = {name: NodeKey.load(folder / f"{name}.key").public_pem for name in names}
    found: dict[str, list[float]] = {"plain": [], "secure": []}
    with FleetServer("127.0.0.1", 0, folder / "tls.pem", folder / "tls.key") as server:
        server.admit(public)
        address = f"127.0.0.1:{server.port}"
        me = [sys.executable, str(Path(__file__).resolve()), "--attend", address, str(folder / "roots.pem")]
        with running([[*me, str(folder / f"{name}.key")] for name in names], folder):
            while server.online() != set(names):
                time.sleep(0.1)
            run = server.begin()
            for number in range(rounds + 1):
                data, small = number.to_bytes(4, "big") * size, number.to_bytes(4, "big") * 500
                for name, parts in (("plain", [data]), ("secure", [small, small, data, small, small])):
                    begin = time.monotonic()
                    for part in parts:
                        if run.exchange(dict.fromkeys(names, part), 120) != dict.fromkeys(names, part):
                            raise RuntimeError("not all answered")
                    found[name].append(time.monotonic() - begin)
            run.end()
    return {name: seconds[1:] for name, seconds in found.items()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


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


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="float32 values")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--attend", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attend:
        attend(arguments.attend[0], *map(Path, arguments.attend[1:]))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="fedimg-link-"))
    try:
        papers(folder, arguments.sites)
        found = ours(folder, arguments.sites, arguments.size, arguments.rounds)
        found["flower"] = flower(folder, arguments.sites, arguments.size, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratio = medians["flower"] / medians["plain"]
    for name, seconds in medians.items():
        print(f"{name:>8}: {seconds:6.2f} s a round ({min(found[name]):.2f} to {max(found[name]):.2f})")
    met = medians["plain"] <= MOST_SECONDS and ratio >= FASTER
    print(
        f"Flower's over plain: {ratio:.1f}; asked: plain ≤ {MOST_SECONDS} s, ratio ≥ {FASTER}: {'met' if met else 'missed'}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": found, "ratio": ratio, "met": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
