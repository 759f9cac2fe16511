"""Virtual clients a second: fedimg beside Apple's pfl-research 0.6 and Flower 1.41 on Ray.

    python scripts/benchmark_simulation.py            about six minutes on two cores
    python scripts/benchmark_simulation.py --json     the same, figures as JSON on stdout

1,000 virtual clients of 20 images of 28², cohorts of 100, one local epoch in batches of 10, a plain
CNN of 105,866 parameters, no privacy. Every side trains the same cohorts from the same weights with
the same batches; the run fails unless all end at the same weights within 1e-4. Each measurement is
a fresh process; the sides take turns, and the medians over the turns are compared. Starting up and
two warm-up rounds are not timed, for any side.

    pfl             pfl as its tutorials run it: one process
    pfl_per_core    pfl's own distributed mode, torchrun with one process a core
    flower_ray      Flower's run_simulation on Ray with the engine's default settings (two CPUs a client)
    flower_ray_per_core    the same with one CPU a client: no target is set for it, its ratio is told
    fedimg          one process a core

The peers live in `.venv-peers`, which this script makes (pfl 0.6 wants another dp-accounting). Last,
fedimg trains 1,000 and then 10,000 clients whose data are generated when asked for, and the most
memory that a process held is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_peers import peers_python, tell
from benchmark_simulation_peers.problem import Problem

from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.training import permutation

HERE = Path(__file__).parent
PEERS = HERE / "benchmark_simulation_peers"
# torch is bounded because pfl is not: without a bound pip may take a build that Flower's Ray cannot use.
REQUIREMENTS = ("torch>=2.8,<2.14", "pfl==0.6.0", "flwr[simulation]>=1.41,<1.42", "numpy>=2,<3")
TARGETS = {"pfl": 2.5, "pfl_per_core": 1.0, "flower_ray": 20.0}
PEER_SIDES = (*TARGETS, "flower_ray_per_core")
TOLERANCE = 1e-4


def command(side: str, python: Path, cores: int) -> list[str]:
    """How each side's process is started."""
    if side.startswith(("fedimg", "memory")):
        return [sys.executable, str(PEERS / "fedimg_side.py")]
    if side.startswith("flower_ray"):
        return [str(python), str(PEERS / "flower_side.py")]
    if side == "pfl":
        return [str(python), str(PEERS / "pfl_side.py")]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={cores}"]
    return [str(python), *launcher, str(PEERS / "pfl_side.py")]


def measure(side: str, problem: Problem, python: Path, cores: int) -> dict[str, Any]:
    """One fresh process of one side; its result, and its weights left in the problem's folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    environment |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
    environment |= {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    log = Path(problem.folder) / f"log-{side}.txt"
    with log.open("w") as output:
        ended = subprocess.run(
            [*command(side, python, cores), problem.folder, side],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            timeout=300,
            check=False,
        )
    if ended.returncode:
        raise SystemExit(f"{side} failed with code {ended.returncode}:\n{log.read_text()[-3000:]}")
    result: dict[str, Any] = json.loads((Path(problem.folder) / f"result-{side}.json").read_text())
    return result


def write(problem: Problem) -> None:
    """The problem's arrays, with each client's images in the order that fedimg's own shuffle gives."""
    orders = [
        permutation(problem.images, InsecureSeededEntropy(problem.seed, f"client-{client}"))
        for client in range(problem.clients)
    ]
    problem.write(np.stack(orders))


def farthest(problem: Problem, sides: list[str]) -> float:
    """The largest difference between two sides' trained weights; refuses weights that never moved."""
    weights = np.stack([np.load(Path(problem.folder) / f"weights-{side}.npy") for side in sides])
    moved = float(np.abs(weights - problem.initial()).max())
    if not moved > 100 * TOLERANCE:
        raise SystemExit(f"the weights moved by only {moved:.1e}: agreement would mean nothing")
    apart = float((weights.max(axis=0) - weights.min(axis=0)).max())
    if not apart <= TOLERANCE:
        raise SystemExit(f"the sides trained to weights {apart:.1e} apart, more than {TOLERANCE}")
    return apart


def compare(problem: Problem, python: Path, repeats: int, cores: int) -> dict[str, Any]:
    """All sides in turn, `repeats` times; medians, ratios and the agreement of the weights."""
    sides = ["fedimg", *PEER_SIDES]
    speeds: dict[str, list[float]] = {side: [] for side in sides}
    apart = 0.0
    for turn in range(repeats):
        for side in sides[turn % len(sides) :] + sides[: turn % len(sides)]:
            seconds = measure(side, problem, python, cores)["seconds"]
            speeds[side].append(problem.cohort / statistics.median(seconds))
            tell(f"turn {turn + 1}: {side:20} {speeds[side][-1]:7.1f} clients/s")
        apart = max(apart, farthest(problem, sides))
    median = {side: statistics.median(values) for side, values in speeds.items()}
    return {
        "ratios": {side: round(median["fedimg"] / median[side], 2) for side in PEER_SIDES},
        "targets": TARGETS,
        "clients_per_second": {side: round(value, 1) for side, value in median.items()},
        "all_turns": {side: [round(v, 1) for v in values] for side, values in speeds.items()},
        "weights_apart": apart,
        "cores": cores,
    }


def memory(problem: Problem, python: Path, cores: int, most: int) -> dict[str, Any]:
    """Peak memory of one round over all of 1,000 clients, then over `most`."""
    peaks: dict[str, Any] = {}
    for clients in (1000, most):
        sized = replace(problem, clients=clients, cohort=clients, warm_up=0, rounds=1)
        with tempfile.TemporaryDirectory() as folder:
            sized = replace(sized, folder=folder)
            write(replace(sized, clients=1))
            (Path(folder) / "problem.json").write_text(json.dumps(sized.as_mapping()))
            result = measure("memory", sized, python, cores)
        speed = round(clients / result["seconds"][0], 1)
        peaks[str(clients)] = {
            "parent_mb": round(result["parent_mb"]),
            "worker_mb": round(result["worker_mb"]),
            "clients_per_second": speed,
        }
        tell(f"memory: {clients} clients, {peaks[str(clients)]}")
    return peaks


def main() -> int:
    parser = argparse.ArgumentParser(description="Virtual clients a second, beside pfl and Flower.")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--cohort", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=4, help="timed rounds of each process")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side")
    parser.add_argument("--memory-clients", type=int, default=10_000, help="0 leaves the memory part out")
    parser.add_argument(
        "--peers", type=Path, default=HERE.parent / ".venv-peers", help="the peers' environment"
    )
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    python = peers_python(options.peers, REQUIREMENTS)
    with tempfile.TemporaryDirectory() as folder:
        problem = Problem(folder, clients=options.clients, cohort=options.cohort, rounds=options.rounds)
        write(problem)
        result = compare(problem, python, options.repeats, cores)
        if options.memory_clients:
            result["memory"] = memory(problem, python, cores, options.memory_clients)
    print(json.dumps(result, indent=None if options.json else 2))
    missed = [side for side, target in TARGETS.items() if result["ratios"][side] < target]
    if missed:
        tell(f"below the target: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
