"""What the page knows, as plain values: the JSON API gives them as they are, the pages draw them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FederationInfo:
    """`bundle`: the last one's number; 0 before the first. `ends`: of the server's certificate, a date."""

    name: str
    id: str
    bundle: int
    ends: str
    version: str


@dataclass(frozen=True, slots=True)
class SiteInfo:
    """A member. `since`: when it connected, or went; "" where that is not known. `weight`: its declared size.

    `certificate_ends`: a date. `certificate_days`: left until then.
    """

    name: str
    connected: bool
    since: str
    weight: int
    certificate_ends: str
    certificate_days: int


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run's line. `round`: the last that was finished.

    `privacy`: its mode, or "insecure test mode"; "" where unknown. `epsilon`: the largest of the sites' so far;
    `epsilon_declared`: what the run asks for; None without a guarantee. `score`: on the
    public test set, of the metric that the task follows, `figure`.
    """

    run: str
    stage: str
    reason: str
    round: int
    rounds: int
    submitted: str
    changed: str
    privacy: str
    epsilon: float | None
    epsilon_declared: float | None
    figure: str
    score: float | None


@dataclass(frozen=True, slots=True)
class RoundInfo:
    """A finished round: who answered, who did not, and why its sum could not be opened ("" where it was)."""

    round: int
    loss: float | None
    score: float | None
    epsilon: dict[str, float]
    sites: list[str]
    missing: list[str]
    void: str


@dataclass(frozen=True, slots=True)
class RunSite:
    """A site in one run.

    `epsilon`: after the last finished round; `epsilon_planned`: what its plan may cost in all, retries included.
    `asked`: rounds that it was asked in.
    """

    name: str
    joined: bool
    epsilon: float | None
    epsilon_planned: float | None
    noise_multiplier: float | None
    answered: int
    asked: int
    missing_rounds: list[int]


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run. `settings`: rows of (what, value). `problems`: files of its folder that cannot be read."""

    info: RunInfo
    delta: float | None
    settings: list[tuple[str, str]]
    sites: list[RunSite]
    rounds: list[RoundInfo]
    problems: list[str]
    has_report: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """All of it but the runs' rounds. `runs`: the latest first."""

    federation: FederationInfo
    sites: list[SiteInfo]
    runs: list[RunInfo]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request was refused."""

    detail: str
