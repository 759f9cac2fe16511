"""PneumoniaMNIST under privacy: ten runs at each ε, pooled and over eight sites.

    python scripts/study_pneumonia.py FILE.npz [--runs 10] [--json FILE] [--pooled 8 3 1 0.5] [--sites8 8 3 1]

Each run is what this command trains (experiment by ε/√sites, see `RECIPES`):

    fedimg simulate data=medmnist data.path=FILE.npz experiment=scattering_private sites=1 privacy.epsilon=8 seed=0

ε is for one *image* (the set names no patients), add or remove one, at δ = 2e-5, over everything that a
site releases in a run, retries included. The experiments' settings were chosen by `tune_private.py` on
photographs of garments. `seed` is the run's number: initial weights (zero, for this model) and the division among
sites; sampling and noise come from the operating system. The published test split is the server's own public
set: it is scored exactly and once a run, after the last round. The validation split trains nothing; accuracy
is told at the threshold that is best on it. Both are public benchmark splits, and no part of ε's promise.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from private_runs import best_threshold, divided, examples, mean_and_sd, scores
from private_runs import train as trained

from fedimg.config import Config, compose
from fedimg.models import Network, build_model
from fedimg.sources import medmnist
from fedimg.sources.medmnist_sets import SETS
from fedimg.values import SiteDataset

# Down to which ε a recipe is used. K sites' own noises make a mean √K times as noisy as one site's on the same images.
RECIPES = (
    (2.0, "scattering_private"),
    (0.7, "scattering_private_low"),
    (0.0, "scattering_private_least"),
)


@dataclass(frozen=True)
class Splits:
    """Features of the published splits, and what its card states of the training images."""

    network: Network
    train: SiteDataset
    validation: SiteDataset
    test: SiteDataset
    stated: int


@dataclass(frozen=True)
class Result:
    """One run on the test split."""

    seed: int
    epsilon: float
    auroc: float
    accuracy: float
    threshold: float
    processor_seconds: float


def configured(
    path: Path,
    epsilon: float,
    sites: int,
    seed: int,
    overrides: Sequence[str] = (),
    by: float | None = None,
) -> Config:
    """`by`: the ε that chooses the recipe, where it is not ε/√sites."""
    name = next(recipe for least, recipe in RECIPES if (by or epsilon / math.sqrt(sites)) >= least)
    return compose(
        [
            "data=medmnist",
            f"data.path={path}",
            f"experiment={name}",
            f"sites={sites}",
            f"privacy.epsilon={epsilon:g}",
            f"seed={seed}",
            "evaluation.bootstrap=0",
            "secagg=none",  # which changes nothing that is measured, and costs five exchanges a round
            *overrides,
            # the test split is not looked at between rounds
            "evaluation.every=100000",
        ]
    )


def load(path: Path, config: Config) -> Splits:
    published = SETS[medmnist.set_name(config.data)]
    arrays = medmnist.read_npz(path, published)
    network = build_model(config.model, config.seed)
    train, validation, test = (
        examples(arrays[split].images[:, 0], arrays[split].labels, config, network)
        for split in ("train", "val", "test")
    )
    return Splits(network, train, validation, test, published.counts[0])


def one_run(
    config: Config, data: Splits, missing: Callable[[int], Sequence[str]] = lambda _round: ()
) -> Result:
    began = time.process_time()
    run = trained(config, divided(data.train, config), data.stated, data.test, missing)
    held = scores(data.network, run.released, data.validation)
    threshold = best_threshold(held, data.validation.labels.numpy())
    called = scores(data.network, run.released, data.test) >= threshold
    accuracy = float(np.mean(called == (data.test.labels.numpy() == 1)))
    return Result(config.seed, run.epsilon, run.auroc, accuracy, threshold, time.process_time() - began)


def row(sites: int, asked: float, results: Sequence[Result]) -> dict[str, Any]:
    """Means, standard deviations over runs, and every run."""
    auroc, accuracy = (
        mean_and_sd([getattr(result, name) for result in results]) for name in ("auroc", "accuracy")
    )
    return {
        "sites": sites,
        "epsilon_asked": asked,
        "epsilon": max(result.epsilon for result in results),
        "auroc": {"mean": auroc[0], "sd": auroc[1]},
        "accuracy": {"mean": accuracy[0], "sd": accuracy[1]},
        "runs": [asdict(result) for result in results],
    }


def told(line: dict[str, Any]) -> str:
    every = " ".join(f"{run['auroc']:.4f}" for run in line["runs"])
    return (
        f"{line['sites']} site(s)  ε = {line['epsilon_asked']:g}: AUROC {line['auroc']['mean']:.4f} "
        f"± {line['auroc']['sd']:.4f}, accuracy {line['accuracy']['mean']:.4f} "
        f"± {line['accuracy']['sd']:.4f}; every AUROC: {every}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pooled", type=float, nargs="*", default=[8, 3, 1, 0.5], help="ε of one site")
    parser.add_argument("--sites8", type=float, nargs="*", default=[8, 3, 1], help="ε of eight sites")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.path.resolve()
    data = load(path, configured(path, 8.0, 1, 0))
    lines: list[dict[str, Any]] = []
    about = {
        "set": path.name,
        "unit": "image",
        "delta": 2e-5,
        "settings_tuned_on": "photographs of garments (tune_private.py)",
    }
    for sites, epsilons in ((1, args.pooled), (8, args.sites8)):
        for epsilon in epsilons:
            runs = [one_run(configured(path, epsilon, sites, seed), data) for seed in range(args.runs)]
            lines.append(row(sites, epsilon, runs))
            print(told(lines[-1]), flush=True)
            if args.json:  # after every row: a study that is stopped has not read the test split in vain
                args.json.write_text(json.dumps({**about, "rows": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
