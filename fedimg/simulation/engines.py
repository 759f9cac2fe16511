"""Carry bytes between one coordinator and its virtual sites.

An engine is an adapter: the round itself is `client_round` and `server_round`, whatever carries it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from fedimg import client_round
from fedimg.client_round import Site, Terms, answer
from fedimg.config import EngineConfig
from fedimg.coordination.rounds import Carrier
from fedimg.coordination.terms import own_network
from fedimg.errors import ConfigError
from fedimg.fusion import ClientPool, Separately
from fedimg.home import SiteHome
from fedimg.models import Network
from fedimg.operator_log import tell_operator
from fedimg.privacy.calibration import TRAIN
from fedimg.privacy.client_level import MODE
from fedimg.privacy.entropy import Entropy
from fedimg.server_round import Exchange, SeparateTraining, SummedTraining
from fedimg.simulation.clients import HeldData
from fedimg.simulation.virtual import Federation, SiteSetup, open_site
from fedimg.site_data import Loaded
from fedimg.training import LocalTraining
from fedimg.values import SiteDataset, Vector

Result = TypeVar("Result")


def run(
    config: EngineConfig,
    sites: Sequence[Site],
    federation: Federation,
    weights: Mapping[str, float],
    held: HeldData,
    conduct: Callable[[Carrier], Result],
) -> Result:
    """Run `conduct`, the coordinator's loop, on the engine that the configuration names.

    `weights` are the sites' public weights in the mean; `held` has examples that sites do not keep.
    """
    joined = {site.name for site in sites}
    setups = tuple(setup for setup in federation.setups if setup.name in joined)
    if config.name == "inprocess" and config.fused:
        remaining = {site.name: site.roll.remaining(TRAIN) for site in sites if site.roll is not None}
        shares = tuple(weights[setup.name] for setup in setups)
        clients = _VirtualSites(setups, shares, held, remaining)
        with _fused(clients, config.workers, sites[0].device) as (summed, separate):
            return conduct(Carrier(in_turn(sites, held), summed, separate))
    if config.name == "inprocess":
        return conduct(Carrier(in_turn(sites, held)))
    for site in sites:
        if site.ledger is not None:
            site.ledger.disconnect()  # Ray's processes open it themselves
    from fedimg.flower.ray import run_on_ray

    return run_on_ray(
        tuple(setup.name for setup in setups),
        partial(_answer_in_worker, setups),
        lambda exchange: conduct(Carrier(exchange)),
        cpus=config.workers or os.cpu_count() or 1,
    )


def in_turn(sites: Sequence[Site], held: HeldData | None = None) -> Exchange:
    """Each site answers in turn, in this process; `held` has the examples that sites do not keep."""
    by_name = {site.name: site for site in sites}
    held = HeldData() if held is None else held

    def ask(site: Site, data: bytes) -> bytes | None:
        if site.held is None:
            try:
                site = replace(site, held=held.of(site.name, lambda: site.data))
            except Exception as fault:  # noqa: BLE001 - one client's trouble is no other's
                tell_operator(site.home.root, "loading", fault)
                return None
        return answer(site, data)

    def exchange(outgoing: Mapping[str, bytes]) -> dict[str, bytes | None]:
        return {name: ask(by_name[name], data) for name, data in outgoing.items()}

    return exchange


@dataclass(frozen=True)
class _VirtualSites:
    """Open virtual sites as the fused pool sees them: by number, their data read when their turn comes."""

    setups: tuple[SiteSetup, ...]
    weights: tuple[float, ...]
    held: HeldData
    remaining: Mapping[str, npt.NDArray[np.int64]]

    @property
    def terms(self) -> Terms:
        return self.setups[0].terms

    @property
    def training(self) -> LocalTraining:
        return self.terms.training

    def network(self) -> Network:
        return own_network(self.terms)

    def dataset(self, client: int) -> SiteDataset:
        setup = self.setups[client]
        data = self.held.of(setup.name, lambda: self._read(setup)).train
        return data.of_patients(self.remaining[setup.name]) if setup.name in self.remaining else data

    def _read(self, setup: SiteSetup) -> Loaded:
        return client_round.load(SiteHome.open(Path(setup.root)), self.terms, self.network())

    def entropy(self, client: int, round_number: int) -> Entropy:
        return self.terms.entropy(self.setups[client].name, f"round-{round_number}", "train")

    def weight(self, client: int) -> float:
        return self.weights[client]

    def failed(self, client: int, fault: Exception) -> None:
        tell_operator(Path(self.setups[client].root), "training", fault)


@contextmanager
def _fused(
    clients: _VirtualSites, workers: int, device: torch.device
) -> Iterator[tuple[SummedTraining | None, SeparateTraining | None]]:
    """One pass of `vmap` over the local steps of many sites, on all workers; for sites that add no noise.

    With `client_level` each update comes back on its own, clipped; else only their sum.
    """
    terms = clients.terms
    mode = terms.privacy.mode
    if mode not in ("none", MODE) or terms.imaging.augmentation.active:
        raise ConfigError(
            f"privacy=none or {MODE}, without augmentation, for engine.fused=true",
            "privacy of each site, or augmentation",
            "set engine.fused=false: each site then trains on its own",
        )
    numbers = {setup.name: number for number, setup in enumerate(clients.setups)}
    apart = Separately(terms.privacy.l2_clip_norm, clients.failed) if mode == MODE else None
    size = clients.network().number_of_parameters
    # a process of its own holds what it has read itself
    theirs = clients if workers == 1 else replace(clients, held=HeldData())
    with ClientPool(theirs, size, workers, device, apart) as pool:

        def train(vector: Vector, names: tuple[str, ...], round_number: int) -> tuple[Vector, float]:
            return pool.train(vector, [numbers[name] for name in names], round_number)

        def separate(vector: Vector, names: tuple[str, ...], round_number: int) -> Iterator[Vector]:
            return pool.separate(vector, [numbers[name] for name in names], round_number)

        yield (None, separate) if apart is not None else (train, None)


@lru_cache(maxsize=64)
def _loaded_once(setup: SiteSetup) -> Loaded:
    return open_site(setup).data


def _answer_in_worker(
    setups: Sequence[SiteSetup], number: int, data: bytes, state: bytes
) -> tuple[bytes | None, bytes]:
    """In one of Ray's processes. A site may be asked in another process each time, so its ledger is
    opened for each answer, and its open secure sum comes and goes as `state`; its images stay in memory.
    """
    try:
        site = open_site(setups[number], _loaded_once(setups[number]))
    except Exception as fault:  # noqa: BLE001 - Flower would put the text of an exception on the wire
        tell_operator(Path(setups[number].root), "joining", fault)
        return None, state
    try:
        if site.sums is None or site.sessions is None:
            return answer(site, data), b""
        site.sessions.take_up(site.sums.plan, state)
        return answer(site, data), site.sessions.carried()
    finally:
        if site.ledger is not None:
            site.ledger.disconnect()
