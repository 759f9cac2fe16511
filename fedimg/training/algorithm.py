"""Which federated algorithm a site takes part in, where sites differ: plain values that a site may judge.

What each does stands in `fedimg.heterogeneity`, and which of them stands under which privacy in docs/heterogeneity.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedimg.errors import ConfigError

CORRECTED = ("scaffold", "feddyn")
"""Every local step is corrected by what the site keeps of earlier rounds."""
KEPT = ("fedbn", "local_head")
"""Some parameters stay at the site."""
ASIDE = ("ditto", "fine_tuned_head")
"""A personal model is trained beside the global one, which it has no influence on."""


@dataclass(frozen=True, slots=True)
class AlgorithmConfig:
    """Beyond FedAvg and FedProx.

    Attributes:
        name: "none"; "scaffold" or "feddyn", which correct the drift of local steps; "fedbn" or "local_head",
            where normalisation or the last layer stays at the site; "ditto" or "fine_tuned_head", a personal
            model beside the global one.
        alpha: FedDyn's α, in units of curvature.
        pull: Ditto's λ, which draws the personal model to the global one; 0 is training alone.
        personal_epochs: `ditto`: passes over the site's images a round; `fine_tuned_head`: after the last one.
        personal_learning_rate: of these; None takes `training.learning_rate`.
    """

    name: Literal["none", "scaffold", "feddyn", "fedbn", "local_head", "ditto", "fine_tuned_head"] = "none"
    alpha: float = 0.1
    pull: float = 0.1
    personal_epochs: int = 1
    personal_learning_rate: float | None = None

    def __post_init__(self) -> None:
        rate = self.personal_learning_rate
        _require(0 < self.alpha < float("inf"), "alpha", "a positive number", self.alpha)
        _require(0 <= self.pull < float("inf"), "pull", "a number ≥ 0", self.pull)
        _require(1 <= self.personal_epochs <= 10**4, "personal_epochs", "1 to 10⁴", self.personal_epochs)
        if rate is not None:
            _require(0 < rate < float("inf"), "personal_learning_rate", "a positive number", rate)

    @property
    def vectors(self) -> int:
        """Of the parameters' length, in a round's instructions and in an update: SCAFFOLD sends its control variate too."""
        return 2 if self.name == "scaffold" else 1


def _require(holds: bool, key: str, expected: str, found: object) -> None:
    if not holds:
        key = f"training.algorithm.{key}"
        raise ConfigError(f"{key} to be {expected}", str(found), f"correct {key}")
