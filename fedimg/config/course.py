"""What a coordinator's own settings must be, for an algorithm whose sites keep a state."""

from __future__ import annotations

from fedimg.aggregation import AggregationConfig
from fedimg.errors import ConfigError
from fedimg.training import CORRECTED, LocalTraining


def check_course(training: LocalTraining, aggregation: AggregationConfig, *, fused: bool) -> None:
    """Raises ConfigError, with the reason."""
    name = training.algorithm.name
    if name == "none":
        return
    corrected = name in CORRECTED
    against = {
        "engine.fused=true, whose batched steps know FedAvg and FedProx": fused,
        f"aggregation.name={aggregation.name}: its own step is the plain mean's": corrected
        and aggregation.name != "fedavg",
        f"aggregation.robust={aggregation.robust}: its corrections add up to zero in the mean only": corrected
        and aggregation.robust != "none",
        f"aggregation.learning_rate={aggregation.learning_rate:g}: the coordinator's step is given": name
        == "feddyn"
        and aggregation.learning_rate != 1,
    }
    for found, there in against.items():
        if there:
            raise ConfigError(
                f"a coordinator that training.algorithm.name={name} stands beside (docs/heterogeneity.md)",
                found,
                "set aggregation=fedavg and engine.fused=false",
            )
