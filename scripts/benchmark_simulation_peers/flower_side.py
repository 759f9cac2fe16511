"""Flower 1.41's Ray engine: one ClientApp, `run_simulation` with the engine's own settings.

Under the name `flower_ray_per_core` every client asks for one CPU instead of the two that are the
engine's default. The only departure from the quickstart: the server names the client that each
sampled node plays, so that every side of the comparison trains the same cohorts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmark_simulation_peers.flower_client import client_app
from benchmark_simulation_peers.problem import (
    Cnn,
    Problem,
    RoundClock,
    finish,
    flat_weights,
    load_flat,
    main_arguments,
)
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


class NamedCohorts(FedAvg):
    """FedAvg whose i-th sampled node plays the i-th client of the round's cohort."""

    def __init__(self, problem: Problem, clock: RoundClock, **settings: Any) -> None:
        super().__init__(**settings)
        self._problem, self._cohorts, self._clock = problem, problem.cohorts(), clock

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = list(super().configure_train(server_round, arrays, config, grid))
        for message, client in zip(messages, self._cohorts[server_round - 1], strict=True):
            settings = ConfigRecord({"client": client, "folder": self._problem.folder})
            message.content = RecordDict({"arrays": arrays, "config": settings})
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        replies = list(replies)
        if len(replies) != self._problem.cohort or any(reply.has_error() for reply in replies):
            raise RuntimeError("a client of the cohort did not train")
        aggregated = super().aggregate_train(server_round, replies)
        self._clock.mark()
        return aggregated


def main() -> None:
    problem, side = main_arguments()
    server_app = ServerApp()

    @server_app.main()  # type: ignore[untyped-decorator]
    def serve(grid: Grid, _context: Context) -> None:
        module = load_flat(Cnn(problem.classes, problem.size), problem.initial())
        clock = RoundClock(problem)
        strategy = NamedCohorts(
            problem,
            clock,
            fraction_train=problem.cohort / problem.clients,
            fraction_evaluate=0.0,
            min_train_nodes=problem.cohort,
            min_available_nodes=problem.clients,
        )
        result = strategy.start(
            grid=grid, initial_arrays=ArrayRecord(module.state_dict()), num_rounds=problem.total_rounds
        )
        module.load_state_dict(result.arrays.to_torch_state_dict())
        finish(problem, side, clock, flat_weights(module))

    # Nothing given: the engine's defaults.
    resources: Any = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}} if "per_core" in side else None
    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=problem.clients,
        backend_config=resources,
    )


if __name__ == "__main__":
    main()
