"""Many virtual clients on all cores: one process a core, each running fused chunks of clients.

The parent hands out a cohort chunk by chunk. A worker makes its clients' data when their turn
comes and drops it afterwards, so memory does not grow with the number of clients; it returns one
weighted sum a chunk, never a client's model. The sums are added in the order of the cohort,
whichever worker was first: the same cohort and number of clients a chunk give the same bits on
any number of workers.

Only `privacy=none` and simulations run here: nothing in this module clips or adds noise.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
import platform
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import FederationError, FedimgError
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


class WeightedSum(NamedTuple):
    """Σ w·(local − global) over a cohort, (P,) float64, and Σ w."""

    vector: Vector
    weight: float


class ClientPool:
    """Trains cohorts of virtual clients; a context manager, since it owns processes.

    Args:
        clients: the virtual clients; must be picklable where `workers` > 1.
        parameters: P, the model's number of parameters.
        workers: processes; 0 for one a core, 1 to train in this process on `device`.
        device: an accelerator is used with `workers=1` only.
    """

    def __init__(
        self, clients: VirtualClients, parameters: int, workers: int = 0, device: torch.device | None = None
    ) -> None:
        self._chunk = clients.training.chunk
        self._parameters = parameters
        self._alone: _Worker | None = None
        self._processes: list[mp.process.BaseProcess] = []
        self._connections: list[Connection] = []
        count = workers or len(os.sched_getaffinity(0))
        if count == 1 or (device is not None and device.type != "cpu"):
            self._alone = _Worker(clients, device or torch.device("cpu"))
            return
        # Not fork: a forked child of a process whose OpenMP threads have run may hang.
        context = mp.get_context("spawn")
        self._global = context.RawArray(ctypes.c_float, parameters)
        self._sums = [context.RawArray(ctypes.c_float, parameters) for _ in range(count)]
        for sums in self._sums:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(clients, self._global, sums, theirs), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; safe to call twice."""
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
                process.join()
        self._connections, self._processes = [], []

    def train(self, params: Vector, cohort: Sequence[int], round_number: int) -> WeightedSum:
        """One round of local training of every client in `cohort`, from the same global model.

        Args:
            params: (P,) global parameters; training rounds them to float32.
            cohort: client numbers, in the order in which the sums are added.
            round_number: handed to `VirtualClients.entropy`.

        Raises:
            FederationError: a client could not be trained, or a worker ended.
        """
        chunks = [list(cohort[k : k + self._chunk]) for k in range(0, len(cohort), self._chunk)]
        total, weight = np.zeros(self._parameters), 0.0
        if self._alone is not None:
            for chunk in chunks:
                vector, mass = self._alone.train(params.astype(np.float32), chunk, round_number)
                total += vector
                weight += mass
            return WeightedSum(total, weight)
        _as_array(self._global)[:] = params
        return self._distributed(chunks, round_number)

    def _distributed(self, chunks: Sequence[list[int]], round_number: int) -> WeightedSum:
        total, weight = np.zeros(self._parameters), 0.0
        waiting: dict[int, tuple[npt.NDArray[np.float32], float]] = {}
        running: dict[int, int] = {}
        given = added = 0
        for worker in range(min(len(self._connections), len(chunks))):
            self._give(worker, chunks[given], round_number)
            running[worker], given = given, given + 1
        while added < len(chunks):
            for worker in self._ready(running):
                number = running.pop(worker)
                mass = self._answer(worker)
                waiting[number] = (_as_array(self._sums[worker]).copy(), mass)
                if given < len(chunks):
                    self._give(worker, chunks[given], round_number)
                    running[worker], given = given, given + 1
            while added in waiting:
                vector, mass = waiting.pop(added)
                total += vector
                weight, added = weight + mass, added + 1
        return WeightedSum(total, weight)

    def _ready(self, running: dict[int, int]) -> list[int]:
        connections = {self._connections[worker]: worker for worker in running}
        return sorted(connections[c] for c in wait(list(connections)) if isinstance(c, Connection))

    def _give(self, worker: int, chunk: list[int], round_number: int) -> None:
        try:
            self._connections[worker].send((chunk, round_number))
        except (BrokenPipeError, OSError):
            raise self._lost(worker) from None

    def _answer(self, worker: int) -> float:
        try:
            mass, trouble = self._connections[worker].recv()
        except (EOFError, OSError):
            raise self._lost(worker) from None
        if trouble is not None:
            raise FederationError(
                "every virtual client to train", trouble, "correct it and run the round again"
            )
        return float(mass)

    def _lost(self, worker: int) -> FederationError:
        self._processes[worker].join(timeout=5)
        found = f"worker {worker} ended with exit code {self._processes[worker].exitcode}"
        return FederationError("every worker process to answer", found, "free memory or use fewer workers")


class _Worker:
    """Trains one chunk after another in the process that it lives in."""

    def __init__(self, clients: VirtualClients, device: torch.device) -> None:
        self._clients, self._device = clients, device
        self._training = FusedTraining(clients.network(), clients.training)

    def train(
        self, params: npt.NDArray[np.float32], chunk: Sequence[int], round_number: int
    ) -> tuple[npt.NDArray[np.float32], float]:
        anchor = torch.from_numpy(params).to(self._device)
        datasets = [self._clients.dataset(client) for client in chunk]
        entropies = [self._clients.entropy(client, round_number) for client in chunk]
        updates = self._training.train(anchor, datasets, entropies).sub_(anchor)
        weights = [self._clients.weight(client) for client in chunk]
        total = torch.tensor(weights, dtype=torch.float32, device=self._device) @ updates
        return total.cpu().numpy(), float(sum(weights))


def _as_array(shared: Any) -> npt.NDArray[np.float32]:
    """A block of shared memory as numbers, without a copy."""
    return np.frombuffer(shared, dtype=np.float32)


def _serve(clients: VirtualClients, shared: Any, sums: Any, connection: Connection) -> None:
    """A worker process: chunks in, sums out through shared memory, until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    torch.set_num_threads(1)
    _keep_freed_memory()
    params, output = (_as_array(block) for block in (shared, sums))
    worker: _Worker | None = None
    while True:
        try:
            chunk, round_number = connection.recv()
        except EOFError:
            return
        mass, trouble = 0.0, None
        try:
            worker = worker or _Worker(clients, torch.device("cpu"))
            output[:], mass = worker.train(params, chunk, round_number)
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
