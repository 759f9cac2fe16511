"""The shipped `client_level` releases, as the battery takes them: a unit is a whole client.

Sampling of clients, clipping, noise, charge and the constant divisor are production's (`ClientReleases`), with
the operating system's entropy and a ledger on the disk. What a client sends is made up, and not clipped: the
promise rests on the coordinator's own clipping, whatever clients send.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from fedimg.audit.mechanism import Claim, NotCheckable, Setting
from fedimg.audit.shipped import ShippedMechanism, ShippedSession
from fedimg.audit.shipped_sums import Release, SumSession
from fedimg.privacy.client_level import MODE, ClientReleases
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


class ClientSession(SumSession):
    """A coordinator's rounds over clients who answer with the mean of their unit's gradients."""

    def _enrol(self) -> None:
        return  # a coordinator's ledger has no records of patients

    @property
    def claim(self) -> Claim:
        return replace(super().claim, unit="client")

    def _release_on(self, dataset: SiteDataset) -> Release:
        """As `server_round` does it: what moves the model."""
        run = self.run
        clients = tuple(f"client-{u:06d}" for u in range(len(run.units)))
        releases = ClientReleases(run.plan, run.place.ledger, self._entropy)

        def updates(cohort: tuple[str, ...]) -> Iterator[Vector]:
            of = dict(zip(clients[: dataset.number_of_patients], run.units, strict=True))
            for name in cohort:
                yield of[name].gradients.mean(axis=0)

        def release(number: int) -> tuple[Vector, str]:
            noised = releases.training_sum(number, clients, run.setting.size, updates)
            return noised.vector / releases.divisor, noised.release_id

        return release
