"""What a comparison's table is made of: a row for each learner at each ε, with its strengths and limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from fedimg.compare.learners import BASELINES, epsilon_text
from fedimg.compare.words import Words, words_of

METRICS = ("auroc", "accuracy", "recall", "f1")
OF_TASK: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "classification": METRICS,
        "multilabel": METRICS,
        "regression": ("mae", "rmse", "r2"),
        "segmentation": ("dice", "iou", "recall", "specificity", "hd95_mm", "hd95_voxels"),
        "detection": (
            *("sensitivity_at_1", "sensitivity_at_quarter", "froc"),
            *("map50", "map10", "ap50", "ap10"),
        ),
    }
)
"""What a table shows of each task: of several names for one thing those that its rows have. The first is the headline."""
NAMES = {
    "auroc": "AUROC",
    "accuracy": "accuracy",
    "recall": "recall",
    "f1": "F1",
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R²",
    "dice": "Dice",
    "iou": "IoU",
    "specificity": "specificity",
    "hd95_mm": "HD95, mm",
    "hd95_voxels": "HD95, voxels",
    "sensitivity_at_1": "sensitivity at 1 FP",
    "sensitivity_at_quarter": "at ¼ FP",
    "froc": "FROC",
    "map50": "mAP, IoU ≥ .5",
    "map10": "mAP, IoU ≥ .1",
    "ap50": "AP, IoU ≥ .5",
    "ap10": "AP, IoU ≥ .1",
}
"""Not between 0 and 1."""

State = Literal["finished", "failed", "waiting"]


@dataclass(frozen=True, slots=True)
class Score:
    """A metric, with its 95 % interval where the run has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One learner at one ε.

    Attributes:
        learner: as it was asked for. epsilon_asked: infinite without privacy.
        state: "failed" with the `reason`; "waiting" before it was run.
        model: the network's name, which the words are of. rounds: of its training.
        scores: metric → score; `measured_on` says on what.
        seconds: of its rounds, None where they were not timed.
        bytes_sent, bytes_received: site → bytes in all rounds, evaluations included; None where not counted.
        epsilon: spent, the largest of all sites'; None where nothing is promised. delta: the same.
        private: whether it promises its patients anything. unit: whom ε is for.
        run: its folder. task: `model.task`. public: whether its data are generated or declared public, None where it is not known.
    """

    learner: str
    epsilon_asked: float
    mode: str
    state: State = "waiting"
    reason: str = ""
    model: str = ""
    rounds: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    measured_on: str = ""
    seconds: float | None = None
    bytes_sent: Mapping[str, int] | None = None
    bytes_received: Mapping[str, int] | None = None
    epsilon: float | None = None
    delta: float | None = None
    private: bool = False
    unit: str = ""
    secagg: str = ""
    run: str = ""
    public: bool | None = None
    data: str = ""
    task: str = "classification"

    @property
    def headline(self) -> str:
        return OF_TASK.get(self.task, METRICS)[0]

    @property
    def baseline(self) -> bool:
        """Whether nothing was learnt, and no site asked."""
        return self.learner in BASELINES

    @property
    def name(self) -> str:
        return f"{self.learner}, ε = {epsilon_written(self.epsilon_asked)}"

    @property
    def words(self) -> Words:
        return words_of(self.model or self.learner)

    @property
    def sent(self) -> int | None:
        """Bytes that the site sent which sent most."""
        return max(self.bytes_sent.values()) if self.bytes_sent else None

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; an infinite ε is "inf"."""
        return {
            "learner": self.learner,
            "model": self.model,
            "task": self.task,
            "epsilon_asked": epsilon_text(self.epsilon_asked)
            if math.isinf(self.epsilon_asked)
            else self.epsilon_asked,
            "privacy": self.mode,
            "state": self.state,
            "reason": self.reason,
            "rounds": self.rounds,
            "measured_on": self.measured_on,
            "metrics": {
                name: {"value": score.value, "low": score.low, "high": score.high}
                for name, score in self.scores.items()
            },
            "training_seconds": self.seconds,
            "bytes_sent_by_site": None if self.bytes_sent is None else dict(self.bytes_sent),
            "bytes_received_by_site": None if self.bytes_received is None else dict(self.bytes_received),
            "epsilon_spent": self.epsilon,
            "delta": self.delta,
            "private": self.private,
            "unit": self.unit,
            "secure_sums": self.secagg,
            "run": self.run,
            "public_data": self.public,
            "strengths": self.words.strengths,
            "limits": self.words.limits,
        }


def metrics_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns that rows have: those of their tasks; of what only some tasks have, where a row has it."""
    listed = dict.fromkeys(name for row in rows for name in OF_TASK.get(row.task, METRICS))
    has = {name for row in rows for name in row.scores}
    always = {name for row in rows for name in OF_TASK.get(row.task, METRICS)[:1]} | set(METRICS)
    return tuple(name for name in listed if name in has or name in always) or METRICS


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows, and what is to be said of all of them together.

    Attributes:
        asked: the overrides of every row, in words. cost: sentences on what all runs together cost one patient.
        notes: on what the numbers are.
    """

    rows: tuple[Row, ...]
    asked: str = ""
    cost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.state == "failed")

    def as_dict(self) -> dict[str, Any]:
        return {
            "asked": self.asked,
            "rows": [row.as_dict() for row in self.rows],
            "cost": list(self.cost),
            "notes": list(self.notes),
        }


def bytes_written(count: float) -> str:
    """A size in decimal units, to three digits."""
    power, units = 0, ("B", "kB", "MB", "GB", "TB")
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.3g} {units[power]}"


def epsilon_written(epsilon: float) -> str:
    """As a reader sees it: ∞ or the number."""
    return "∞" if math.isinf(epsilon) else epsilon_text(epsilon)
