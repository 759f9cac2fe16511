"""How a model is measured: when, how finely, and by which groups of patients."""

from __future__ import annotations

from dataclasses import dataclass

from fedimg.errors import ConfigError
from fedimg.subgroups import Grouping


def at_least(key: str, value: int, least: int) -> None:
    """Raises ConfigError for less."""
    if value < least:
        raise ConfigError(f"{key} to be at least {least}", str(value), f"set {key}={least} or more")


@dataclass(frozen=True)
class EvaluationConfig:
    """When and how finely the global model is measured.

    Attributes:
        every: rounds between evaluations on the server's public set (the last always is one).
        bootstrap: resamples of patients behind each confidence interval.
        bins: public score bins of one evaluation release at the sites.
        site_evaluations: declared evaluation releases at the sites in the whole run.
        validation_fraction: share of each site's patients held out of its training.
        subgroups, age_edges, scanners: which groups a site's evaluation tells apart, see `Grouping`; each attribute
            adds noise to all figures of it (docs/subgroups.md).
    """

    every: int = 1
    bootstrap: int = 500
    bins: int = 32
    site_evaluations: int = 1
    validation_fraction: float = 0.2
    subgroups: tuple[str, ...] = ()
    age_edges: tuple[int, ...] = Grouping.age_edges
    scanners: tuple[str, ...] = Grouping.scanners

    def __post_init__(self) -> None:
        at_least("evaluation.every", self.every, 1)
        at_least("evaluation.bootstrap", self.bootstrap, 0)
        at_least("evaluation.bins", self.bins, 2)
        at_least("evaluation.site_evaluations", self.site_evaluations, 0)
        if not 0 <= self.validation_fraction < 1:
            raise ConfigError(
                "evaluation.validation_fraction in [0, 1)",
                str(self.validation_fraction),
                "name the share of patients held out",
            )
        _ = Grouping(self.subgroups, self.age_edges, self.scanners)

    @property
    def grouping(self) -> Grouping:
        """What sites agree to: where no group is told apart nothing is said of edges and manufacturers."""
        return Grouping(self.subgroups, self.age_edges, self.scanners) if self.subgroups else Grouping()
