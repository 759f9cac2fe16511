"""Many federated runs on the same examples, each through the sites' and the server's own steps.

What `fedimg simulate` does after the intake, without its report: each site has a home, a policy and a
scratch ledger, joins under the run's terms, and answers the server's rounds; every training step is a
`ReleaseSession.release`, charged before it is made, with the operating system's entropy. Only the
features of the images, which depend on nothing else, are computed once for all runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch

from fedimg import client_round
from fedimg.config import Config, settled
from fedimg.coordination import rounds
from fedimg.coordination.rounds import Carrier
from fedimg.coordination.terms import terms_of
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.imaging import partition, patients
from fedimg.models import Network, build_model
from fedimg.privacy.plan import federation_epsilon
from fedimg.run_sums import sums_of
from fedimg.secagg.request import INPUT_STEP, SumRequest, is_request
from fedimg.server_round import Exchange
from fedimg.simulation import engines, provisioning, virtual
from fedimg.site_data import Loaded
from fedimg.sources.manifest import declared
from fedimg.values import SiteDataset, Vector

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        epsilon: of one unit in the whole federation, every declared release and retry counted.
        auroc: on the server's public set. released: (P,), the model that is evaluated and exported.
    """

    epsilon: float
    auroc: float
    released: Vector


def examples(
    images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], config: Config, network: Network
) -> SiteDataset:
    """Features of single images (N, H, W) uint8, each its own unit: the lane of declared public arrays."""
    keys = [f"image-{number:06d}" for number in range(len(labels))]
    dataset = patients.dataset_from_arrays(images[:, None], labels, keys, config.imaging)
    return replace(dataset, images=network.features(dataset.images))


def divided(everything: SiteDataset, config: Config) -> dict[str, SiteDataset]:
    """The examples of each site, dealt out by `config.seed`."""
    site_of_unit = partition.assign_units(
        everything.labels.numpy(), config.data.partition, config.sites, config.data.alpha, config.seed
    )
    return {
        name: everything.of_patients(np.flatnonzero(site_of_unit == number))
        for number, name in enumerate(partition.site_names(config.sites))
    }


def train(
    config: Config,
    parts: Mapping[str, SiteDataset],
    stated: int,
    public: SiteDataset,
    missing: Callable[[int], Sequence[str]] = lambda _round: (),
) -> Trained:
    """One run from the first round to the last.

    Args:
        parts: each site's training examples. stated: how many the source's card states for all sites.
        public: the server's own set; it is scored once, after the last round.
        missing: who drops out of a round's secure sum, after the sites have shared their secrets.

    Raises:
        FedimgError: what a site or the server refuses.
    """
    with TemporaryDirectory() as scratch:
        return _train(settled(config, len(parts)), parts, stated, public, missing, Path(scratch))


def _train(
    config: Config,
    parts: Mapping[str, SiteDataset],
    stated: int,
    public: SiteDataset,
    missing: Callable[[int], Sequence[str]],
    folder: Path,
) -> Trained:
    terms = terms_of(config, "study")
    network = build_model(terms.model, terms.seed)
    number = declared(stated / len(parts))
    sites = []
    homes = {
        name: virtual.make_scratch_home(folder / name, name, number, config, terms.privacy) for name in parts
    }
    roster = provisioning.provisioned(folder, sorted(parts), config)
    for name, part in parts.items():
        home = homes[name]
        keys = LedgerKeys(home.site_key)  # as of arrays that are declared public: each unit by its name
        own = {unit: keys.of_unit(unit) for unit in part.patient_keys}
        loaded = Loaded(part, part.of_patients(np.zeros(0, np.int64)), Counter(), 0.0, own)
        sites.append(client_round.join(home, name, terms, torch.device("cpu"), loaded))
    weights = {site.name: float(number) for site in sites}
    server = rounds.make_server(config, terms, network, weights, public)
    if roster is not None:
        server.sums = sums_of(terms, roster, terms.update_size(network))
    carrier = Carrier(_without(missing, engines.in_turn(sites)))
    try:
        history = rounds.run_rounds(server, tuple(parts), carrier, config, terms)
    finally:
        for site in sites:
            if site.ledger is not None:
                site.ledger.disconnect()
    if history.final is None or history.released is None:
        raise RuntimeError("a run without a public set")
    plans = [site.plan for site in sites if site.plan is not None]
    epsilon = federation_epsilon(plans) if plans else float("inf")
    return Trained(epsilon, history.final.metrics["auroc"].value, history.released)


def _without(missing: Callable[[int], Sequence[str]], exchange: Exchange) -> Exchange:
    """Nobody who is missing is asked for its masked input, or for anything after it."""

    def asked(outgoing: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
        first = next(iter(outgoing.values()))
        if not is_request(first):
            return exchange(outgoing)
        request = SumRequest.from_bytes(first)
        gone = set(missing(request.round)) if request.step >= INPUT_STEP else set()
        return exchange({name: data for name, data in outgoing.items() if name not in gone})

    return asked


def scores(network: Network, model: Vector, dataset: SiteDataset) -> Floats:
    """(N,) probabilities of class 1."""
    return np.asarray(network.probabilities(model, dataset.images)[:, 1], dtype=np.float64)


def best_threshold(scores: Floats, labels: npt.NDArray[np.int64]) -> float:
    """The score from which on class 1 is called, for the highest accuracy on these examples.

    Of thresholds between neighbouring scores that are equally good, the middle one.
    """
    order = np.argsort(scores, kind="stable")
    ordered, positive = scores[order], labels[order] == 1
    right = np.concatenate([[positive.sum()], positive.sum() + np.cumsum(np.where(positive, -1, 1))])
    edges = np.concatenate([[0.0], (ordered[1:] + ordered[:-1]) / 2, [1.0]])
    # Between equal scores there is no threshold.
    distinct = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])
    best = np.flatnonzero(distinct & (right == right[distinct].max()))
    return float(edges[best[len(best) // 2]])


def mean_and_sd(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
