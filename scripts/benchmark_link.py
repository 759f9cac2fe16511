"""What a round's messages cost over the link, beside Flower 1.41 with a process for each message.

    python scripts/benchmark_link.py [--sites 3] [--size 1000000] [--rounds 5] [--json FILE]

Nothing is trained: the coordinator sends a model of so many float32 values to every site and each answers as many, over
TLS on the loopback with signed requests, each site in a process of its own. *plain* is one exchange between
`FleetServer` and `FleetNode`, *secure* five, as a secure sum makes, one of which carries the vectors. *flower* is its
SuperLink and SuperNodes as their documentation starts them, the same bytes in one record, and a ServerApp that times
`grid.send_and_receive`. *whole plain* and *whole secure* are rounds of `fedimg train` between `server start` and
`site start`, homes without an image, a network of about so many parameters: messages, checks, mean or sum, optimiser,
checkpoint and metrics on the disk. Wall-clock seconds, medians over rounds, after one that is not counted. Exit code 1
where a figure that is asked for is missed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from flower_echo import flower, running
from loopback_federation import SERVER, Loopback

from fedimg import config as configuration
from fedimg.coordination.terms import own_network, terms_of
from fedimg.crypto.authority import Authority
from fedimg.crypto.certificates import utc_now
from fedimg.crypto.link_keys import NodeKey, ServerKey
from fedimg.flower.fleet_node import FleetNode
from fedimg.flower.fleet_server import FleetServer
from fedimg.home import SiteHome
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.record import code
from server.registry import Stage
from server.submission import submit
from sites.offers import Offers

MOST_SECONDS, FASTER = 1.5, 3.0


def papers(folder: Path, sites: int) -> None:
    """An authority, a TLS pair and node keys."""
    now = utc_now()
    authority = Authority.create(folder / "authority.key", None, now)
    (folder / "roots.pem").write_text(authority.certificate)
    tls = ServerKey.create(folder / "tls.key")
    (folder / "tls.pem").write_text(authority.certify_server(tls, [], now))
    for k in range(sites):
        NodeKey.create(folder / f"site-{k}.key")


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


def whole(folder: Path, sites: int, width: int, rounds: int, secagg: str) -> tuple[int, list[float]]:
    """Parameters, and seconds of each round but the first as the registry shows them, of a run between processes."""
    net = Loopback(folder)
    for k in range(sites):
        home = SiteHome.create(net.home(f"site-{k}"), simulated=False)
        home.policy.write_text("declared_patients: 20\nallow_non_private: true\n")
        ledger = LedgerTerms(10.0, 1e-5, 4)
        Ledger.create(home.ledger, home.signing_key, ledger).disconnect()
    net.environment["FEDIMG_STATE_DIR"] = str(folder / "state")
    net.provision()
    for name in (SERVER, *net.names):
        net.start(name)
    try:
        model = ("model=cnn", f"model.width={width}", "imaging.image_size=[32,32]")
        options = (
            "privacy=none",
            f"secagg={secagg}",
            "evaluation.site_evaluations=0",
            "aggregation.min_sites=3",
        )
        run = submit(net.net, [*model, *options, f"rounds={rounds + 2}"])
        while "consent" not in net.until(run, Stage.GATHERING).reason:
            time.sleep(0.05)
        for name in net.names:
            offers = Offers(SiteHome.open(net.home(name)))
            while not offers.all():
                time.sleep(0.05)
            offers.approve(run, code.installed()["digest"])
        seen = list[float]()
        for number in range(1, rounds + 3):
            net.until(run, Stage.RUNNING, Stage.CLOSING, Stage.FINISHED, rounds=number)
            seen.append(time.monotonic())
        net.until(run, Stage.FINISHED)
        config = configuration.load(net.net / "runs" / run / "config.yaml")
        size = own_network(terms_of(config, run)).number_of_parameters
    finally:
        net.end()
    return size, [after - before for before, after in itertools.pairwise(seen)][1:]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--size", type=int, default=1_000_000, help="float32 values")
    parser.add_argument(
        "--width", type=int, default=66, help="of the network whose whole rounds are measured"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--attend", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.attend:
        attend(arguments.attend[0], *map(Path, arguments.attend[1:]))
        return 0
    parameters, folder = 0, Path(tempfile.mkdtemp(prefix="fedimg-link-"))
    try:
        papers(folder, arguments.sites)
        found = ours(folder, arguments.sites, arguments.size, arguments.rounds)
        for name in ("none", "pairwise"):
            shown = {"none": "whole plain", "pairwise": "whole secure"}[name]
            parameters, found[shown] = whole(
                folder / name, arguments.sites, arguments.width, arguments.rounds, name
            )
        found["flower"] = flower(folder, arguments.sites, arguments.size, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    ratio = medians["flower"] / medians["whole plain"]
    for name, seconds in medians.items():
        print(f"{name:>12}: {seconds:6.2f} s a round ({min(found[name]):.2f} to {max(found[name]):.2f})")
    met = medians["whole plain"] <= MOST_SECONDS and ratio >= FASTER
    print(
        f"{parameters:,} parameters in whole rounds; Flower's over whole plain: {ratio:.1f}; asked: "
        f"≤ {MOST_SECONDS} s, ratio ≥ {FASTER}: {'met' if met else 'missed'}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"seconds": found, "ratio": ratio, "met": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
