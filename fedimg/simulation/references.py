"""What the federation is worth: each site alone, and all data pooled, with and without privacy.

Only a simulation can do this, and only with generated or declared public data: training on pooled
or un-noised data of patients is what the federation exists to avoid. Each reference is the same
client and server round with other sites in it, in a process of its own beside the main run.
"""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from fedimg import client_round, server_round
from fedimg.client_round import Site, Terms
from fedimg.config import Config
from fedimg.coordination import rounds
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.rounds import Carrier
from fedimg.coordination.terms import own_network
from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.imaging.patients import joined, key_in
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest
from fedimg.processes import never_started
from fedimg.secagg.config import SecaggConfig
from fedimg.simulation import virtual
from fedimg.simulation.virtual import Federation, Progress, SiteSetup
from fedimg.site_data import Loaded
from fedimg.training import AlgorithmConfig
from fedimg.values import Interval, SiteDataset

Arrangement = Literal["site", "federation", "pooled"]


@dataclass(frozen=True)
class Reference:
    """One more training: which sites' data, arranged how, with which privacy mode."""

    arrangement: Arrangement
    name: str
    mode: str
    members: tuple[SiteSetup, ...]


@dataclass(frozen=True)
class Compared:
    """A reference and the AUROC of its model on the public set; `note` says why there is none."""

    reference: Reference
    auroc: Interval | None
    note: str = ""


@dataclass
class Comparison:
    """References at work in other processes."""

    pending: list[tuple[Reference, Future[Compared]]]
    note: str = ""

    def results(self, progress: Progress) -> list[Compared]:
        """Wait for all of them."""
        done = []
        for number, (_, future) in enumerate(self.pending, start=1):
            try:
                done.append(future.result())
            except BrokenProcessPool:
                if done:
                    raise
                raise never_started() from None
            progress("references", number, len(self.pending))
        return done


def plan(config: Config, federation: Federation) -> list[Reference]:
    """Every site alone, the federation in the other mode, and pooled data; each with and without privacy.

    Beside shared noise "with privacy" is each site's own.
    """
    own = "per_site" if config.privacy.mode == DISTRIBUTED else config.privacy.mode
    modes = ("none",) if own == "none" else (own, "none")
    every = federation.setups
    references = [
        Reference("federation", "federation", mode, every) for mode in modes if mode != config.privacy.mode
    ]
    for mode in modes:
        references.append(Reference("pooled", "pooled", mode, every))
        references += [Reference("site", setup.name, mode, (setup,)) for setup in every]
    return references


@contextmanager
def started(config: Config, terms: Terms, federation: Federation, folder: RunFolder) -> Iterator[Comparison]:
    """Train all references beside the main run; on an exception they are stopped."""
    if not config.compare:
        yield Comparison([], "the comparison was switched off (compare=false)")
        return
    if terms.measure.headline != "auroc":
        yield Comparison(
            [], f"no references are trained with model.task={terms.model.task}: they are compared by AUROC"
        )
        return
    if federation.coordinator is not None:
        yield Comparison([], "no references are trained with privacy=client_level: one client has no cohort")
        return
    if not federation.public_data or federation.public_home is None:
        yield Comparison([], "references are trained on generated or declared public data only")
        return
    workers = max(1, (config.engine.workers or multiprocessing.cpu_count()) - 1)
    # Not fork: a child would inherit torch's threads and the sites' open ledgers.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    with _deaf_children():
        pending = [
            (reference, pool.submit(train, reference, config, terms, federation, folder.path))
            for reference in plan(config, federation)
        ]
    try:
        yield Comparison(pending)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # a reference may have minutes to go, and nobody waits for it any more
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C: the parent does, and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train(reference: Reference, config: Config, terms: Terms, federation: Federation, run: Path) -> Compared:
    """Train one reference from start to end and evaluate it on the public set."""
    torch.set_num_threads(config.engine.threads)
    own = replace(
        terms,
        run_id=f"{terms.run_id}-{reference.arrangement}-{reference.name}-{reference.mode}",
        training=replace(terms.training, algorithm=AlgorithmConfig()),
        privacy=_alone(terms.privacy, reference.mode),
        secagg=SecaggConfig("none"),  # one site, or all data at one
    )
    try:
        sites = _sites(reference, config, own, federation, run)
        network = own_network(own)
        weights = {site.name: float(federation.declared.get(site.name, 1)) for site in sites}
        server = rounds.make_server(config, own, network, weights, _public(federation, terms))
        by_name = {site.name: site for site in sites}
        rounds.run_rounds(
            server,
            tuple(by_name),
            Carrier(
                lambda outgoing: {
                    name: client_round.answer(by_name[name], data) for name, data in outgoing.items()
                }
            ),
            replace(config, evaluation=replace(config.evaluation, every=own.rounds)),
            own,
        )
        found = server_round.evaluate_public(server, bootstrap=config.evaluation.bootstrap, seed=config.seed)
    except FedimgError as refusal:
        return Compared(reference, None, str(refusal))
    return Compared(reference, found.metrics.get("auroc") if found is not None else None)


def _alone(asked: PrivacyRequest, mode: str) -> PrivacyRequest:
    """Of sites that share no noise: each adds its own whole one."""
    noise = "gaussian" if asked.mode == DISTRIBUTED else asked.noise
    return replace(asked, mode=mode, evaluations=0, noise=noise)


def _sites(
    reference: Reference, config: Config, terms: Terms, federation: Federation, run: Path
) -> list[Site]:
    """Scratch homes below the run: what a reference spends is charged to ledgers of its own."""
    data = {setup.name: _loaded(setup) for setup in reference.members}
    declared = {setup.name: federation.declared[setup.name] for setup in reference.members}
    if reference.arrangement == "pooled":
        data = {"pooled": pooled(list(data.values()))}
        declared = {"pooled": sum(declared.values())}
    folder = run / "references" / f"{reference.arrangement}-{reference.name}-{reference.mode}"
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted attempt: a reference starts from round 1
    device = torch.device(reference.members[0].device)
    sites = []
    for name, loaded in data.items():
        home: SiteHome = virtual.make_scratch_home(folder / name, name, declared[name], config, terms.privacy)
        sites.append(client_round.join(home, name, terms, device, loaded))
    return sites


@lru_cache(maxsize=64)
def _loaded(setup: SiteSetup) -> Loaded:
    home = SiteHome.open(Path(setup.root))
    return client_round.load(home, setup.terms, own_network(setup.terms))


@lru_cache(maxsize=1)
def _public_of(home: Path, terms: Terms) -> SiteDataset:
    return client_round.load(SiteHome.open(home), terms, own_network(terms)).train


def _public(federation: Federation, terms: Terms) -> SiteDataset | None:
    if federation.public_home is None:
        return None
    return _public_of(federation.public_home, replace(terms, validation_fraction=0.0))


def pooled(parts: Sequence[Loaded]) -> Loaded:
    """All sites' examples as one; patients of different sites stay different patients."""
    held = parts[0].held_back.copy()
    for part in parts[1:]:
        held += part.held_back
    return Loaded(
        joined([part.train for part in parts]),
        joined([part.validation for part in parts]),
        held,
        parts[0].cache_ratio,
        {
            key_in(number, key): own
            for number, part in enumerate(parts)
            for key, own in part.ledger_keys.items()
        },
    )
