"""What a federation of real processes loses when something breaks at a random moment.

    python scripts/study_faults.py [--trials 50] [--seed 0] [--json FILE] [--folder DIR]

Three sites and a server, each a process of its own; each trial is a run of six rounds into which one fault falls, at a
moment drawn at random: SIGKILL of a site, of the server, of the process that asks for a run or stops one while it
writes the registry, thirty seconds without a line to one site, twenty of a line of 256 kbit/s, a full disk at one site. Whoever was killed is started
again up to three seconds later, and nobody does anything else but `runs resume` where a run has stopped. In every second
trial updates are added up securely.

What is looked at afterwards: the run has finished; each round stands once in its metrics; no site's ledger was charged
less than the rounds in which the coordinator had its update, nor more than the plan allows; without secure sums, where
all three sites are needed in each round, the model equals that of an unbroken simulation bit by bit. A secure sum that
lost a site is void, is charged, and is not made again: there the finished rounds and the charges are looked at.

With root and iproute2 each site has a network of its own; without them no line is cut, no disk is filled, and the
result says so. Exit code 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from loopback_federation import (
    ROOT,
    SERVER,
    SMALL,
    Loopback,
    copied,
    cut,
    may_make_networks,
    narrow,
    own_networks,
    same_model,
    simulated,
)

from server.registry import Stage

ROUNDS, RETRIES = 6, 2  # a plan's usual allowance: the steps of two rounds
PLAIN = (f"rounds={ROUNDS}", "secagg=none", "aggregation.min_sites=3", "federation.deadline_s=45")
SECURE = (f"rounds={ROUNDS}", "secagg=pairwise", "federation.deadline_s=45")
CUT_S, NARROW_S, FULL_S = 30.0, 20.0, 8.0
_DISK = 64 << 20


@dataclass
class Trial:
    """One: `at` seconds after the run was asked for. `lost`: what should not have been; empty as a rule."""

    number: int
    fault: str
    victim: str
    secure: bool
    at: float
    seconds: float = 0.0
    resumed: int = 0
    void: int = 0
    charged: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)


def kill(net: Loopback, trial: Trial, chance: random.Random) -> None:
    """A site, or the server; started again soon."""
    net.kill(trial.victim)
    time.sleep(chance.uniform(0, 3))
    net.start(trial.victim)


def kill_writer(net: Loopback, _trial: Trial, chance: random.Random) -> None:
    """Of those who write the registry beside the server: processes that ask for runs, killed while they do."""
    command = [sys.executable, "-P", "-m", "fedimg.cli", "train", str(net.net), *SMALL, "rounds=1"]
    for _ in range(3):
        process = subprocess.Popen(
            command,
            env=os.environ | net.environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(chance.uniform(2, 6))
        process.send_signal(signal.SIGKILL)
        process.wait()


def cut_line(net: Loopback, trial: Trial, _chance: random.Random) -> None:
    cut(net.netns[trial.victim], on=True)
    time.sleep(CUT_S)
    cut(net.netns[trial.victim], on=False)


def narrow_line(net: Loopback, trial: Trial, _chance: random.Random) -> None:
    narrow(net.netns[trial.victim], on=True)
    time.sleep(NARROW_S)
    narrow(net.netns[trial.victim], on=False)


def fill_disk(net: Loopback, trial: Trial, _chance: random.Random) -> None:
    """The victim's home is a file system of its own; there is not a byte left on it for a while."""
    filler = net.home(trial.victim) / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):  # which is what is wanted
        while file.write(b"\0" * 65536):
            pass
    time.sleep(FULL_S)
    filler.unlink()


FAULTS = {"kill a site": kill, "kill the server": kill, "kill a writer": kill_writer}
ROOT_FAULTS = {"cut a line": cut_line, "fill a disk": fill_disk, "narrow a line": narrow_line}


def own_disk(net: Loopback, name: str, stack: ExitStack) -> None:
    """Move a home onto a small file system of its own."""
    home, aside = net.home(name), net.folder / "aside"
    home.rename(aside)
    home.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "fedimg", str(home)], check=True)
    stack.callback(subprocess.run, ["umount", "-l", str(home)], check=False)
    subprocess.run(["cp", "-a", f"{aside}/.", str(home)], check=True)


