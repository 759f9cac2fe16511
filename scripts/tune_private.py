"""Settings for private training of scattering features, chosen on public photographs that show no patients.

    nice python scripts/tune_private.py FOLDER --json tuning.json

FOLDER holds the four files of Fashion-MNIST (`photographs`). It takes about 20 minutes a regime and repetition
on one core. The script tries learning rates, a larger clip norm, numbers of centring rounds, schedules, momentum and
averages, each time with the best of before, and goes by the mean AUROC over questions, runs and the ε of a
regime: one recipe for ε ≥ 2, one for 0.7 to 2 and one for less. No medical image has a part in it. Every run
goes through the sites' and the server's own steps (`private_runs`), at δ = 2e-5, one site.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from photographs import QUESTIONS, pictures
from private_runs import divided, examples, train

from fedimg.config import compose
from fedimg.models import build_model
from fedimg.values import SiteDataset

REGIMES = {
    "scattering_private": (8.0, 3.0),
    "scattering_private_low": (1.5, 0.8),
    "scattering_private_least": (0.5, 0.35),
}
TRAIN, PUBLIC = 4708, 1351
CLIP_NORMS = (1.0,)
ROUNDS = (400,)
CENTRING = (80, 160)  # of the default number of rounds
MOMENTA = (0.95,)
AVERAGES = (0.9, 0.99)
# Averages that differ by less are told apart by chance; the longer one is taken.
TIE = 1e-3


@dataclass(frozen=True)
class Recipe:
    """What is tuned. `learning_rate` is training.private_learning_rate."""

    learning_rate: float = 0.2
    l2_clip_norm: float = 0.1
    rounds: int = 800
    centring_rounds: int = 40
    sampling_rate: float = 0.22
    momentum: float = 0.9
    ema: float = 0.97

    def overrides(self) -> list[str]:
        return [
            f"training.private_learning_rate={self.learning_rate:g}",
            f"privacy.l2_clip_norm={self.l2_clip_norm:g}",
            f"rounds={self.rounds}",
            f"model.centring_rounds={self.centring_rounds}",
            f"privacy.sampling_rate={self.sampling_rate:g}",
            f"aggregation.momentum={self.momentum:g}",
            f"aggregation.ema={self.ema:g}",
        ]


@dataclass(frozen=True)
class Question:
    """One tuning set, its features computed once."""

    train: SiteDataset
    public: SiteDataset


@dataclass(frozen=True)
class Tried:
    """A recipe's mean AUROC over questions, ε of a regime, and runs."""

    recipe: Recipe
    auroc: float


class Search:
    """Recipes one after the other, none twice."""

    def __init__(self, epsilons: Sequence[float], questions: Sequence[Question], runs: int) -> None:
        self._epsilons, self._questions, self._runs = epsilons, questions, runs
        self.tried: list[Tried] = []

    def best(self, recipes: Iterable[Recipe]) -> Recipe:
        """Of these and the best of before."""
        for recipe in recipes:
            if all(one.recipe != recipe for one in self.tried):
                self.tried.append(Tried(recipe, self._mean(recipe)))
                print(f"  {self.tried[-1].auroc:.4f}  {recipe}", flush=True)
        return max(self.tried, key=lambda one: one.auroc).recipe

    def auroc(self, recipe: Recipe) -> float:
        return next(one.auroc for one in self.tried if one.recipe == recipe)

    def _mean(self, recipe: Recipe) -> float:
        found = [
            one_run(question, recipe, epsilon, seed)
            for epsilon, question, seed in itertools.product(
                self._epsilons, self._questions, range(self._runs)
            )
        ]
        return math.fsum(found) / len(found)


def question(folder: Path, name: str, train: int, public: int) -> Question:
    config = compose(["model=scattering", "imaging=medmnist"])
    network = build_model(config.model, config.seed)
    parts = [pictures(folder, name, count, 0, split) for split, count in (("train", train), ("test", public))]
    return Question(*(examples(part.images, part.labels, config, network) for part in parts))


def one_run(question: Question, recipe: Recipe, epsilon: float, seed: int) -> float:
    """AUROC on the question's public images."""
    config = compose(
        [
            "experiment=scattering_private",
            "imaging=medmnist",
            "data.partition=iid",
            "sites=1",
            f"privacy.epsilon={epsilon:g}",
            f"seed={seed}",
            "evaluation.bootstrap=0",
            "evaluation.every=100000",
            "audit.battery=false",  # of the mechanism, not of a recipe; `study_pneumonia` runs it
            *recipe.overrides(),
        ]
    )
    parts = divided(question.train, config)
    return train(config, parts, len(question.train.labels), question.public).auroc


def climbed(search: Search, best: Recipe, factor: float) -> Recipe:
    """The learning rate times `factor`, as long as that helps."""
    while True:
        further = search.best([replace(best, learning_rate=best.learning_rate * factor)])
        if further == best:
            return best
        best = further


def searched(search: Search) -> Recipe:
    """The learning rate first; then the rest one after the other, each with the best so far."""
    best = search.best([Recipe()])
    best = climbed(search, climbed(search, best, 2.0), 0.5)
    # where most gradients are clipped, a step is as long as C times the rate
    reach = best.learning_rate * best.l2_clip_norm
    best = search.best(
        replace(best, learning_rate=round(reach / norm, 6), l2_clip_norm=norm) for norm in CLIP_NORMS
    )
    best = search.best(replace(best, centring_rounds=rounds) for rounds in CENTRING)
    share = best.centring_rounds / best.rounds
    schedules = [replace(best, rounds=rounds, centring_rounds=round(share * rounds)) for rounds in ROUNDS]
    # as long steps, or as far in all
    as_far = [replace(one, learning_rate=best.learning_rate * best.rounds / one.rounds) for one in schedules]
    best = search.best(schedules + as_far)
    best = search.best(
        replace(best, momentum=m, learning_rate=best.learning_rate * (1 - m) / (1 - best.momentum))
        for m in MOMENTA
    )
    search.best(replace(best, ema=ema) for ema in AVERAGES)
    averages = [replace(best, ema=ema) for ema in (*AVERAGES, best.ema)]
    highest = max(search.auroc(one) for one in averages)
    return max((one for one in averages if search.auroc(one) > highest - TIE), key=lambda one: one.ema)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="with Fashion-MNIST's four files")
    parser.add_argument("--runs", type=int, default=1, help="repetitions of every setting")
    parser.add_argument("--questions", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--train", type=int, default=TRAIN)
    parser.add_argument("--public", type=int, default=PUBLIC)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    questions = [question(args.folder, name, args.train, args.public) for name in args.questions]
    chosen: dict[str, Any] = {}
    for name in args.regimes:
        epsilons = REGIMES[name]
        print(f"{name}: ε = {', '.join(f'{e:g}' for e in epsilons)}", flush=True)
        search = Search(epsilons, questions, args.runs)
        recipe = searched(search)
        chosen[name] = {
            "epsilons": epsilons,
            "chosen": asdict(recipe),
            "auroc": search.auroc(recipe),
            "tried": [asdict(one) for one in search.tried],
        }
        print(f"  chosen: {search.auroc(recipe):.4f} {recipe}", flush=True)
    told: dict[str, Any] = {"tuned_on": args.questions, "delta": 2e-5, "regimes": chosen}
    told["processor_seconds"] = round(time.process_time() - began, 1)
    if args.json:
        args.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
