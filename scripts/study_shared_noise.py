"""What eight hospitals lose that trust no server: shared noise in secure sums beside pooled data, on PneumoniaMNIST.

    python scripts/study_shared_noise.py FILE.npz [--runs 10] [--epsilons 8 3 1 0.5] [--arms …] [--model cnn] [--json F]

Arms, each with the same recipe, seed and ε (for one image, δ = 2e-5, every release of a run counted):

    pooled      all data at one site, which adds the whole noise: what the others are held against
    shared      eight sites, each step one secure sum (t = 6, c = 1): every site adds a share of the noise
    missing-1, missing-2   the same, and in every round one or two sites, another draw each time, drop out after the
                sites have shared their secrets, so that their masks have to be recovered
    per_site    eight sites, each with its own whole noise

With d of eight gone the noise is √((8 − d)/(7 − d)) of the pooled: the promise does not count on the one that may
collude, and what sites add for drop-outs is taken off again. All five exchanges of every sum are made. A run's number
is its seed (the division among sites); sampling and noise come from the operating system. The test split is read once a
run, after the last round. The loss is the pooled AUROC less the arm's, run by run, in points (hundredths).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from private_runs import mean_and_sd
from study_pneumonia import Result, Splits, configured, load, one_run

from fedimg.imaging.partition import site_names

SITES, THRESHOLD, COLLUDERS = 8, 6, 1
ARMS = ("pooled", "shared", "missing-1", "missing-2", "per_site")
# A small network of convolutions takes shorter steps than a linear head: settings as for the pooled photographs.
CNN = (
    "model=cnn",
    "model.centring_rounds=0",
    "rounds=200",
    "training.private_learning_rate=1.0",
    "privacy.l2_clip_norm=1.0",
    "aggregation.momentum=0.9",
)


def overrides(arm: str, model: str) -> list[str]:
    own = list(CNN) if model == "cnn" else []
    if arm in ("pooled", "per_site"):
        return own
    return [
        *own,
        "privacy=distributed",
        "secagg=pairwise",
        f"secagg.threshold={THRESHOLD}",
        f"secagg.colluders={COLLUDERS}",
    ]


def absent(arm: str, seed: int) -> Callable[[int], Sequence[str]]:
    """Who drops out of a round."""
    number = int(arm[-1]) if arm.startswith("missing") else 0
    return lambda round_number: Random(f"{seed} {round_number}").sample(site_names(SITES), number)  # noqa: S311


def runs_of(
    arm: str,
    epsilon: float,
    path: Path,
    data: Splits,
    seeds: Sequence[int],
    model: str,
    also: Sequence[str] = (),
) -> list[Result]:
    sites = 1 if arm == "pooled" else SITES
    # the recipe of the pooled run: shared noise is 1.07 to 1.1 times as wide
    recipe = epsilon if arm != "per_site" else epsilon / SITES**0.5
    found = []
    for seed in seeds:
        config = configured(path, epsilon, sites, seed, [*overrides(arm, model), *also], recipe)
        found.append(one_run(config, data, absent(arm, seed)))
    return found


def row(arm: str, epsilon: float, results: Sequence[Result], pooled: Sequence[Result]) -> dict[str, Any]:
    auroc = mean_and_sd([result.auroc for result in results])
    line: dict[str, Any] = {
        "arm": arm,
        "epsilon_asked": epsilon,
        "epsilon": max(result.epsilon for result in results),
        "auroc": {"mean": auroc[0], "sd": auroc[1]},
        "seconds": float(np.median([result.processor_seconds for result in results])),
        "runs": [asdict(result) for result in results],
    }
    if pooled:
        points = [100 * (a.auroc - b.auroc) for a, b in zip(pooled, results, strict=True)]
        mean, sd = mean_and_sd(points)
        line["loss_points"] = {"mean": mean, "standard_error": sd / len(points) ** 0.5}
    return line


def told(line: dict[str, Any]) -> str:
    loss = line.get("loss_points")
    beside = f", loss {loss['mean']:+.2f} ± {loss['standard_error']:.2f} points" if loss else ""
    return (
        f"ε = {line['epsilon_asked']:g} {line['arm']:>9}: AUROC {line['auroc']['mean']:.4f} "
        f"± {line['auroc']['sd']:.4f}{beside} ({line['seconds']:.0f} s a run)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8, 3, 1, 0.5])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--model", choices=("scattering", "cnn"), default="scattering")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.path.resolve()
    data = load(path, configured(path, 8.0, 1, 0, overrides("pooled", args.model)))
    lines: list[dict[str, Any]] = []
    for epsilon in args.epsilons:
        pooled: list[Result] = []
        for arm in args.arms:
            results = runs_of(arm, epsilon, path, data, range(args.seed, args.seed + args.runs), args.model)
            if arm == "pooled":
                pooled = results
            lines.append(row(arm, epsilon, results, pooled if arm != "pooled" else ()))
            print(told(lines[-1]), flush=True)
            if args.json:
                args.json.write_text(
                    json.dumps({"set": path.name, "delta": 2e-5, "rows": lines}, indent=1) + "\n"
                )


if __name__ == "__main__":
    main()
