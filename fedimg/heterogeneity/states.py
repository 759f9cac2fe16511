"""What a site keeps between rounds, in its home: `heterogeneity/<run>/<round>.safetensors` (0700, 0600).

A state is the one *after* a round. A round begins with that of the last round whose answer the coordinator took into
the model, as its message says: an answer that was lost, or came too late, moves neither side. So a question that is
asked again is answered from the same state, a kill between two files costs nothing, and only two files are needed: of
the round that was taken, and of the one that was answered last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fedimg.durable import write_durably
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.values import Vector

NAME = "heterogeneity"
State = Mapping[str, Vector]
"""(P,) float64 by name; without any, the state before the first round."""


@dataclass(frozen=True)
class RoundStates:
    """One run's states at one site."""

    folder: Path

    def after(self, taken: int) -> dict[str, Vector]:
        """The state after a round; empty after round 0. Raises DataError where it is not there."""
        if taken == 0:
            return {}
        try:
            found = load((self.folder / _name(taken)).read_bytes())
        except (OSError, SafetensorError, ValueError):
            raise DataError(
                f"what this site kept of round {taken}, whose answer is in the model",
                "nothing that can be read",
                "the site takes no part in this run any more; it can in the next",
            ) from None
        return {name: value.double().numpy() for name, value in found.items()}

    def put(self, number: int, state: State, taken: int) -> None:
        """Durable when this returns. What lies between `taken` and this round was never taken, and goes."""
        self.folder.parent.mkdir(mode=0o700, exist_ok=True)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        tensors = {name: torch.from_numpy(np.array(value, dtype=np.float64)) for name, value in state.items()}
        write_durably(self.folder / _name(number), save(tensors))
        for old in self.folder.glob("*.safetensors"):
            if old.name not in (_name(number), _name(taken)):
                old.unlink()


def states_of(home: SiteHome, run_id: str) -> RoundStates:
    return RoundStates(home.root / NAME / run_id)


def _name(number: int) -> str:
    return f"{number:06d}.safetensors"
