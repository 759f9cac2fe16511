"""Carry bytes between one coordinator and its virtual sites.

An engine is an adapter: the round itself is `client_round` and `server_round`, whatever carries it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from fedimg import flower
from fedimg.client_round import Loaded, Site, answer, answer_fused
from fedimg.config import EngineConfig
from fedimg.errors import FedimgError
from fedimg.server_round import Exchange
from fedimg.simulation.virtual import Federation, SiteSetup, open_site

Result = TypeVar("Result")


def run(
    config: EngineConfig, sites: Sequence[Site], federation: Federation, conduct: Callable[[Exchange], Result]
) -> Result:
    """Run `conduct`, the coordinator's loop, on the engine that the configuration names."""
    if config.name == "inprocess":
        return conduct(_inprocess(sites, fused=config.fused))
    joined = {site.name for site in sites}
    setups = tuple(setup for setup in federation.setups if setup.name in joined)
    for site in sites:
        if site.ledger is not None:
            site.ledger.disconnect()  # Ray's processes open it themselves
    return flower.run_on_ray(
        tuple(setup.name for setup in setups),
        partial(_answer_in_worker, setups),
        conduct,
        cpus=config.workers or os.cpu_count() or 1,
    )


def _inprocess(sites: Sequence[Site], *, fused: bool) -> Exchange:
    """Each site answers in turn; fused, the open training of all is one pass of `vmap`."""
    by_name = {site.name: site for site in sites}

    def exchange(outgoing: Mapping[str, bytes]) -> dict[str, bytes | None]:
        if fused:
            return answer_fused([(by_name[name], data) for name, data in outgoing.items()])
        return {name: answer(by_name[name], data) for name, data in outgoing.items()}

    return exchange


@lru_cache(maxsize=64)
def _loaded_once(setup: SiteSetup) -> Loaded:
    return open_site(setup).data


def _answer_in_worker(setups: Sequence[SiteSetup], number: int, data: bytes) -> bytes | None:
    """In one of Ray's processes. A site may be asked in another process each time, so its ledger is
    opened for each answer; its images stay in memory.
    """
    try:
        site = open_site(setups[number], _loaded_once(setups[number]))
    except FedimgError:
        return None  # refused at joining, which told the operator
    try:
        return answer(site, data)
    finally:
        if site.ledger is not None:
            site.ledger.disconnect()
