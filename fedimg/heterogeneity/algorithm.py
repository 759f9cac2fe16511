"""What an algorithm's two halves look like: state in, state out, as fedjax writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from fedimg.heterogeneity.states import State
from fedimg.values import Vector

Sendable = Callable[[Vector], Vector]
"""An update as it will arrive: rounded to what travels, clamped to what a secure sum has room for. What the site keeps is
made of that, so that its state and the coordinator's are of the same numbers."""


@dataclass(frozen=True)
class Begun:
    """Where a round begins.

    Attributes:
        start: (P,) the model that training starts from.
        correction: (P,) added to every step's gradient; None: nothing.
        proximal_mu: in place of `training.proximal_mu`; None: that.
    """

    start: Vector
    correction: Vector | None = None
    proximal_mu: float | None = None


@dataclass(frozen=True)
class Trained:
    """A round's training, done.

    Attributes:
        sent: what the coordinator's instructions held. moved: (P,) local less starting parameters.
        steps: so many local ones it took. sendable: makes of an update what will arrive.
    """

    sent: Vector
    moved: Vector
    steps: int
    sendable: Sendable


class SiteSide(Protocol):
    """A site's half. `sent`: as in `Trained`."""

    def begin(self, state: State, sent: Vector, /) -> Begun: ...
    def end(self, state: State, trained: Trained, /) -> tuple[Vector, State]:
        """What is sent, and the state after the round."""
        ...


class ServerSide(Protocol):
    """The coordinator's half: post-processing of a round's mean update."""

    def init(self, size: int, /) -> dict[str, Vector]: ...
    def instructed(self, state: State, vector: Vector, /) -> Vector: ...
    def apply(self, state: State, mean: Vector, part: float, /) -> tuple[Vector, dict[str, Vector]]:
        """The step that the global model takes, (P,), and the next state."""
        ...


class PlainSite:
    """FedAvg's and FedProx's: nothing is kept."""

    def begin(self, _state: State, sent: Vector) -> Begun:
        return Begun(sent)

    def end(self, state: State, trained: Trained) -> tuple[Vector, State]:
        return trained.moved, state


class PlainServer:
    """The mean update is the step."""

    def init(self, _size: int) -> dict[str, Vector]:
        return {}

    def instructed(self, _state: State, vector: Vector) -> Vector:
        return vector

    def apply(self, _state: State, mean: Vector, _part: float) -> tuple[Vector, dict[str, Vector]]:
        return mean, {}
