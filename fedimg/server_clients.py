"""The coordinator's side of a round with `client_level`: it samples clients, clips again, and adds the noise.

A file of its own beside `server_round`, because here the coordinator releases, and its own ledger pays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedimg.errors import FederationError
from fedimg.evaluation.site_scores import SiteScores
from fedimg.privacy.client_level import ClientReleases
from fedimg.server_round import Exchange, RoundResult, SeparateTraining, Server, checked, instruct
from fedimg.values import AggregatedUpdate, ClippedUpdate, Vector

# Answers in memory at once, so that memory does not grow with the cohort.
_AT_ONCE = 64


def train_round_clients(
    server: Server,
    round_number: int,
    names: tuple[str, ...],
    exchange: Exchange,
    train: SeparateTraining | None = None,
) -> RoundResult:
    """One round of DP-FedAvg: charge, sample among `names`, clip what is answered again, noise, step.

    Whoever is asked and does not answer as agreed contributes zero, and the divisor is the declared one.
    Raises BudgetExhausted, LedgerError: the coordinator's; the model is unchanged.
    """
    releases, vector = _releases(server), server.optimizer.vector
    size = server.network.number_of_parameters

    def updates(cohort: tuple[str, ...]) -> Iterable[Vector]:
        if train is not None:
            return train(vector, cohort, round_number)
        message = instruct(server, round_number, "train", vector)
        return _clipped_answers(server, message, cohort, exchange, (round_number, "update", size))

    noised = releases.training_sum(round_number, names, size, updates)
    server.optimizer.apply(AggregatedUpdate(round_number, noised.vector / releases.divisor, ()))
    return RoundResult(round_number, (), (), {})


def _clipped_answers(
    server: Server, message: bytes, names: tuple[str, ...], exchange: Exchange, agreed: tuple[int, str, int]
) -> Iterator[Vector]:
    for start in range(0, len(names), _AT_ONCE):
        asked = names[start : start + _AT_ONCE]
        answers = exchange(dict.fromkeys(asked, message))
        found, _ = checked(server, ClippedUpdate, {name: answers.get(name) for name in asked}, *agreed)
        yield from (update.vector for update in found)


def _releases(server: Server) -> ClientReleases:
    if server.clients is None:
        raise FederationError("a coordinator with a ledger", "none", "set privacy=client_level")
    return server.clients


def evaluate_clients(
    server: Server, round_number: int, names: tuple[str, ...], exchange: Exchange
) -> SiteScores:
    """One declared evaluation with `client_level`: each client one histogram of norm ≤ 1, the sum noised once."""
    message, shape = (
        instruct(server, round_number, "evaluate", server.optimizer.released),
        server.measure.shape,
    )
    agreed = (round_number, "histogram", shape[0] * shape[1])

    def histograms(everyone: tuple[str, ...]) -> Iterable[Vector]:
        return _clipped_answers(server, message, everyone, exchange, agreed)

    noised = _releases(server).evaluation_sum(round_number, names, agreed[2], histograms)
    return SiteScores(round_number, noised.vector.reshape(shape), noised.noise_std)
