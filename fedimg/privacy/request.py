"""What a run asks of every site's privacy, in public numbers fixed before round 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from fedimg.errors import ConfigError

DISTRIBUTED = "distributed"
MODES = ("per_site", DISTRIBUTED, "client_level", "none")
NOISES = ("gaussian", "strict", "discrete_gaussian")
ENGINES = ("auto", "bookkeeping", "vmap", "autograd")


@dataclass(frozen=True, slots=True)
class PrivacyRequest:
    """The privacy that a run declares; a site's policy may refuse it, the site alone makes the plan.

    Attributes:
        mode: "per_site" (each patient is protected against the server, other sites and the public,
            trusting their own site), "distributed" (each patient against the server and some other sites: every site
            adds a share of one noise, and only sums over enough sites are opened), "client_level" (each client, a whole site, is protected against
            those who see the model, trusting the server; DP-FedAvg) or "none".
        epsilon, delta: the promise for one unit over the whole run, add-or-remove-one: a patient, or with
            "client_level" a client. `delta` may be at most 1/(10 · declared units).
        l2_clip_norm: C, the most one unit moves a sum, in L2: of gradients, or of clients' updates.
        sampling_rate: q, a unit's chance to be in a step. None: `expected_batch_size` is used.
        expected_batch_size: units in a step on average; q = this ÷ the declared units, at most 1.
        rounds, local_steps: T = rounds · local_steps noised gradient sums; with "client_level" T = rounds.
        evaluations: number of noised histogram releases. 0: the sites measure nothing.
        evaluation_share: None: evaluations look only at patients who are held out of training by a keyed hash
            of the patient alone. No patient is in both, so ε is the larger of the two costs, not their sum
            (parallel composition), and evaluation takes half of ε. Else the part of ε and of δ, in (0, 1),
            that calibrates evaluations of patients who may be in training too. A client is one unit, whatever
            it holds out, so "client_level" needs a number.
        images_per_patient: at most so many images of a patient, drawn afresh, enter a step.
        max_sites_per_patient: at how many sites one patient may be; printed beside ε.
        retry_allowance: training releases that may be made twice after a crash. They are counted in ε
            from the start. None: the steps of two rounds; none with "distributed", where no sum is made twice.
        noise: "gaussian" (sums in float64, noised, then rounded to a public grid), "strict" (each patient's
            clipped vector is rounded to integers of checked norm first, so that sum and sensitivity are exact;
            the noise is a rounded Gaussian), or "discrete_gaussian" (the same with exact discrete Gaussian
            noise, which Rényi divergences account for).
        engine: how per-patient gradients are computed; they agree to rounding (see `engines`).
        chunk: images held at once in a step; bounds the memory, never changes the sum. 0: chosen by engine.
    """

    mode: str = "per_site"
    epsilon: float = 8.0
    delta: float = 2e-5
    l2_clip_norm: float = 1.0
    sampling_rate: float | None = None
    expected_batch_size: float | None = 64.0
    rounds: int = 30
    local_steps: int = 1
    evaluations: int = 1
    evaluation_share: float | None = None
    images_per_patient: int = 4
    max_sites_per_patient: int = 1
    retry_allowance: int | None = None
    noise: str = "gaussian"
    engine: str = "auto"
    chunk: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("mode", MODES), ("noise", NOISES), ("engine", ENGINES)):
            if getattr(self, name) not in choices:
                _refuse(name, " or ".join(choices), getattr(self, name))
        for name in ("epsilon", "l2_clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                _refuse(name, "a finite number > 0", getattr(self, name))
        if not 0 < self.delta < 1:
            _refuse("delta", "a number between 0 and 1", self.delta)
        if self.evaluation_share is not None and not 0 < self.evaluation_share < 1:
            _refuse("evaluation_share", "a number between 0 and 1, or null", self.evaluation_share)
        for name in ("rounds", "local_steps", "images_per_patient", "max_sites_per_patient"):
            if getattr(self, name) < 1:
                _refuse(name, "an integer ≥ 1", getattr(self, name))
        for name in ("evaluations", "chunk"):
            if getattr(self, name) < 0:
                _refuse(name, "an integer ≥ 0", getattr(self, name))
        if self.retry_allowance is not None and self.retry_allowance < 0:
            _refuse("retry_allowance", "an integer ≥ 0", self.retry_allowance)
        if self.mode == DISTRIBUTED:
            self._check_distributed()
        if self.mode == "client_level" and self.evaluations and self.evaluation_share is None:
            _refuse("evaluation_share", "a number between 0 and 1 with privacy=client_level", None)
        if self.sampling_rate is not None and not 0 < self.sampling_rate <= 1:
            _refuse("sampling_rate", "a number in (0, 1]", self.sampling_rate)
        if self.sampling_rate is None and not (self.expected_batch_size or 0) > 0:
            _refuse(
                "expected_batch_size", "a number > 0 where sampling_rate is not set", self.expected_batch_size
            )

    def _check_distributed(self) -> None:
        """All sites must draw alike, and a step is one sum."""
        if self.noise != "discrete_gaussian":
            _refuse("noise", "discrete_gaussian with privacy=distributed, whose shares add up", self.noise)
        if self.max_sites_per_patient != 1:
            # in one sum a patient's parts add up to m·C against one noise: more than m releases of one part each
            raise ConfigError(
                "patients at one site each with privacy=distributed, whose sums would hold another's parts together",
                f"{self.max_sites_per_patient} sites",
                "set data.max_sites_per_patient=1 if that is so, or privacy=per_site",
            )
        if self.sampling_rate is None:
            _refuse("sampling_rate", "a number with privacy=distributed, the same at every site", None)
        if self.local_steps != 1:
            raise ConfigError(
                "one noised step a round with privacy=distributed, since every step is a sum",
                f"{self.local_steps}",
                "set training.local_steps=1",
            )

    @property
    def noise_law(self) -> str:
        """What an accountant must know of the noise: rounding is post-processing."""
        own = self.noise == "discrete_gaussian" and self.mode != DISTRIBUTED
        return "discrete_gaussian" if own else "gaussian"

    @property
    def releases_per_round(self) -> int:
        """Training releases of one round: the noised steps of a site, or one sum over clients."""
        return 1 if self.mode == "client_level" else self.local_steps

    @property
    def steps(self) -> int:
        """T, the training releases of an unbroken run."""
        return self.rounds * self.releases_per_round

    @property
    def retries(self) -> int:
        """r, the training releases kept back for redoing interrupted rounds."""
        if self.retry_allowance is not None:
            return self.retry_allowance
        return 0 if self.mode == DISTRIBUTED else 2 * self.releases_per_round

    @property
    def evaluation_retries(self) -> int:
        """Histogram releases kept back for redoing an interrupted evaluation: one, if retries are on."""
        return min(1, self.evaluations, self.retries)

    def rate_at(self, declared_patients: int) -> float:
        """q at a site, from its declared size alone."""
        if self.sampling_rate is not None:
            return self.sampling_rate
        return min(1.0, float(self.expected_batch_size or 0.0) / declared_patients)

    def as_dict(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


def _refuse(name: str, expected: str, found: object) -> None:
    raise ConfigError(f"privacy.{name}: {expected}", f"{found!r}", f"set privacy.{name}")
