"""A release with `distributed` as those see it who are meant to see least: the coordinator and c of the sites.

All five exchanges of one secure sum are made, with fresh keys. Of K sites, the most that a threshold of t = h + 1
allows, the last K − t drop out once they have shared their secrets; one of the others colludes, and takes its own
contribution off what is opened. What is left are h honest sites' sums and h shares of the noise: the promise.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.engines import FunctionalNetwork
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.plan import ReleaseSession
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.encoding import centred
from fedimg.secagg.plan import SumPlan, usual_threshold
from fedimg.secagg.site import SumSite
from fedimg.values import (
    Integers,
    MaskedUpdate,
    NoisedSum,
    PartlyNoisedSum,
    SiteDataset,
    Vector,
    Words,
)

COLLUDERS = 1


def sites_for(honest: int) -> tuple[int, int]:
    """(K, t) with t = h + 1 and as many sites as that threshold serves."""
    threshold = honest + COLLUDERS
    sites = threshold
    while usual_threshold(sites + 1) <= threshold:
        sites += 1
    return sites, threshold


@lru_cache(maxsize=8)
def _keys(sites: int) -> dict[str, SigningKey]:
    return {f"site-{k:03d}": SigningKey.from_bytes(secrets.token_bytes(32)) for k in range(sites)}


def opened(contributions: Callable[[int], PartlyNoisedSum], honest: int, size: int, norm: float) -> Vector:
    """(size,) what is opened, less the colluder's part, in the units of what patients were clipped to.

    Args:
        contributions: from a site's number to what it puts in, in the order of numbers: 0 … h − 1 are honest, h
            colludes. Others are not asked, since they drop out.
        norm: C.
    """
    sites, threshold = sites_for(honest)
    keys = _keys(sites)
    plan = SumPlan(
        secrets.token_hex(8),
        {name: key.public_bytes for name, key in keys.items()},
        threshold,
        COLLUDERS,
        size,
        64,
        "audit",
    )
    here = {name: SumSite(plan, "audit", name, key) for name, key in keys.items()}
    coordinator = SumCoordinator(plan, "audit")
    shared = coordinator.keys({name: site.advertise_keys() for name, site in here.items()})
    sealed = coordinator.sharing(_each(shared, lambda name, message: here[name].share_keys(message)))
    given: dict[str, PartlyNoisedSum] = {}

    def contributed(name: str) -> PartlyNoisedSum:
        given[name] = contributions(plan.names.index(name))
        return given[name]

    alive = {name: sealed[name] for name in plan.names[:threshold]}
    inputs = _each(alive, lambda name, message: here[name].masked_input(message, lambda: contributed(name)))
    confirmed = _each(coordinator.survivors(inputs), lambda name, message: here[name].confirm(message))
    answers = _each(coordinator.confirmed(confirmed), lambda name, message: here[name].unmask(message))
    total = coordinator.opened(answers).total - _steps(given[plan.names[honest]])
    return total.astype(np.float64) * integer_grid(norm)


class SharedSession:
    """Steps whose release is a secure sum; the patients are dealt out among the honest sites.

    `sessions` are those of h honest sites and of one that colludes, each with its own ledger.
    """

    def __init__(self, sessions: Sequence[ReleaseSession]) -> None:
        self._sessions = sessions

    def gradient_step(
        self, params: torch.Tensor, dataset: SiteDataset, network: FunctionalNetwork
    ) -> NoisedSum:
        """As `ReleaseSession.gradient_step`, at the opened sum."""
        plan, honest = self._sessions[0].plan, len(self._sessions) - COLLUDERS
        names = list[str]()

        def share(site: int) -> PartlyNoisedSum:
            own = np.arange(site, dataset.number_of_patients, honest) if site < honest else np.arange(0)
            made = self._sessions[site].gradient_share(params, dataset.of_patients(own), network)
            names.append(made.release_id)
            return made

        vector = opened(share, honest, params.numel(), plan.l2_clip_norm)
        return NoisedSum(vector, plan.noise_multiplier * plan.l2_clip_norm, names[0])


def _each(messages: Mapping[str, bytes], answer: Callable[[str, bytes], bytes]) -> dict[str, bytes | None]:
    return {name: answer(name, message) for name, message in messages.items()}


def _steps(share: PartlyNoisedSum) -> Integers:
    """What a site that colludes knows of its own contribution."""
    seen: list[Integers] = []

    def look(words: Words) -> MaskedUpdate:
        seen.append(centred(words))
        return MaskedUpdate(words)

    share.mask(look)
    return seen[0]
