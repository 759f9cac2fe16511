"""What the console knows, as plain values, for JSON API and pages. Times: seconds since 1970. `study`: its key, never a UID."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request was refused."""

    detail: str


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose study it is and what it is of. `date`: of the study, as DICOM writes it."""

    id: str
    name: str
    accession: str
    date: str
    description: str
    modalities: str
    body_parts: str


@dataclass(frozen=True, slots=True)
class FindingInfo:
    """An alert on a line. `pushed`: False where it was above the rate limit and is shown only."""

    alert: str
    finding: str
    score: float
    threshold: float
    state: str
    pushed: bool
    where: str
    size_mm: float | None


@dataclass(frozen=True, slots=True)
class WorkRow:
    """A study on the worklist.

    `priority`: 0 routine, else as urgent as what a model has called (1 to 3). `stat`: ordered as urgent. `reason`: why it
    was not analysed, or failed. `looked`: the models that have looked at it.
    """

    study: str
    stat: bool
    priority: int
    patient: Patient
    images: int
    first_at: float
    last_at: float
    state: str
    completeness: str
    reason: str
    read_at: float | None
    findings: tuple[FindingInfo, ...]
    looked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Worklist:
    """`rows`: of `total` from number `first` on. `suppressed`: alerts above the rate limit that wait for a person.

    `states`: how many unread studies are in each.
    """

    rows: list[WorkRow]
    first: int
    total: int
    open_alerts: int
    suppressed: int
    states: dict[str, int]


@dataclass(frozen=True, slots=True)
class AlertInfo:
    """An alert with its patient. `code`: (value, scheme, meaning)."""

    alert: str
    study: str
    patient: Patient
    finding: str
    code: tuple[str, str, str]
    kind: str
    where: str
    size_mm: float | None
    score: float
    threshold: float
    model: str
    digest: str
    state: str
    reason: str
    raised_at: float
    changed_at: float
    pushed: bool
    escalated: bool


@dataclass(frozen=True, slots=True)
class Alerts:
    """`rows`: the open ones first, of `total`. `findings`: all that there are, to choose from."""

    rows: list[AlertInfo]
    first: int
    total: int
    findings: list[str]


@dataclass(frozen=True, slots=True)
class LookInfo:
    """What a model did with a series, or why it did nothing. `state`: of the job, or "not analysed"."""

    model: str
    state: str
    reason: str
    shadow: bool


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """One series as its images came in."""

    series_uid: str
    modality: str
    body_part: str
    description: str
    images: int
    source: str
    looks: list[LookInfo]


@dataclass(frozen=True, slots=True)
class PlaceInfo:
    """A finding in its place."""

    finding: str
    meaning: str
    site: str
    score: float
    where: str
    size_mm: float | None
    image: str


@dataclass(frozen=True, slots=True)
class ResultInfo:
    """What a job found. `scores`: calibrated probabilities by finding. `outputs`: names of its files.

    `current`: False where later images made it void. `picture`: of what the call rests on, made after the alert: "" or
    the store's word for where it is. `why`: there will be none.
    """

    job: int
    model: str
    digest: str
    shadow: bool
    current: bool
    score: float
    threshold: float | None
    called: bool
    scores: dict[str, float]
    places: list[PlaceInfo]
    seconds: float
    finished_at: float
    outputs: list[str]
    picture: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class LabelInfo:
    """What a person found."""

    finding: str
    present: bool
    at: float


@dataclass(frozen=True, slots=True)
class Happened:
    """A line of a study's course. `who`: "" where the watcher did it by itself."""

    at: float
    what: str
    about: str = ""
    who: str = ""


@dataclass(frozen=True, slots=True)
class StudyDetail:
    """One study. `findings`: what may be labelled in it."""

    row: WorkRow
    study_uid: str
    revision: int
    completed_at: float | None
    series: list[SeriesInfo]
    results: list[ResultInfo]
    alerts: list[AlertInfo]
    labels: list[LabelInfo]
    findings: list[str]
    timeline: list[Happened]


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A model's look at a study. Nothing of the patient."""

    job: int
    study: str
    model: str
    state: str
    shadow: bool
    attempts: int
    stat: bool
    priority: int
    queued_at: float
    started_at: float | None
    finished_at: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryInfo:
    """Something that is to go out, or could not."""

    delivery: int
    study: str
    target: str
    kind: str
    state: str
    attempts: int
    next_at: float
    made_at: float
    why: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that analyses. `state`: the centre's word for what it does."""

    name: str
    state: str
    done: int
    since: float


@dataclass(frozen=True, slots=True)
class Running:
    """What only the running watcher knows. `held`: why it takes nothing in and looks at nothing, "" otherwise.

    `free_bytes`: on the spool's disk; at `least_bytes` nothing is taken any more. `counts`: since its start, by name.
    """

    workers: tuple[Worker, ...] = ()
    spool_files: int = 0
    spool_bytes: int = 0
    free_bytes: int = 0
    least_bytes: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    held: str = ""


@dataclass(frozen=True, slots=True)
class WaitInfo:
    """What one queue's order costs whom, in the long run.

    `per_hour`, `urgent_share`: measured arrivals. `service_s`: measured time for one. `busy`: the share of its time that
    the queue is served; at 1 and above no wait is final. Waits in seconds, None where they have no end.
    """

    what: str
    per_hour: float
    urgent_share: float
    service_s: float
    busy: float
    in_order_s: float | None
    urgent_s: float | None
    routine_s: float | None


@dataclass(frozen=True, slots=True)
class Queue:
    """`jobs`, `deliveries`, `pictures`: counts by state. `waits`: of the queues that have been measured."""

    jobs: dict[str, int]
    deliveries: dict[str, int]
    running: list[JobInfo]
    queued: list[JobInfo]
    failed: list[JobInfo]
    due: list[DeliveryInfo]
    dead: list[DeliveryInfo]
    waits: list[WaitInfo]
    process: Running | None = field(default=None)
    pictures: dict[str, int] = field(default_factory=dict)
