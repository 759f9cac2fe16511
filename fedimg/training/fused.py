"""Many virtual clients in one pass: `vmap` of the same local step, never a second trainer.

Clients of a chunk share each kernel call, which is what makes small models on small data fast.
Clients of different sizes are padded with rows of weight 0, and a client that has run out of
batches keeps its parameters while the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch

from fedimg.models.losses import cross_entropy
from fedimg.training.fused_layout import rows_beside_channels
from fedimg.training.fused_operators import fused_operators
from fedimg.training.fused_trace import signature, traced
from fedimg.training.local import (
    Batch,
    Entropy,
    Indices,
    LocalTraining,
    Loss,
    Network,
    State,
    local_step,
    minibatches,
)
from fedimg.values import SiteDataset

# A trace costs as much as some tens of steps; a shape seen so often will return as often.
_TRACE_AFTER = 4
_Step = Callable[[State, Batch, torch.Tensor], State]
_Key = tuple[object, ...]


class FusedTraining:
    """`train_open` for many clients, again and again with the same network and settings.

    A step whose shape keeps returning is traced once (`fused_trace.py`): the same operators on the
    same values, without `vmap`'s and autograd's bookkeeping in Python, which for small models costs
    more than the arithmetic.
    """

    def __init__(self, network: Network, config: LocalTraining, loss: Loss = cross_entropy) -> None:
        self._config = config
        self._seen: Counter[_Key] = Counter()
        self._traced: dict[_Key, _Step] = {}

        def step(state: State, batch: Batch, anchor: torch.Tensor) -> State:
            return local_step(network, state, batch, anchor, config, loss)

        # In the first step all clients still have the global model: one matrix for all of them.
        self._first: _Step = torch.func.vmap(step, in_dims=(None, 0, None))
        self._later: _Step = torch.func.vmap(step, in_dims=(0, 0, None))

    def train(
        self, params: torch.Tensor, datasets: Sequence[SiteDataset], entropies: Sequence[Entropy]
    ) -> torch.Tensor:
        """A round of K clients from the same global model; see `train_open_fused`."""
        anchor = params.detach().to(torch.float32)
        if not datasets:
            return anchor.new_zeros((0, anchor.numel()))
        clients, size = list(zip(datasets, entropies, strict=True)), self._config.chunk
        chunks = [self._chunk(anchor, clients[k : k + size]) for k in range(0, len(clients), size)]
        return chunks[0] if len(chunks) == 1 else torch.cat(chunks)

    def _chunk(self, anchor: torch.Tensor, clients: Sequence[tuple[SiteDataset, Entropy]]) -> torch.Tensor:
        schedules = [list(minibatches(dataset, self._config, entropy)) for dataset, entropy in clients]
        images, labels, first = _joined([dataset for dataset, _ in clients], anchor.device)
        state = State(anchor, torch.zeros_like(anchor))
        steps = max(len(s) for s in schedules)
        for number in range(steps):
            index = torch.from_numpy(_padded(schedules, number, first)).to(anchor.device)
            weights = (index < first[-1]).to(torch.float32)
            batch = Batch(rows_beside_channels(images, index), labels[index], weights)
            state = self._advance(state, batch, anchor)
        return state.params if steps else anchor.repeat(len(clients), 1)

    def _advance(self, state: State, batch: Batch, anchor: torch.Tensor) -> State:
        step = self._first if state.params.dim() == 1 else self._later
        key = signature(state, batch, anchor)
        self._seen[key] += 1
        if key not in self._traced:
            with fused_operators(anchor.device):
                if self._seen[key] < _TRACE_AFTER:
                    return step(state, batch, anchor)
                self._traced[key] = traced(step, state, batch, anchor)
        return State(*self._traced[key](state, batch, anchor))


def train_open_fused(
    network: Network,
    params: torch.Tensor,
    datasets: Sequence[SiteDataset],
    config: LocalTraining,
    entropies: Sequence[Entropy],
    loss: Loss = cross_entropy,
) -> torch.Tensor:
    """`train_open` for K clients at once, `config.chunk` of them together.

    Args:
        params: (P,) float32, the global model all start from.
        datasets, entropies: one for each client, in the same order.

    Returns:
        (K, P) float32, row k within 1e-6 of `train_open` on dataset k with entropy k.
    """
    return FusedTraining(network, config, loss).train(params, datasets, entropies)


def _joined(
    datasets: Sequence[SiteDataset], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Indices]:
    """All clients' images and labels in a row, where each client begins, and one row of padding.

    The padding is of zeros, not some client's image: a value which is not finite at one client
    must never reach another.
    """
    first = np.concatenate([[0], np.cumsum([len(d.labels) for d in datasets])])
    filled = [d for d in datasets if len(d.labels)] or [datasets[0]]
    images = torch.cat(
        [d.images for d in filled] + [filled[0].images.new_zeros((1, *filled[0].images.shape[1:]))]
    )
    labels = torch.cat(
        [d.labels for d in filled] + [filled[0].labels.new_zeros((1, *filled[0].labels.shape[1:]))]
    )
    return images.to(device), labels.to(device), first


def _padded(schedules: Sequence[Sequence[Indices]], number: int, first: Indices) -> Indices:
    """Step `number` of every client as rows of one (K, B) index into the chunk's images."""
    current = [s[number] if number < len(s) else np.zeros(0, np.int64) for s in schedules]
    # Full batches, or the next power of two below: few shapes, so that each is worth its trace.
    full, longest = max(len(s[0]) for s in schedules if s), max(len(c) for c in current)
    width = min(full, 1 << (longest - 1).bit_length())
    index = np.full((len(current), width), first[-1], dtype=np.int64)
    for row, (indices, offset) in enumerate(zip(current, first[:-1], strict=True)):
        index[row, : len(indices)] = indices + offset
    return index
