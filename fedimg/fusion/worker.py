"""One worker of the pool: fused chunks of virtual clients, one after another."""

from __future__ import annotations

import ctypes
import platform
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import FedimgError
from fedimg.privacy.client_level import clipped_update
from fedimg.training import FusedTraining, LocalTraining
from fedimg.training.local import Entropy, Network
from fedimg.values import SiteDataset, Vector


class VirtualClients(Protocol):
    """What a worker needs to know; it is sent to each worker once, when the pool starts.

    Its methods are called inside the workers and must depend on their arguments only.
    """

    @property
    def training(self) -> LocalTraining: ...

    def network(self) -> Network:
        """The model; called once in each worker."""
        ...

    def dataset(self, client: int) -> SiteDataset:
        """One client's data, made or read when it is asked for."""
        ...

    def entropy(self, client: int, round_number: int) -> Entropy:
        """What shuffles one client's images in one round."""
        ...

    def weight(self, client: int) -> float:
        """The client's public weight in the mean."""
        ...


@dataclass(frozen=True)
class Separately:
    """Clients' updates apart, each of L2 norm ≤ `l2_clip_norm`; a client that fails contributes zero.

    `failed` is told of it, in the worker: a client's trouble is its own operator's business.
    """

    l2_clip_norm: float
    failed: Callable[[int, Exception], None]


class Worker:
    """Trains one chunk after another in the process that it lives in."""

    def __init__(self, clients: VirtualClients, device: torch.device, apart: Separately | None) -> None:
        self._clients, self._device, self._apart = clients, device, apart
        self._training = FusedTraining(clients.network(), clients.training)

    def train(
        self, params: npt.NDArray[np.float32], chunk: Sequence[int], round_number: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        """Σ w·update (P,) and Σ w; with `apart` the clipped updates one after another, and their number."""
        anchor = torch.from_numpy(params).to(self._device)
        if self._apart is not None:
            rows = self._clipped(anchor, chunk, round_number, self._apart)
            return rows.astype(np.float32).ravel(), float(len(chunk))
        updates = self._updates(anchor, chunk, round_number)
        weights = [self._clients.weight(client) for client in chunk]
        total = torch.tensor(weights, dtype=torch.float32, device=self._device) @ updates
        return total.cpu().numpy(), float(sum(weights))

    def _updates(self, anchor: torch.Tensor, chunk: Sequence[int], round_number: int) -> torch.Tensor:
        datasets = [self._clients.dataset(client) for client in chunk]
        entropies = [self._clients.entropy(client, round_number) for client in chunk]
        return self._training.train(anchor, datasets, entropies).sub_(anchor)

    def _clipped(
        self, anchor: torch.Tensor, chunk: Sequence[int], round_number: int, apart: Separately
    ) -> Vector:
        try:
            updates = self._updates(anchor, chunk, round_number).cpu().numpy()
        except Exception as fault:  # noqa: BLE001 - whichever client's it is: found out one by one
            if len(chunk) == 1:
                apart.failed(chunk[0], fault)
                return np.zeros((1, len(anchor)))
            return np.concatenate([self._clipped(anchor, [one], round_number, apart) for one in chunk])
        return np.stack([clipped_update(row, apart.l2_clip_norm) for row in updates])


def as_array(shared: Any) -> npt.NDArray[np.float32]:
    """A block of shared memory as numbers, without a copy."""
    return np.frombuffer(shared, dtype=np.float32)


def serve(
    clients: VirtualClients, shared: Any, sums: Any, connection: Connection, apart: Separately | None
) -> None:
    """A worker process: chunks in, sums (or updates) out through shared memory, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    _keep_freed_memory()
    params, output = as_array(shared), [as_array(block) for block in sums]
    worker: Worker | None = None
    while True:
        try:
            chunk, round_number, slot = connection.recv()
        except EOFError:
            return
        mass, trouble = 0.0, None
        try:
            worker = worker or Worker(clients, torch.device("cpu"), apart)
            values, mass = worker.train(params, chunk, round_number)
            output[slot][: len(values)] = values
        except FedimgError as error:
            trouble = str(error)
        except Exception as error:  # noqa: BLE001 - reported to the parent, which raises
            # Only the type: another library's message may quote what it was reading.
            trouble = f"an error of type {type(error).__name__}"
        connection.send((mass, trouble))


def _keep_freed_memory() -> None:
    """Let this process's allocator reuse large blocks instead of returning them to the system.

    A training step frees and asks again for the same megabytes; fetching their pages anew from the
    system costs as much as the arithmetic on them. glibc only (mallopt(3)); elsewhere no change.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 1 << 26)
