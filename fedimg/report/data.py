"""What a report is made of: plain values, complete and checked, and nothing about any one patient."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fedimg.breakdown import Breakdown
from fedimg.errors import DataError
from fedimg.values import EvaluationReport, Interval

Mode = Literal["per_site", "distributed", "client_level", "none"]
Unit = Literal["patient", "image", "client"]
Arrangement = Literal["site", "federation", "pooled"]
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class SitePrivacy:
    """One site's guarantee over the whole run.

    Attributes:
        epsilon, delta: what the site's ledger was charged; ε may be ∞ where there is no noise.
        noise_multiplier: σ ÷ sensitivity. sampling_rate: Poisson rate of patients per step.
        steps: noised steps, evaluations not counted. l2_clip_norm: bound on one patient's share.
        accountant, second_accountant: names; second_epsilon: the independent check, None if not run.
    """

    site: str
    epsilon: float
    delta: float
    noise_multiplier: float
    sampling_rate: float
    steps: int
    l2_clip_norm: float
    accountant: str
    second_accountant: str = ""
    second_epsilon: float | None = None


@dataclass(frozen=True, slots=True)
class PrivacySummary:
    """The mode of a run and every site's guarantee in it.

    Attributes:
        insecure: noise and sampling came from a seed; the report then promises nothing.
        scratch_ledger: the ledgers were made for this run and know of no other.
        max_sites_per_patient: declared, never checked: pseudonyms differ between sites.
        secagg: name of the secure aggregation, or "none".
        quorum: (K, t, c) of its sums: sites, how many must survive, how many may collude; of the smallest group.
        groups: of sites with a sum each.
        server_may_lie: whether that holds against a server that follows no rule; on a sparse graph it does not.
        colluders: distributed mode: how many other sites the promise withstands.
        unit: "patient", or "image" where the source knows of no patients; "client" with client_level.
        clients: the declared number of clients, with client_level.
        left: sites that took part and did not come back, with the last round before they left.
        composed: (ε, δ) of one patient at `max_sites_per_patient` sites, composed by an accountant; None: the
            largest are added up.
    """

    mode: Mode
    sites: tuple[SitePrivacy, ...] = ()
    insecure: bool = False
    scratch_ledger: bool = False
    max_sites_per_patient: int = 1
    secagg: str = "none"
    quorum: tuple[int, int, int] | None = None
    groups: int = 1
    server_may_lie: bool = True
    colluders: int = 0
    unit: Unit = "patient"
    left: Mapping[str, int] = field(default_factory=dict)
    composed: tuple[float, float] | None = None
    clients: int = 0

    @property
    def protects(self) -> bool:
        """Whether the run gives any guarantee at all."""
        return (
            self.mode != "none"
            and not self.insecure
            and bool(self.sites)
            and all(math.isfinite(site.epsilon) for site in self.sites)
        )

    @property
    def federation_epsilon(self) -> float:
        """Largest ε of one patient: the largest over sites, or the m largest added up (basic composition)."""
        if self.composed is not None:
            return self.composed[0]
        largest = sorted((site.epsilon for site in self.sites), reverse=True)
        return sum(largest[: self.max_sites_per_patient]) if largest else math.inf

    @property
    def federation_delta(self) -> float:
        """The δ that belongs to `federation_epsilon`."""
        if self.composed is not None:
            return self.composed[1]
        largest = sorted((site.delta for site in self.sites), reverse=True)
        return sum(largest[: self.max_sites_per_patient]) if largest else 0.0


@dataclass(frozen=True, slots=True)
class RoundPoint:
    """After one round: loss and headline figure on the server's public set, and each site's ε so far."""

    round: int
    loss: float | None = None
    headline: float | None = None
    epsilon: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """AUROC on the public set of a model trained in one arrangement; `note` says why if there is none."""

    arrangement: Arrangement
    name: str
    noised: bool
    auroc: Interval | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class IntakeRow:
    """One site's intake. Exact counts: for generated or public data, or the site's own report, only."""

    site: str
    inputs: int
    released: int
    quarantined: Mapping[str, int] = field(default_factory=dict)
    bytes_in: int = 0
    bytes_released: int = 0


@dataclass(frozen=True, slots=True)
class EmpiricalRow:
    """One measurement: whose plan, the claim of (σ, q, T), the estimate, and each number's claimed and fitted value.

    Attributes:
        estimate: None where it is infinite. flagged: what was measured contradicts the claim.
        numbers: rows of (name, claimed, fitted, one-sided p).
    """

    name: str
    claim: float
    delta: float
    estimate: Interval | None
    flagged: bool
    canaries: int
    steps: int
    numbers: tuple[tuple[str, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One site's ledger at the end of a run, of a patient who has been there since it was opened.

    Attributes:
        epsilon_max, delta: what it promises over all runs; δ is the ledger's, not the run's.
        course: (entry, ε spent, ε spent or reserved) after each entry; empty where it cannot be read.
        since: the entry with which this run was reserved.
        others, taken: shares of its budget, in [0, 1]: spent or reserved by other runs, spent by this one.
        epsilon: spent in all once this run is closed.
    """

    site: str
    epsilon_max: float = 0.0
    delta: float = 0.0
    course: tuple[tuple[int, float, float], ...] = ()
    since: int = 0
    others: float = 0.0
    taken: float = 0.0
    epsilon: float = 0.0

    @property
    def left(self) -> float:
        """The share of the budget that later runs may spend."""
        return max(0.0, 1.0 - self.others - self.taken)


