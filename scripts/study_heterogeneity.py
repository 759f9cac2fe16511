"""PneumoniaMNIST over eight sites with skewed classes: FedAvg and what was made for such sites, side by side.

    python scripts/study_heterogeneity.py FILE.npz [--seeds 3] [--rates 0.03 0.1 0.3] [--rounds 15] [--json FILE]

The training images are divided among the sites by Dirichlet(0.1) shares of each class; a fifth of each site's is held
out there. Every run is of the sites' and the coordinator's own steps (`private_runs`), with privacy=none; the model is
a small convolutional network. Of each algorithm the learning rate is the best of the grid with seed 0: by AUROC on the
published validation split, and where every site has a model of its own by their mean accuracy on one half of what each
held out. Everything told is of the published test split, and of the other half.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from private_runs import divided, examples, mean_and_sd
from safetensors.torch import load_file

from fedimg import client_round, evaluation
from fedimg.config import Config, compose
from fedimg.coordination import rounds
from fedimg.coordination.rounds import Carrier
from fedimg.coordination.terms import terms_of
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.heterogeneity import states_of
from fedimg.heterogeneity.personal import MODEL
from fedimg.models import Network, build_model
from fedimg.simulation import engines, virtual
from fedimg.site_data import Loaded
from fedimg.sources import medmnist
from fedimg.sources.medmnist_sets import SETS
from fedimg.training import ASIDE, KEPT
from fedimg.values import SiteDataset, Vector

METHODS: Mapping[str, tuple[str, ...]] = {
    "FedAvg": (),
    "FedProx": ("training.proximal_mu=0.1",),
    "SCAFFOLD": ("training=scaffold",),
    "FedDyn": ("training=feddyn",),
    "FedBN": ("training=fedbn",),
    "local head": ("training=local_head",),
    "Ditto": ("training=ditto", "training.algorithm.personal_epochs=2"),
    "fine-tuned head": ("training=fine_tuned_head",),
}
_COMMON = (
    "privacy=none",
    "secagg=none",
    "aggregation=fedavg",
    "model=cnn",
    "model.width=8",
    "training.local_epochs=2",
    "training.batch_size=64",
    "data.partition=dirichlet",
    "data.alpha=0.1",
    "evaluation.bootstrap=0",
    "evaluation.every=100000",
    "audit.battery=false",
    "audit.empirical=false",
    "compare=false",
)
_HELD = 5  # one image in so many


@dataclass(frozen=True)
class Splits:
    """The published splits, as the network takes them."""

    network: Network
    train: SiteDataset
    validation: SiteDataset
    test: SiteDataset


@dataclass(frozen=True)
class Result:
    """One run. Of what sites keep for themselves no global number is told; None where there is none.

    Attributes:
        chosen_by: what the learning rate is chosen by.
        auroc, accuracy: of the global model on the published test split.
        own_global, own_personal: mean over sites of accuracy on their own held-out images.
    """

    seed: int
    learning_rate: float
    chosen_by: float
    auroc: float | None
    accuracy: float | None
    own_global: float | None
    own_personal: float | None
    seconds: float


def configured(method: str, rate: float, seed: int, overrides: Sequence[str]) -> Config:
    # an algorithm's own file names its coordinator's step: ours says it too
    asked = [*METHODS[method], *_COMMON, f"training.learning_rate={rate:g}", f"seed={seed}", *overrides]
    return compose(asked)


def load(path: Path, config: Config) -> Splits:
    arrays = medmnist.read_npz(path, SETS[medmnist.set_name(config.data)])
    network = build_model(config.model, config.seed)
    train, validation, test = (
        examples(arrays[split].images[:, 0], arrays[split].labels, config, network)
        for split in ("train", "val", "test")
    )
    return Splits(network, train, validation, test)


def one_run(config: Config, data: Splits) -> Result:
    """From the first round to the last, and every model measured."""
    began = time.process_time()
    parts = divided(data.train, config)
    network = build_model(config.model, config.seed)
    with TemporaryDirectory() as folder:
        released, personal, held = _trained(config, parts, network, Path(folder))
    name = config.training.algorithm.name
    halves = {site: _halves(part) for site, part in held.items()}
    own = {k: _mean_accuracy(network, personal, {s: h[k] for s, h in halves.items()}) for k in (0, 1)}
    seed, rate = config.seed, config.training.learning_rate
    if name in KEPT:
        return Result(seed, rate, own[0], None, None, None, own[1], time.process_time() - began)
    same = dict.fromkeys(held, released)
    validation, test = (_auroc(network, released, part) for part in (data.validation, data.test))
    return Result(
        seed,
        rate,
        own[0] if name in ASIDE else validation,
        test,
        _accuracy(network, released, data.test),
        _mean_accuracy(network, same, {s: h[1] for s, h in halves.items()}),
        own[1] if name in ASIDE else None,
        time.process_time() - began,
    )


def _trained(
    config: Config, parts: Mapping[str, SiteDataset], network: Network, folder: Path
) -> tuple[Vector, dict[str, Vector], dict[str, SiteDataset]]:
    """The global model, each site's own (the global one where it has none), and what each held out."""
    terms = terms_of(config, "study")
    sites, held = [], {}
    for name, part in parts.items():
        # what every site declares, so that each counts by what it has
        declared = max(1, part.number_of_patients)
        home = virtual.make_scratch_home(folder / name, name, declared, config, terms.privacy)
        text = home.policy.read_text("utf-8").replace("min_patients: 20", "min_patients: 1")
        home.policy.write_text(text, "utf-8")
        keys, rows = LedgerKeys(home.site_key), np.arange(part.number_of_patients)
        held[name] = part.of_patients(rows[rows % _HELD == 0])
        own = {unit: keys.of_unit(unit) for unit in part.patient_keys}
        loaded = Loaded(part.of_patients(rows[rows % _HELD > 0]), held[name], Counter(), 0.0, own)
        sites.append(client_round.join(home, name, terms, torch.device("cpu"), loaded))
    weights = {name: float(part.number_of_patients) for name, part in parts.items()}
    server = rounds.make_server(config, terms, network, weights, None)
    history = rounds.run_rounds(server, tuple(parts), Carrier(engines.in_turn(sites)), config, terms)
    if history.released is None:
        raise RuntimeError("a run without a model")
    personal = {}
    for site in sites:
        file = states_of(site.home, terms.run_id).folder / MODEL
        kept = file.is_file()
        personal[site.name] = (
            network.layout.flatten(load_file(file)).double().numpy() if kept else history.released
        )
    return history.released, personal, held


