"""fedimg's own mechanism, as the battery takes it: `private_update` with a real ledger, on generated units.

The network is the dot product of parameters and image, so that an image is its own gradient. Everything
else is production's: engines, sampling, clipping, noise, the operating system's entropy, SQLite ledger.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedimg import training
from fedimg.audit.battery.probes import QUIET
from fedimg.audit.dot_product import DotProduct, DyingDataset, ProcessEnds, dataset_of, first_logit
from fedimg.audit.mechanism import (
    Claim,
    Mechanism,
    NotCheckable,
    Recorded,
    Round,
    Session,
    Setting,
    Tensor,
    Unit,
)
from fedimg.audit.shipped_place import Declared, Place, charges_of
from fedimg.crypto.keys import SiteKey
from fedimg.dicom.deidentify import Deidentifier
from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.errors import LedgerError
from fedimg.privacy.calibration import TRAIN
from fedimg.privacy.engines import PatientLoss
from fedimg.privacy.enrolment import Roll
from fedimg.privacy.entropy import Entropy, source_of
from fedimg.privacy.events import LEAST_NOISE_MULTIPLIER
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.noise import grid_step
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest, ReleaseSession
from fedimg.training import LocalTraining
from fedimg.values import NoisedUpdate, SiteDataset, Vector


class ShippedMechanism(Mechanism):
    """fedimg as it stands. The options of `request` that choose code (engine, mode, …) hold for all sessions."""

    name = "fedimg"

    @property
    def session(self) -> type[ShippedSession]:
        """Which of the shipped releases is looked at."""
        return ShippedSession

    def __init__(self, request: PrivacyRequest | None = None) -> None:
        self.request = request or PrivacyRequest()
        # what lies there is generated; memory spares the disk a few hundred syncs
        memory = Path("/dev/shm")  # noqa: S108 - a fresh folder of mode 0700 inside it
        self._folder = tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        self._places: dict[str, Place] = {}
        self._site_key = SiteKey.create(Path(self._folder.name) / "site.key")
        self._runs = 0

    def open(self, setting: Setting, units: tuple[Unit, ...], site: str = "a") -> Session:
        return self._opened(setting, units, site, None)

    def open_with(self, setting: Setting, units: tuple[Unit, ...], entropy: Entropy) -> Session:
        return self._opened(setting, units, "a", entropy)

    def natural(self, engine: int, left_out: int | None) -> tuple[Vector, float]:
        from fedimg.audit import natural

        return natural.quiet_sum(self, engine, left_out)

    def ledger_key(self, patient: str, project: str) -> bytes:
        """By what the ledger knows a patient who is de-identified for a project."""
        return Deidentifier(self._site_key, project).ledger_keys.of("", patient).encode()

    def quiet(self, clip: float, images: int, engine: str) -> tuple[PrivacyPlan, Ledger]:
        """A reserved plan without noise, for real networks."""
        setting = Setting(clip, QUIET, 1.0, 4, (1,), images)
        session = self._opened(setting, (), "natural", None)
        request = replace(session.run.plan.request, engine=engine)
        plan = replace(session.run.plan, request=request)
        session.run.plan = plan
        session.run.name += f"-{engine}"
        session.run.place.ledger.reserve(session.run.name, session.run.declared)
        return plan, session.run.place.ledger

    def close(self) -> None:
        for place in self._places.values():
            place.ledger.disconnect()
        self._folder.cleanup()

    def _opened(
        self, setting: Setting, units: tuple[Unit, ...], site: str, entropy: Entropy | None
    ) -> ShippedSession:
        if site not in self._places:
            self._places[site] = Place.new(Path(self._folder.name) / f"site-{len(self._places)}")
        self._runs += 1
        plan, keys = self.plan(setting), LedgerKeys(self._site_key)
        name = f"run-{self._runs}"
        run = _Run(self._places[site], site, name, plan, setting, units, entropy, keys, self.beside)
        return self.session(run)

    def beside(self, number: int) -> Place:
        """Another site without patients, where a release takes several."""
        name = f"beside {number}"
        if name not in self._places:
            self._places[name] = Place.new(Path(self._folder.name) / f"beside-{number}")
        return self._places[name]

    def plan(self, setting: Setting) -> PrivacyPlan:
        """What a site would plan, with this noise instead of a calibrated one."""
        values = self.request.as_dict() | {
            "mode": "per_site",
            # by timing it would be settled anew for each number of images; real networks are timed in `natural`
            "engine": "vmap" if self.request.engine == "auto" else self.request.engine,
            "l2_clip_norm": setting.l2_clip_norm,
            "sampling_rate": setting.sampling_rate,
            "rounds": setting.releases,
            "local_steps": 1,
            "evaluations": 0,
            "images_per_patient": setting.images_per_unit,
            "retry_allowance": setting.retries,
        }
        request, noise = PrivacyRequest(**values), setting.noise_multiplier
        rate = request.rate_at(setting.declared_units)
        return PrivacyPlan(request, setting.declared_units, rate, noise, noise, 1.0, 1.0)


@dataclass
class _Run:
    place: Place
    site: str
    name: str
    plan: PrivacyPlan
    setting: Setting
    units: tuple[Unit, ...]
    entropy: Entropy | None
    keys: LedgerKeys
    beside: Callable[[int], Place]
    rounds: int = 0
    dataset: SiteDataset = field(init=False)

    def __post_init__(self) -> None:
        self.dataset = dataset_of(self.units, self.setting.size)

    @property
    def declared(self) -> Any:
        if self.plan.noise_multiplier >= LEAST_NOISE_MULTIPLIER:
            return self.plan
        ordinary = tuple(replace(allowance, noise_multiplier=1.0) for allowance in self.plan.allowances)
        return Declared(self.plan.digest, ordinary)


class ShippedSession(Session):
    """One site's rounds. Sites share a ledger between sessions, as runs do. `release`: the kind that is made."""

    release = TRAIN

    def __init__(self, run: _Run) -> None:
        self.run = run
        run.place.ledger.reserve(run.name, run.declared)
        self._enrol()

    def _enrol(self) -> None:
        run = self.run
        keys: dict[str, list[str]] = {allowance.release: [] for allowance in run.plan.allowances}
        keys[self.release] = [run.keys.of_unit(unit) for unit in run.dataset.patient_keys]
        self._roll = Roll.enrolled(run.place.ledger, run.name, run.declared, keys, run.keys.digest)

    @property
    def claim(self) -> Claim:
        plan = self.run.plan
        return Claim(
            plan.l2_clip_norm,
            plan.noise_multiplier,
            plan.sampling_rate,
            plan.declared_patients,
            plan.expected_batch_size,
            grid=grid_step(plan.noise_multiplier * plan.l2_clip_norm),
        )

    def step(self, steps: int = 1) -> Round:
        run = self.run
        update = NoisedUpdate.from_bytes(self._round(run.dataset, steps).to_bytes(), None)
        metadata = {"kind": update.kind, "site": update.site}
        # learning rate 1: parameters move by minus the mean
        return Round(self._tensors(-update.vector, update.releases), steps, metadata)

    def _tensors(self, left: Vector, releases: tuple[str, ...]) -> tuple[Tensor, ...]:
        parts = np.split(left, np.cumsum(self.run.setting.tensors))
        return tuple(Tensor(f"tensor {k}", part, releases) for k, part in enumerate(parts) if part.size)

    def _next_round(self) -> int:
        run = self.run
        run.rounds += 1
        run.place.ledger.reserve(run.name, run.declared)  # another session may have been the active one
        return run.rounds

    def _round(self, dataset: SiteDataset, steps: int) -> NoisedUpdate:
        """As `client_round.train` does it."""
        run = self.run
        entropy = self._entropy(self._next_round(), "train")
        loss, present = PatientLoss(example_loss=first_logit), partial(self._roll.present, TRAIN)
        session = ReleaseSession(run.plan, run.place.ledger, entropy, loss, present)
        config = LocalTraining(learning_rate=1.0, local_steps=steps)
        start = torch.zeros(run.setting.size)
        vector = training.private_update(DotProduct(run.setting.size), start, dataset, session, config)
        return NoisedUpdate(run.site, run.rounds, "update", vector, session.releases)

    def _entropy(self, round_number: int, task: str) -> Entropy:
        return self.run.entropy or source_of(None, self.run.site, f"round-{round_number}", task)

    def _begin(self, dataset: SiteDataset) -> None:
        """A step on data that may end the process."""
        self._round(dataset, 1)

    def restart(self) -> Session:
        run = self.run
        run.place.ledger.disconnect()
        run.place.ledger = run.place.reopened()
        return type(self)(run)

    def crash(self) -> Session:
        run, data = self.run, self.run.dataset
        dying = DyingDataset(data.images, data.labels, data.patient_keys, data.first_image)
        try:
            self._begin(dying)
        except ProcessEnds:
            folder = run.place.folder.with_name(f"{run.place.folder.name}-after-{run.name}")
            shutil.copytree(run.place.folder, folder)
        else:
            raise NotCheckable("a step that reads no data")
        run.place.ledger.disconnect()
        run.place.folder = folder
        run.place.ledger = run.place.reopened()
        return type(self)(run)

    def recorded(self) -> Recorded:
        run = self.run
        ledger = run.place.reopened()
        try:
            spend = ledger.statement.runs[run.name]
            names = charges_of(ledger, run.name)
        finally:
            ledger.disconnect()
        allowance = spend.allowances[self.release]
        return Recorded(
            spend.charged.get(self.release, 0), allowance.noise_multiplier, allowance.sampling_rate, names
        )

    def roll_back(self) -> bool:
        place = self.run.place
        older = place.folder.with_name(f"{place.folder.name}-before-{self.run.name}")
        shutil.copytree(place.folder, older)
        self.step()
        seen = place.ledger.head
        place.ledger.disconnect()
        shutil.rmtree(place.folder)
        shutil.copytree(older, place.folder)
        try:
            place.ledger = place.reopened(seen)
        except LedgerError:
            place.ledger = place.reopened()
            return True
        return False
