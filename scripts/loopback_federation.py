"""A federation of real processes on this machine, for studies and tests: made, started, killed, looked at.

The sites' homes are filled by a simulation in the insecure test mode, so that the model of an unbroken run is known to
the last bit; the same homes then take part over TLS, each in a process of its own. With `namespaces` (root, iproute2)
each site has a network of its own, whose line can be cut, slowed and narrowed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from safetensors.torch import load_file

from fedimg.config import compose
from fedimg.coordination.folder import SweepPoint
from fedimg.home import SiteHome
from fedimg.privacy.stated import statement_of
from fedimg.simulation import simulate
from server.membership import Federation
from server.registry import Entry, Registry, Stage
from server.submission import submit
from sites.enrolment import Enrolment

ROOT = Path(__file__).resolve().parents[1]
SERVER = "server"
# A run of seconds; its numbers mean nothing.
SMALL = (
    "insecure_test_mode=true",
    "model=cnn",
    "model.width=4",
    "training.local_steps=1",
    "imaging.image_size=[32,32]",
    "privacy.epsilon=3",
    "privacy.delta=1e-3",
    "privacy.expected_batch_size=6",
    "evaluation.bootstrap=20",
    "audit.battery=false",
    "audit.empirical=false",
)
_COHORT = (
    "compare=false",
    "data.cohort.patients_per_hospital=16",
    "data.cohort.phantom_public_patients=10",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CR,CT]",
    "deid.workers=0",  # a child process of each intake takes seconds to start
)


def simulated(folder: Path, sites: int, overrides: Sequence[str]) -> Path:
    """Fill homes below `folder`/homes and train once; the run's folder. Call it once for a folder."""
    config = compose(
        [
            *SMALL,
            *_COHORT,
            f"sites={sites}",
            f"state={folder / 'homes'}",
            f"runs={folder / 'simulated'}",
            *overrides,
        ]
    )
    # as the first of several points: the ledgers open with room for the runs over the link too
    return simulate(config, point=SweepPoint(1, 4, 4 * config.privacy.epsilon)).path


# Below the range from which the kernel takes ports for outgoing connections (32768 up), so that none takes one away
# between its choice and its use; in an order of its own in each process, and no port twice.
_PORTS = iter(random.SystemRandom().sample(range(12_000, 32_000), 20_000))


def free_port() -> int:
    """A port of the loopback that nobody listens on, another at each call."""
    for port in _PORTS:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no free port between 12000 and 32000: stop what listens there")


@dataclass
class Loopback:
    """One federation below a folder that holds `homes`.

    Attributes:
        environment: what all processes get beside this one's own. netns: each site in a network of its own.
        page: where the server's page listens, "off" for nowhere.
    """

    folder: Path
    host: str = "localhost"
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    netns: dict[str, str] = field(default_factory=dict)
    page: str = "off"
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def net(self) -> Path:
        return self.folder / "net"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(
            sorted(p.name for p in (self.folder / "homes").iterdir() if (p / "signing.key").exists())
        )

    def home(self, name: str) -> Path:
        return self.folder / "homes" / name

    def provision(self, **policy: object) -> None:
        """Make the federation, and every home a member that has pinned it; `policy` changes every site's."""
        found = Federation.create(self.net, "loopback", f"{self.host}:{self.port}")
        enrolled = {}
        for name in self.names:
            home = SiteHome.open(self.home(name))
            self.change_policy(name, **({"preapproved_epsilon": 10.0, "min_colluders": 50} | policy))
            enrolled[name] = Enrolment(home)
            request = enrolled[name].request(name)
            found.sign((enrolled[name].folder / "request.json").read_bytes(), request.code)
        signed = found.bundle()
        for one in enrolled.values():
            one.accept(signed.to_bytes(), signed.manifest.roster_code)
        for name in self.names:
            settings = {"home": str(self.home(name)), "device": "cpu"}
            self.settings(name).write_text(yaml.safe_dump(settings))

    def change_policy(self, name: str, **changes: object) -> None:
        policy = SiteHome.open(self.home(name)).policy
        policy.write_text(yaml.safe_dump(yaml.safe_load(policy.read_text()) | changes))

    def settings(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"

    def start(self, name: str, path: Path | None = None) -> None:
        """The server, or a site; `path` is where its program lies, this checkout if absent."""
        if name == SERVER:
            command = ["server", "start", str(self.net), "--page", self.page]
        else:
            command = ["site", "start", "--config", str(self.settings(name))]
        before = ["ip", "netns", "exec", self.netns[name]] if name in self.netns else []
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [*before, sys.executable, "-P", "-m", "fedimg.cli", *command],
                env=os.environ | {"PYTHONPATH": str(path or ROOT), "OMP_NUM_THREADS": "1"} | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )

    def running(self, name: str) -> bool:
        return name in self._processes and self._processes[name].poll() is None

    def kill(self, name: str) -> None:
        """At once, as a power cut does."""
        self._end(name, signal.SIGKILL)

    def stop(self, name: str) -> int:
        """As a supervisor does; its exit code."""
        return self._end(name, signal.SIGTERM)

    def _end(self, name: str, how: signal.Signals) -> int:
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return process.wait(timeout=30)

    def end(self) -> None:
        """Whatever runs."""
        for name in list(self._processes):
            self.kill(name)

    def train(self, *overrides: str) -> str:
        """Ask for a run; its name."""
        return submit(self.net, [*SMALL, *overrides])

    def entry(self, run: str) -> Entry:
        with Registry(self.net) as registry:
            return registry.entry(run)

    def resume(self, run: str) -> None:
        with Registry(self.net) as registry:
            registry.resume(run)

    def until(self, run: str, *stages: Stage, seconds: float = 120.0, rounds: int = 0) -> Entry:
        """Wait until the run is in one of these stages and at that round. Raises TimeoutError, saying where it stood."""
        end = time.monotonic() + seconds
        while True:
            entry = self.entry(run)
            if entry.stage in stages and entry.round >= rounds:
                return entry
            if time.monotonic() > end:
                raise TimeoutError(f"{run}: {entry}")
            time.sleep(0.05)

    def charged(self, name: str, run: str) -> dict[str, int]:
        """Releases that a site's ledger was charged for a run."""
        home = SiteHome.open(self.home(name))
        found = statement_of(home.ledger, home.signing_key).runs.get(run)
        return dict(found.charged) if found is not None else {}

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8")


