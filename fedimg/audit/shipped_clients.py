"""The shipped `client_level` releases, as the battery takes them: a unit is a whole client.

Sampling of clients, clipping, noise, charge and the constant divisor are production's (`ClientReleases`), with
the operating system's entropy and a ledger on the disk. What a client sends is made up, and not clipped: the
promise rests on the coordinator's own clipping, whatever clients send.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fedimg.audit.mechanism import Claim, NotCheckable, Round, Setting, Tensor
from fedimg.audit.shipped import ShippedMechanism, ShippedSession
from fedimg.privacy.client_level import MODE, ClientReleases
from fedimg.privacy.noise import grid_step
from fedimg.privacy.plan import PrivacyPlan
from fedimg.values import SiteDataset, Vector


class ClientMechanism(ShippedMechanism):
    """DP-FedAvg's coordinator. No patient is its unit, so none has a key in its ledger."""

    name = "fedimg, client_level"

    @property
    def session(self) -> type[ShippedSession]:
        return ClientSession

    def plan(self, setting: Setting) -> PrivacyPlan:
        plan = super().plan(setting)
        return replace(plan, request=replace(plan.request, mode=MODE))

    def natural(self, engine: int, left_out: int | None) -> tuple[Vector, float]:
        del engine, left_out
        raise NotCheckable("a client's update is what it sends, whatever network it has")

    def ledger_key(self, patient: str, project: str) -> bytes:
        del patient, project
        raise NotCheckable("no spending by patient: the unit is a client")


class ClientSession(ShippedSession):
    """A coordinator's rounds over clients who answer with the mean of their unit's gradients."""

    def _enrol(self) -> None:
        return  # a coordinator's ledger has no records of patients

    @property
    def claim(self) -> Claim:
        plan = self.run.plan
        return Claim(
            plan.l2_clip_norm,
            plan.noise_multiplier,
            plan.sampling_rate,
            plan.declared_patients,
            plan.expected_batch_size,
            unit="client",
            grid=grid_step(plan.noise_multiplier * plan.l2_clip_norm),
        )

    def step(self, steps: int = 1) -> Round:
        left, names = self._sums(self.run.dataset, steps)
        parts = np.split(left, np.cumsum(self.run.setting.tensors))
        named = [Tensor(f"tensor {k}", part, names) for k, part in enumerate(parts) if part.size]
        return Round(tuple(named), steps)

    def _begin(self, dataset: SiteDataset) -> None:
        self._sums(dataset, 1)

    def _sums(self, dataset: SiteDataset, rounds: int) -> tuple[Vector, tuple[str, ...]]:
        """As `server_round` does it, a round a sum: what moves the model, and the names of the releases."""
        run = self.run
        clients = tuple(f"client-{u:06d}" for u in range(len(run.units)))
        releases = ClientReleases(run.plan, run.place.ledger, self._entropy)

        def updates(cohort: tuple[str, ...]) -> Iterator[Vector]:
            of = dict(zip(clients[: dataset.number_of_patients], run.units, strict=True))
            for name in cohort:
                yield of[name].gradients.mean(axis=0)

        total, names = np.zeros(run.setting.size), list[str]()
        for _ in range(rounds):
            run.rounds += 1
            run.place.ledger.reserve(run.name, run.declared)  # another session may have been the active one
            noised = releases.training_sum(run.rounds, clients, run.setting.size, updates)
            total += noised.vector / releases.divisor
            names.append(noised.release_id)
        return total, tuple(names)