def follow(net: Loopback, run: str, trial: Trial, seconds: float = 300.0) -> None:
    """To the run's end; a run that stopped because too many sums were void goes on."""
    end = time.monotonic() + seconds
    while True:
        try:
            entry = net.until(
                run, Stage.FINISHED, Stage.STOPPED, Stage.FAILED, seconds=end - time.monotonic()
            )
        except TimeoutError:
            trial.lost.append(f"not finished: {net.entry(run).stage}, {net.entry(run).reason}")
            return
        if entry.stage is Stage.FINISHED:
            return
        if entry.stage is Stage.FAILED or trial.resumed == 3:
            trial.lost.append(f"{entry.stage}: {entry.reason}")
            return
        trial.resumed += 1
        net.resume(run)


def judge(net: Loopback, run: str, trial: Trial, unbroken: Path) -> None:
    folder = net.net / "runs" / run
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    if [row["round"] for row in rows] != list(range(1, ROUNDS + 1)):
        trial.lost.append("a round is missing, or stands twice")
    trial.void = sum("void" in row for row in rows)
    for name in net.names:
        received = sum(name in row["sites"] for row in rows)
        trial.charged[name] = charged = net.charged(name, run).get("train", 0)
        if not received <= charged <= ROUNDS + RETRIES:
            trial.lost.append(f"{name}: {received} updates received, {charged} charged")
    if not trial.secure:
        if any(len(row["sites"]) != len(net.names) for row in rows):
            trial.lost.append("a round without a site that was needed")
        if not same_model(folder, unbroken):
            trial.lost.append("another model than the unbroken run's")


def once(trial: Trial, base: Path, folder: Path, spaces: dict[str, str], chance: random.Random) -> None:
    unbroken = next((base / "simulated").iterdir())
    net = copied(base, folder)
    net.environment["FEDIMG_STATE_DIR"] = str(folder / "state")
    if spaces:
        net.host, net.netns = "10.77.0.1", spaces
    with ExitStack() as stack:
        stack.callback(net.end)
        net.provision()
        if trial.fault == "fill a disk":
            own_disk(net, trial.victim, stack)
        for name in (SERVER, *net.names):
            net.start(name)
        begun = time.monotonic()
        run = net.train(*(SECURE if trial.secure else PLAIN))
        time.sleep(max(0.0, trial.at - (time.monotonic() - begun)))
        (FAULTS | ROOT_FAULTS)[trial.fault](net, trial, chance)
        follow(net, run, trial)
        trial.seconds = time.monotonic() - begun
        for name in (SERVER, *net.names):
            if not net.running(name):
                trial.lost.append(f"the process of {name} has ended by itself")
        if not trial.lost:
            judge(net, run, trial, unbroken)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Faults at random moments in a federation of real processes."
    )
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one if absent")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - when something breaks is no secret
    with ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base = folder / "base"
        simulated(base, 3, (f"rounds={ROUNDS}", "secagg=none"))
        names = sorted(path.name for path in (base / "homes").iterdir() if path.is_dir())
        rooted = may_make_networks()
        spaces = stack.enter_context(own_networks(names)) if rooted else {}
        kinds = [*FAULTS, *(ROOT_FAULTS if rooted else ())]
        trials = []
        for number in range(arguments.trials):
            fault = kinds[number % len(kinds)]
            victim = SERVER if fault == "kill the server" else chance.choice(names)
            trial = Trial(number, fault, victim, number // len(kinds) % 2 == 1, chance.uniform(0.0, 16.0))
            once(trial, base, folder / f"trial-{number}", spaces, chance)
            trials.append(trial)
            print(
                f"{number:3} {fault:16} {victim:12} {'sums' if trial.secure else 'plain':5} at {trial.at:5.1f} s: "
                f"{trial.seconds:5.1f} s, resumed {trial.resumed}, void {trial.void}; "
                f"{'; '.join(trial.lost) or 'nothing lost'}",
                flush=True,
            )
    failed = [trial for trial in trials if trial.lost]
    found = {
        "verdict": "fail" if failed else "pass",
        "trials": len(trials),
        "by_fault": Counter(trial.fault for trial in trials),
        "without": [] if rooted else list(ROOT_FAULTS),
        "failed": len(failed),
        "runs": [asdict(trial) for trial in trials],
    }
    print(f"{len(trials)} trials, {len(failed)} in which something was lost")
    if not rooted:
        print(f"not tried, for want of root and iproute2: {', '.join(ROOT_FAULTS)}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
