"""Carry bytes between one coordinator and its virtual sites.

An engine is an adapter: the round itself is `client_round` and `server_round`, whatever carries it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch

from fedimg import client_round, flower
from fedimg.client_round import Site, Terms, answer
from fedimg.config import EngineConfig
from fedimg.errors import ConfigError
from fedimg.fusion import ClientPool
from fedimg.home import SiteHome
from fedimg.models import Network
from fedimg.operator_log import tell_operator
from fedimg.privacy.entropy import Entropy
from fedimg.server_round import Exchange, SummedTraining
from fedimg.simulation.rounds import Carrier
from fedimg.simulation.virtual import Federation, SiteSetup, open_site, own_network
from fedimg.site_data import Loaded
from fedimg.training import LocalTraining
from fedimg.values import SiteDataset, Vector

Result = TypeVar("Result")


def run(
    config: EngineConfig,
    sites: Sequence[Site],
    federation: Federation,
    weights: Mapping[str, float],
    conduct: Callable[[Carrier], Result],
) -> Result:
    """Run `conduct`, the coordinator's loop, on the engine that the configuration names.

    `weights` are the sites' public weights in the mean.
    """
    joined = {site.name for site in sites}
    setups = tuple(setup for setup in federation.setups if setup.name in joined)
    if config.name == "inprocess" and config.fused:
        with _summed(setups, weights, config.workers, sites[0].device) as summed:
            return conduct(Carrier(in_turn(sites), summed))
    if config.name == "inprocess":
        return conduct(Carrier(in_turn(sites)))
    for site in sites:
        if site.ledger is not None:
            site.ledger.disconnect()  # Ray's processes open it themselves
    return flower.run_on_ray(
        tuple(setup.name for setup in setups),
        partial(_answer_in_worker, setups),
        lambda exchange: conduct(Carrier(exchange)),
        cpus=config.workers or os.cpu_count() or 1,
    )


def in_turn(sites: Sequence[Site]) -> Exchange:
    """Each site answers in turn, in this process."""
    by_name = {site.name: site for site in sites}

    def exchange(outgoing: Mapping[str, bytes]) -> dict[str, bytes | None]:
        return {name: answer(by_name[name], data) for name, data in outgoing.items()}

    return exchange


@dataclass(frozen=True)
class _VirtualSites:
    """Open virtual sites as the fused pool sees them: by number, their data read when their turn comes."""

    setups: tuple[SiteSetup, ...]
    weights: tuple[float, ...]

    @property
    def _terms(self) -> Terms:
        return self.setups[0].terms

    @property
    def training(self) -> LocalTraining:
        return self._terms.training

    def network(self) -> Network:
        return own_network(self._terms)

    def dataset(self, client: int) -> SiteDataset:
        home = SiteHome.open(Path(self.setups[client].root))
        return client_round.load(home, self._terms, self.network()).train

    def entropy(self, client: int, round_number: int) -> Entropy:
        return self._terms.entropy(self.setups[client].name, f"round-{round_number}", "train")

    def weight(self, client: int) -> float:
        return self.weights[client]


@contextmanager
def _summed(
    setups: tuple[SiteSetup, ...], weights: Mapping[str, float], workers: int, device: torch.device
) -> Iterator[SummedTraining]:
    """One pass of `vmap` over the local steps of many sites, on all workers; `privacy=none` only."""
    terms = setups[0].terms
    if terms.privacy.mode != "none" or terms.imaging.augmentation.active:
        raise ConfigError(
            "privacy=none without augmentation for engine.fused=true",
            "privacy or augmentation",
            "set engine.fused=false: each site then trains on its own",
        )
    numbers = {setup.name: number for number, setup in enumerate(setups)}
    clients = _VirtualSites(setups, tuple(weights[setup.name] for setup in setups))
    with ClientPool(clients, own_network(terms).number_of_parameters, workers, device) as pool:

        def train(vector: Vector, names: tuple[str, ...], round_number: int) -> tuple[Vector, float]:
            return pool.train(vector, [numbers[name] for name in names], round_number)

        yield train


@lru_cache(maxsize=64)
def _loaded_once(setup: SiteSetup) -> Loaded:
    return open_site(setup).data


def _answer_in_worker(setups: Sequence[SiteSetup], number: int, data: bytes) -> bytes | None:
    """In one of Ray's processes. A site may be asked in another process each time, so its ledger is
    opened for each answer; its images stay in memory.
    """
    try:
        site = open_site(setups[number], _loaded_once(setups[number]))
    except Exception as fault:  # noqa: BLE001 - Flower would put the text of an exception on the wire
        tell_operator(Path(setups[number].root), "joining", fault)
        return None
    try:
        return answer(site, data)
    finally:
        if site.ledger is not None:
            site.ledger.disconnect()