def same_model(one: Path, other: Path) -> bool:
    """Whether two runs' last checkpoints are equal, bit by bit."""
    last = [max((run / "checkpoints").glob("round-*.safetensors")) for run in (one, other)]
    first, second = map(load_file, last)
    return last[0].name == last[1].name and bool((first["parameters"] == second["parameters"]).all())


def copied(base: Path, folder: Path) -> Loopback:
    """Another federation with the same homes as they were after the simulation."""
    folder.mkdir(parents=True)
    shutil.copytree(base / "homes", folder / "homes", symlinks=True)
    return Loopback(folder)


@contextlib.contextmanager
def own_networks(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """A network namespace for each name, joined by a bridge on which this machine is 10.77.0.1. Needs root."""
    spaces = {name: f"fedimg-{number}" for number, name in enumerate(names, start=1)}
    try:
        _ip("link", "add", "fedimg0", "type", "bridge")
        _ip("addr", "add", "10.77.0.1/24", "dev", "fedimg0")
        _ip("link", "set", "fedimg0", "up")
        for number, space in enumerate(spaces.values(), start=1):
            line = f"fedimg{number}"
            _ip("netns", "add", space)
            _ip("link", "add", line, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", line, "master", "fedimg0", "up")
            _ip("-n", space, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
        yield spaces
    finally:
        for space in spaces.values():
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", "fedimg0"], check=False, capture_output=True)


def cut(space: str, *, on: bool) -> None:
    """Take a site's line away, or give it back: nothing is refused, packets are lost."""
    _ip(
        "link",
        "set",
        f"fedimg{space.rpartition('-')[2]}",
        "nomaster" if on else "master",
        *(() if on else ("fedimg0",)),
    )


def narrow(space: str, *, on: bool) -> None:
    """Let 256 kbit a second through a site's line, both ways, what is beyond waiting up to two seconds or lost; or all."""
    how = ["root", "tbf", "rate", "256kbit", "burst", "32kbit", "latency", "2s"] if on else ["root"]
    inside = ["ip", "netns", "exec", space]
    for before, line in (([], f"fedimg{space.rpartition('-')[2]}"), (inside, "eth0")):
        subprocess.run([*before, "tc", "qdisc", "replace" if on else "del", "dev", line, *how], check=True)


def may_make_networks() -> bool:
    """Whether this process may make network namespaces here."""
    if os.geteuid() or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "fedimg-try"], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "del", "fedimg-try"], check=False, capture_output=True)
    return made.returncode == 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
