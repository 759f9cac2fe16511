"""How well does the empirical ε do: does its interval hold the claim, are deviations flagged, and nothing else?

    python scripts/study_empirical_epsilon.py [--runs 100] [--recipes linear-10 cnn-10] [--epsilons 1 3 8]
                                              [--shares] [--json]

For each recipe and ε: correct runs, runs with σ·0.95, and runs with q·1.2, the claim staying as it was. Asked for:
the 98 % interval holds the claim in ≥ 93 of 100 correct runs, each deviation is flagged in ≥ 95 of 100, correct runs
in ≤ 1 of 100. Noise and samples come from seeds, so a study can be repeated; a run takes 0.3 to 2 s of one core.

With --shares each step is a secure sum of four sites that add shares of the noise, one of which colludes and one of
which may drop out, and what is opened is looked at, less what the colluder knows; two to four times as long.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from fedimg.audit.empirical import EmpiricalEpsilon, audit_plan, audited_plan, canary_sizes
from fedimg.audit.shadow import AnyShadow, LinearShadow, ShadowNetwork
from fedimg.models import ModelConfig, build_model
from fedimg.privacy import accounting
from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest

DELTA = 2e-5
COVERED, FLAGGED, FALSE_ALARMS = 0.93, 0.95, 0.01


@dataclass(frozen=True)
class Recipe:
    """A network with its clip norm, a sampling rate and a number of steps."""

    network: str
    clip: float
    rate: float
    steps: int


RECIPES = {
    "linear-10": Recipe("linear", 0.1, 0.10, 100),
    "linear-25": Recipe("linear", 0.1, 0.25, 200),
    "linear-50": Recipe("linear", 0.1, 0.50, 400),
    "cnn-10": Recipe("cnn", 1.0, 0.10, 100),
    "cnn-25": Recipe("cnn", 1.0, 0.25, 100),
}


def plan_of(recipe: Recipe, epsilon: float, shares: bool) -> PrivacyPlan:
    """A plan whose noise is calibrated to ε without retries."""
    request = PrivacyRequest(
        mode="distributed" if shares else "per_site",
        noise="discrete_gaussian" if shares else "gaussian",
        epsilon=epsilon,
        delta=DELTA,
        l2_clip_norm=recipe.clip,
        sampling_rate=recipe.rate,
        rounds=recipe.steps,
        evaluations=0,
        retry_allowance=0,
    )
    noise = accounting.calibrate(epsilon, DELTA, accounting.Event(1.0, recipe.rate, recipe.steps))
    plan = PrivacyPlan(request, 1000, recipe.rate, noise, 0.0, epsilon, epsilon)
    if not shares:
        return plan
    size = network_of(recipe, plan)
    return replace(
        plan, coordinates=size.own + size.coordinates, sum_sites=4, sum_threshold=3, sum_colluders=1
    )


def network_of(recipe: Recipe, plan: PrivacyPlan) -> ShadowNetwork:
    """The recipe's network with a shadow block of the size that the plan asks for."""
    own = audited_plan(plan)
    coordinates = len(canary_sizes(own.noise_multiplier, own.sampling_rate, own.steps))
    if recipe.network == "linear":
        return LinearShadow(81, coordinates)
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(8, 8)), seed=0)
    return AnyShadow(network, network.image_shape, network.number_of_parameters, coordinates)


def studied(name: str, epsilon: float, runs: int, first_seed: int, shares: bool) -> dict[str, Any]:
    """One recipe at one ε: how many of `runs` were covered and flagged."""
    recipe, begun = RECIPES[name], time.process_time()
    plan = plan_of(recipe, epsilon, shares)
    network = network_of(recipe, plan)
    mechanisms = {
        "correct": None,
        "noise_0.95": replace(plan, noise_multiplier=0.95 * plan.noise_multiplier),
        "rate_1.2": replace(plan, sampling_rate=1.2 * plan.sampling_rate),
    }
    found: dict[str, list[EmpiricalEpsilon]] = {}
    for case, mechanism in mechanisms.items():
        entropies = (
            InsecureSeededEntropy(seed, name, f"{epsilon}", case)
            for seed in range(first_seed, first_seed + runs)
        )
        found[case] = [
            audit_plan(plan, entropy, network=network, mechanism=mechanism) for entropy in entropies
        ]
    correct = found["correct"]
    return {
        "recipe": name,
        "shares": shares,
        "epsilon": epsilon,
        "noise_multiplier": plan.noise_multiplier,
        "runs": runs,
        "canaries": correct[0].canaries,
        "covered": sum(run.low <= run.claim <= run.high for run in correct),
        "mean_estimate": sum(run.estimate for run in correct) / runs,
        "mean_width": sum(run.high - run.low for run in correct) / runs,
        "flagged": {case: sum(run.flagged for run in of_case) for case, of_case in found.items()},
        "exceeds": {case: sum(run.exceeds for run in of_case) for case, of_case in found.items()},
        "seconds_a_run": (time.process_time() - begun) / (3 * runs),
    }


def holds(row: dict[str, Any]) -> bool:
    """Whether what is asked for was reached."""
    runs, flagged = row["runs"], row["flagged"]
    return bool(
        row["covered"] >= COVERED * runs
        and min(flagged["noise_0.95"], flagged["rate_1.2"]) >= FLAGGED * runs
        and flagged["correct"] <= FALSE_ALARMS * runs
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--epsilons", nargs="+", type=float, default=[1.0, 3.0, 8.0])
    parser.add_argument("--shares", action="store_true", help="of noise, in secure sums")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.recipes:
        for epsilon in arguments.epsilons:
            row = studied(name, epsilon, arguments.runs, arguments.seed, arguments.shares)
            rows.append(row)
            flagged = row["flagged"]
            sys.stderr.write(
                f"{name} ε={epsilon:g}: covered {row['covered']}/{row['runs']}, flagged σ·0.95 "
                f"{flagged['noise_0.95']}, q·1.2 {flagged['rate_1.2']}, correct {flagged['correct']};"
                f" {row['seconds_a_run']:.2f} s a run\n"
            )
    verdict = "pass" if all(map(holds, rows)) else "fail"
    if arguments.json:
        print(json.dumps({"study": "empirical_epsilon", "verdict": verdict, "rows": rows}, indent=2))
    else:
        print(verdict)
    return 0 if verdict == "pass" else 1


if __name__ == "__main__":
    raise SystemExit(main())