@dataclass(frozen=True, slots=True)
class ExposureRow:
    """Bounds on what an attacker can learn of one patient, from the claimed trade-off curve; probabilities.

    Attributes:
        name: whose patients. true_positives: at 0.1 % false positives. advantage: the largest.
        reconstruction: from a prior guess of 1 %. curve: (false-positive rate, most true positives).
    """

    name: str
    epsilon: float
    delta: float
    true_positives: float
    advantage: float
    reconstruction: float
    curve: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class ImagePair:
    """One generated image before and after de-identification, as PNG files."""

    caption: str
    before_png: bytes
    after_png: bytes


@dataclass(frozen=True)
class ReportData:
    """Everything a run's report shows.

    Attributes:
        config: rows of (key, value). classes: names by class index.
        headline: name of the metric that is followed by round. rounds: in ascending order. evaluation: global model on the public set.
        site_evaluation: from the sites' noised histograms.
        kept_intake: for data of patients, whose counts stay at the sites: rows of (site, declared number of
            patients, the command that shows the counts there).
        compression: rows of (what, ratio ≥ 0), original ÷ stored size.
        test_absent: why there is no `evaluation`; "" where there is one.
        breakdowns: the same figures by group. noise_factors: what telling groups apart costs: times the noise of an
            evaluation without groups, of the overall figures and of a group's; None where there is no noise.
        data_card: what the data source is and how it was admitted.
        data_generated: the images show no person; only then may `images` be given.
        exposure: what a patient is exposed to at most; empty where nothing is promised.
        empirical: ε as measured by public canaries, beside the claim.
        ledgers: what is left of each site's budget; empty where no ledger was charged.
        battery: what the sites' installations passed before round 1, in one sentence; "" where none was asked.
        start: what the file that the first weights came from says of itself, and its SHA-256; None: from a seed.
        created: time of the run as text; "" leaves it out, so that equal runs give equal reports.

    Raises:
        DataError: images of data that are not generated, or bytes that are not PNG.
    """

    title: str
    run_id: str
    privacy: PrivacySummary
    simulated: bool
    classes: tuple[str, ...] = ("negative", "positive")
    config: tuple[tuple[str, str], ...] = ()
    headline: str = "auroc"
    rounds: tuple[RoundPoint, ...] = ()
    evaluation: EvaluationReport | None = None
    site_evaluation: EvaluationReport | None = None
    comparison: tuple[ComparisonRow, ...] = ()
    intake: tuple[IntakeRow, ...] = ()
    kept_intake: tuple[tuple[str, int, str], ...] = ()
    compression: tuple[tuple[str, float], ...] = ()
    test_absent: str = ""
    breakdowns: tuple[Breakdown, ...] = ()
    noise_factors: tuple[float, float] | None = None
    data_card: str = ""
    data_generated: bool = False
    images: tuple[ImagePair, ...] = ()
    exposure: tuple[ExposureRow, ...] = ()
    empirical: tuple[EmpiricalRow, ...] = ()
    ledgers: tuple[LedgerRow, ...] = ()
    created: str = ""
    battery: str = ""
    start: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.images and not self.data_generated:
            raise DataError(
                "images in a report of generated data only",
                "images of data that are not generated",
                "show them in the site's own report, which never leaves it",
            )
        for pair in self.images:
            if not (pair.before_png.startswith(_PNG) and pair.after_png.startswith(_PNG)):
                raise DataError("PNG files as images", "other bytes", "encode the pixels as PNG first")