def _halves(held: SiteDataset) -> tuple[SiteDataset, SiteDataset]:
    rows = np.arange(held.number_of_patients)
    return held.of_patients(rows[rows % 2 == 1]), held.of_patients(rows[rows % 2 == 0])


def _mean_accuracy(network: Network, models: Mapping[str, Vector], held: Mapping[str, SiteDataset]) -> float:
    """Over the sites that have images to be measured on."""
    found = [_accuracy(network, models[name], part) for name, part in held.items() if len(part.labels)]
    return float(np.mean(found)) if found else 0.0


def _accuracy(network: Network, model: Vector, part: SiteDataset) -> float:
    called = network.probabilities(model, part.images).argmax(axis=1)
    return float(np.mean(called == part.labels.numpy()))


def _auroc(network: Network, model: Vector, part: SiteDataset) -> float:
    scores = network.probabilities(model, part.images)
    return evaluation.evaluate_scores(scores, part.labels.numpy(), bootstrap=0).metrics["auroc"].value


def studied(
    method: str, data: Splits, rates: Sequence[float], seeds: int, overrides: Sequence[str]
) -> list[Result]:
    """Runs at the rate that is best with seed 0, one a seed."""
    tried = [one_run(configured(method, rate, 0, overrides), data) for rate in rates]
    best = max(tried, key=lambda result: result.chosen_by)
    others = [one_run(configured(method, best.learning_rate, s, overrides), data) for s in range(1, seeds)]
    return [best, *others]


def told(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return "–"
    mean, sd = mean_and_sd(found)
    return f"{mean:.3f} ± {sd:.3f}"


def row(method: str, results: Sequence[Result]) -> str:
    columns = [
        told([getattr(result, name) for result in results])
        for name in ("auroc", "accuracy", "own_global", "own_personal")
    ]
    return f"| {method} | {results[0].learning_rate:g} | {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.03, 0.1, 0.3])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    overrides = ["data=medmnist", f"data.path={asked.path}", f"sites={asked.sites}", f"rounds={asked.rounds}"]
    data = load(asked.path, configured("FedAvg", 0.1, 0, overrides))
    print("| algorithm | η | test AUROC | test accuracy | own held-out, global | own held-out, own model |")
    print("|---|---|---|---|---|---|", flush=True)
    found: dict[str, list[Result]] = {}
    for method in asked.methods:
        found[method] = studied(method, data, asked.rates, asked.seeds, overrides)
        print(row(method, found[method]), flush=True)
        if asked.json is not None:
            written = {name: [asdict(result) for result in results] for name, results in found.items()}
            asked.json.write_text(json.dumps(written, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
