"""A release with `distributed` as those see it who are meant to see least: the coordinator and c of the sites.

All five exchanges of one secure sum are made, with fresh keys. Of K sites some drop out once they have shared their
secrets, as many as the threshold allows or fewer; c of the others collude, and take their own contributions off what
is opened. Noise that was for more drop-outs is taken off too. What is left are the honest sites' sums, with exactly the
noise of the promise however many there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch

from fedimg.crypto.keys import SigningKey
from fedimg.errors import ConfigError
from fedimg.privacy.engines import FunctionalNetwork
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.noise_shares import NoiseShares, keyed_noise
from fedimg.privacy.plan import ReleaseSession
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.encoding import centred
from fedimg.secagg.plan import SumPlan
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


@lru_cache(maxsize=8)
def _keys(sites: int) -> dict[str, SigningKey]:
    return {f"site-{k:03d}": SigningKey.from_bytes(secrets.token_bytes(32)) for k in range(sites)}


def opened(
    contributions: Callable[[int], PartlyNoisedSum],
    shares: NoiseShares,
    mechanism: tuple[float, float],
    dropped: int,
) -> Vector:
    """(P,) what is opened, less all that the coordinator and the colluding sites know of it, in units of gradients.

    Args:
        contributions: from a site's number to what it puts in, in the order of numbers. The first K − c − d are
            honest, the next c collude, and the last d are not asked, since they drop out.
        mechanism: (σ, C). dropped: d, at most K − t.
    """
    keys, seen = _keys(shares.sites), dict[str, Integers]()
    first = contributions(0)
    size = _steps(first).size
    plan = _plan(keys, shares, size)
    here = {name: SumSite(plan, "audit", name, key) for name, key in keys.items()}
    coordinator = SumCoordinator(plan, "audit")
    keyed = coordinator.keys({name: site.advertise_keys() for name, site in here.items()})
    sealed = coordinator.sharing(_each(keyed, lambda name, message: here[name].share_keys(message)))

    def contributed(name: str) -> PartlyNoisedSum:
        number = plan.names.index(name)
        share = contributions(number) if number else first
        seen[name] = _steps(share)
        return share

    survivors = plan.names[: shares.sites - dropped]
    alive = {name: sealed[name] for name in survivors}
    inputs = _each(alive, lambda name, message: here[name].masked_input(message, lambda: contributed(name)))
    confirmed = _each(coordinator.survivors(inputs), lambda name, message: here[name].confirm(message))
    answers = _each(coordinator.confirmed(confirmed), lambda name, message: here[name].unmask(message))
    found, parts = coordinator.opened(answers), shares.parts(*mechanism)
    total = found.total.copy()
    colluding = survivors[len(survivors) - shares.colluders :]
    for name in survivors:
        if name in colluding:
            total -= seen[name]
            continue
        for number, key in found.excess[name]:
            total -= keyed_noise(key, parts[number], size)
    return total.astype(np.float64) * integer_grid(mechanism[1])


def _plan(keys: Mapping[str, SigningKey], shares: NoiseShares, size: int) -> SumPlan:
    identities = {name: key.public_bytes for name, key in keys.items()}
    run = secrets.token_hex(8)
    return SumPlan(run, identities, shares.threshold, shares.colluders, size, 64, "audit")


class SharedSession:
    """Steps whose release is a secure sum; the patients are dealt out among the sites that are always there and honest.

    `sessions` are those of all K sites, each with its own ledger.
    """

    def __init__(self, sessions: Sequence[ReleaseSession]) -> None:
        self._sessions, self._steps = sessions, 0

    def gradient_step(
        self, params: torch.Tensor, dataset: SiteDataset, network: FunctionalNetwork
    ) -> NoisedSum:
        """As `ReleaseSession.gradient_step`, at the opened sum; now more sites drop out and now fewer."""
        plan = self._sessions[0].plan
        if (shares := plan.shares) is None:
            raise ConfigError("a plan with shared noise", "one site's own", "use its session")
        honest, names = shares.threshold - shares.colluders, list[str]()

        def share(site: int) -> PartlyNoisedSum:
            own = np.arange(site, dataset.number_of_patients, honest) if site < honest else np.arange(0)
            made = self._sessions[site].gradient_share(params, dataset.of_patients(own), network)
            names.append(made.release_id)
            return made

        mechanism = plan.noise_multiplier, plan.l2_clip_norm
        vector = opened(share, shares, mechanism, drop_outs(shares, self._steps))
        self._steps += 1
        return NoisedSum(vector, plan.noise_multiplier * plan.l2_clip_norm, names[0])


def drop_outs(shares: NoiseShares, number: int) -> int:
    """How many are gone in the release of that number: none, one, …, as many as may be, and again."""
    return number % (shares.sites - shares.threshold + 1)


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
