"""A run's privacy in numbers that are fixed before round 1, and what is promised of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedimg.privacy import accounting
from fedimg.privacy.events import Event
from fedimg.privacy.ledger import Allowance
from fedimg.privacy.noise_shares import NoiseShares
from fedimg.privacy.request import PrivacyRequest

TRAIN, EVALUATE = "train", "evaluate"


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """Everything public about a site's releases in one run, fixed before round 1.

    `epsilon` covers every declared release *and* every retry. All numbers come from the request and the
    site's declared size; none from its data. With `client_level` the plan is the coordinator's, and
    `declared_patients` counts its units: the clients that it has declared. With `distributed` the noise is that of
    what a secure sum opens: shares of `sum_sites` K, of which `sum_threshold` t survive and `sum_colluders` c know
    their own, on `coordinates` of a release at most; else all four are 0.
    """

    request: PrivacyRequest
    declared_patients: int
    sampling_rate: float
    noise_multiplier: float
    evaluation_noise_multiplier: float
    epsilon: float
    epsilon_second: float
    sum_sites: int = 0
    sum_threshold: int = 0
    sum_colluders: int = 0
    coordinates: int = 0

    @property
    def shares(self) -> NoiseShares | None:
        """How the noise is divided; None where a site adds its own."""
        if not self.sum_sites:
            return None
        return NoiseShares(self.sum_sites, self.sum_threshold, self.sum_colluders, self.coordinates)

    def _of_shares(self) -> dict[str, int]:
        return {"sites": self.sum_sites, "threshold": self.sum_threshold, "colluders": self.sum_colluders}

    @property
    def mode(self) -> str:
        return self.request.mode

    @property
    def delta(self) -> float:
        return self.request.delta

    @property
    def l2_clip_norm(self) -> float:
        return self.request.l2_clip_norm

    @property
    def steps(self) -> int:
        """T, the training releases of an unbroken run."""
        return self.request.steps

    @property
    def expected_batch_size(self) -> float:
        """q · n̄: what a noised sum is divided by. Never the actual batch."""
        return self.sampling_rate * self.declared_patients

    @property
    def allowances(self) -> tuple[Allowance, ...]:
        """What the ledger sets aside."""
        r = self.request
        roles = ("patients", "patients")
        if r.mode == "client_level":
            roles = ("clients", "clients")
        elif r.evaluation_share is None:
            roles = ("training patients", "held-out patients")
        train = Allowance(TRAIN, self.noise_multiplier, self.sampling_rate, r.steps, r.retries, roles[0])
        evaluate = Allowance(
            EVALUATE, self.evaluation_noise_multiplier, 1.0, r.evaluations, r.evaluation_retries, roles[1]
        )
        return (train, evaluate) if r.evaluations else (train,)

    @property
    def roles(self) -> tuple[tuple[Event, ...], ...]:
        """What one patient can be exposed to, as the accountant sees it, retries included.

        One tuple of events for each group of patients; nobody is in two groups.
        """
        return self._roles({a.release: a.most for a in self.allowances})

    def _roles(self, counts: Mapping[str, int]) -> tuple[tuple[Event, ...], ...]:
        groups: dict[str, list[Event]] = {}
        for a in self.allowances:
            event = Event(
                a.noise_multiplier,
                a.sampling_rate,
                counts[a.release],
                self.request.noise_law,
                self.coordinates,
            )
            groups.setdefault(a.role, []).append(event)
        return tuple(tuple(group) for group in groups.values())

    def as_json(self) -> dict[str, Any]:
        """Every field as JSON values; an infinite ε is null."""
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex: round instructions and ledger entries name it."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def epsilon_after(self, training_releases: int, evaluations: int) -> float:
        """ε of that many of this plan's releases: for a curve by round, at fixed (q, σ)."""
        roles = self._roles({TRAIN: training_releases, EVALUATE: evaluations})
        return max(accounting.epsilon(role, self.delta) for role in roles)

    def release_record(self, *, insecure: bool = False, unit: str = "patient") -> dict[str, Any]:
        """What is promised about a model, as JSON values. `insecure`: noise came from a seed, so nothing is.

        `unit` is "image" where the source knows of no patients, and the record must say so; with
        `client_level` it is the client, whatever the source knows.

        ε stands only where it is true: with `privacy=none` and in the insecure test mode it is null.
        """
        private = self.mode != "none" and not insecure
        of_clients = self.mode == "client_level"
        unit = "client" if of_clients else unit
        versions = accounting.accountant_versions()
        return {
            "mode": self.mode,
            "private": private,
            "unit": unit,
            "adjacency": f"add_or_remove_one_{unit}",
            "epsilon": self.epsilon if private else None,
            "delta": self.delta if private else None,
            "accountants": [
                {"name": versions[name], "method": method, "epsilon": value if private else None}
                for (name, method), value in zip(
                    accounting.methods(self.request.noise_law),
                    (self.epsilon, self.epsilon_second),
                    strict=True,
                )
            ],
            "sampler": "poisson" if self.mode != "none" else "shuffle",
            "sampling_rate": self.sampling_rate,
            "noise_multiplier": self.noise_multiplier,
            "noise": self.request.noise if self.mode != "none" else "none",
            "noise_source": "insecure seed" if insecure else "operating system",
            "steps": self.steps,
            "retry_allowance": self.request.retries,
            "l2_clip_norm": self.l2_clip_norm,
            "expected_batch_size": self.expected_batch_size,
            **(self._of_clients() if of_clients else self._of_patients()),
            **({"noise_shares": self._of_shares()} if self.sum_sites else {}),
            "max_sites_per_patient": self.request.max_sites_per_patient,
            "evaluations": self.request.evaluations,
            "evaluation_noise_multiplier": self.evaluation_noise_multiplier,
            "plan": self.digest,
        }

    def _of_patients(self) -> dict[str, Any]:
        held_out = self.request.evaluation_share is None
        return {
            "declared_patients": self.declared_patients,
            "images_per_patient": self.request.images_per_patient,
            "evaluated_patients": "held out of training" if held_out else "may be in training",
        }

    def _of_clients(self) -> dict[str, Any]:
        return {
            "declared_clients": self.declared_patients,
            "trusts": "the coordinator, which sees every update and adds the noise",
            "holds_against": "those who see the released models; the coordinator knows whom it sampled",
        }
