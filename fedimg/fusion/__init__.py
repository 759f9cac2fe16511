"""Many virtual clients on all cores: one process a core, each running fused chunks of clients.

The parent hands out a cohort chunk by chunk. A worker makes its clients' data when their turn
comes and drops it afterwards, so memory does not grow with the number of clients; it returns one
weighted sum a chunk, never a client's model. The sums are added in the order of the cohort,
whichever worker was first: the same cohort on the same number of workers gives the same bits.

With `Separately` (for `client_level`) a worker clips each client's update and returns them one by one,
for the coordinator to clip again, add up and noise. Simulations only: nothing here adds noise.
"""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch

from fedimg.errors import FederationError, FedimgError
from fedimg.fusion.worker import Separately, VirtualClients, Worker, as_array, serve
from fedimg.processes import never_started
from fedimg.values import Vector

__all__ = ["ClientPool", "Separately", "VirtualClients", "WeightedSum"]


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
        device: an accelerator is used from this process alone.
        apart: for `separate` instead of `train`.
    """

    def __init__(
        self,
        clients: VirtualClients,
        parameters: int,
        workers: int = 0,
        device: torch.device | None = None,
        apart: Separately | None = None,
    ) -> None:
        self._chunk = clients.training.chunk
        self._parameters = parameters
        self._alone: Worker | None = None
        self._remotes: list[_Remote] = []
        count = workers or len(os.sched_getaffinity(0))
        if count == 1 or (device is not None and device.type != "cpu"):
            self._alone = Worker(clients, device or torch.device("cpu"), apart)
            return
        # Not fork: a forked child of a process whose OpenMP threads have run may hang.
        context = mp.get_context("spawn")
        self._global = context.RawArray(ctypes.c_float, parameters)
        for _ in range(count):
            size = parameters * (self._chunk if apart else 1)
            sums = [context.RawArray(ctypes.c_float, size) for _ in range(2)]
            ours, theirs = context.Pipe()
            work = (clients, self._global, sums, theirs, apart)
            process = context.Process(target=serve, args=work, daemon=True)
            process.start()
            theirs.close()
            self._remotes.append(_Remote(process, ours, [as_array(block) for block in sums]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the workers; safe to call twice."""
        for remote in self._remotes:
            remote.connection.close()
        for remote in self._remotes:
            remote.process.join(timeout=5)
            if remote.process.is_alive():
                remote.process.terminate()
                remote.process.join()
        self._remotes = []

    def train(self, params: Vector, cohort: Sequence[int], round_number: int) -> WeightedSum:
        """One round of local training of every client in `cohort`, from the same global model.

        Args:
            params: (P,) global parameters; training rounds them to float32.
            cohort: client numbers, in the order in which the sums are added.
            round_number: handed to `VirtualClients.entropy`.

        Raises:
            FederationError: a client could not be trained, or a worker ended; the pool is closed.
        ConfigError: the workers never started, as in a script without `if __name__ == "__main__":`.
        """
        total, weight = np.zeros(self._parameters), 0.0
        for _, vector, mass in self._results(params, cohort, round_number):
            total += vector
            weight += mass
        return WeightedSum(total, weight)

    def separate(self, params: Vector, cohort: Sequence[int], round_number: int) -> Iterator[Vector]:
        """The same round as each client's own clipped update, (P,) float64, in the order of `cohort`."""
        for clients, rows, _ in self._results(params, cohort, round_number):
            updates = rows[: len(clients) * self._parameters].reshape(len(clients), self._parameters)
            yield from updates.astype(np.float64)

    def _results(
        self, params: Vector, cohort: Sequence[int], round_number: int
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32], float]]:
        """Each chunk with what was trained, in order; the values are overwritten when the next is asked for."""
        if self._alone is not None:
            for chunk in _even_chunks(cohort, self._chunk, 1):
                yield chunk, *self._alone.train(params.astype(np.float32), chunk, round_number)
            return
        if not self._remotes:
            raise FederationError("an open pool", "one that was closed", "start a new pool")
        as_array(self._global)[:] = params
        try:
            yield from self._distributed(_even_chunks(cohort, self._chunk, len(self._remotes)), round_number)
        except BaseException:
            self.close()  # answers are still on their way, which the next round would take for its own
            raise

    def _distributed(
        self, chunks: Sequence[list[int]], round_number: int
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32], float]]:
        waiting: dict[int, tuple[npt.NDArray[np.float32], float]] = {}
        given = added = 0
        while added < len(chunks):
            for enough in (1, 2):
                # A second chunk waits in a worker's pipe, so that it need not wait for this process;
                # not at the end of a round, where another worker may be free sooner.
                for remote in self._remotes:
                    left = len(chunks) - given
                    if len(remote.running) < enough and left > (enough - 1) * len(self._remotes):
                        remote.give(given, chunks[given], round_number)
                        given += 1
            ready = wait([remote.connection for remote in self._remotes])
            for remote in self._remotes:
                if remote.connection in ready:
                    number, vector, mass = remote.answer()
                    waiting[number] = (vector if number == added else vector.copy(), mass)
                while added in waiting:
                    yield chunks[added], *waiting.pop(added)
                    added += 1


@dataclass
class _Remote:
    """The parent's end of one worker process: at most two chunks under way, each with its own sum."""

    process: mp.process.BaseProcess
    connection: Connection
    sums: list[npt.NDArray[np.float32]]
    running: list[tuple[int, int]] = field(default_factory=list)
    worked: bool = False

    def give(self, number: int, chunk: list[int], round_number: int) -> None:
        slot = 1 - self.running[0][1] if self.running else 0
        try:
            self.connection.send((chunk, round_number, slot))
        except OSError:
            raise self._lost() from None
        self.running.append((number, slot))

    def answer(self) -> tuple[int, npt.NDArray[np.float32], float]:
        """The oldest chunk's number, weighted sum (overwritten after two more chunks) and weight."""
        try:
            mass, trouble = self.connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if trouble is not None:
            raise FederationError(
                "every virtual client to train", trouble, "correct it and run the round again"
            )
        self.worked = True
        number, slot = self.running.pop(0)
        return number, self.sums[slot], float(mass)

    def _lost(self) -> FedimgError:
        self.process.join(timeout=5)
        if not self.worked and (self.process.exitcode or 0) > 0:  # not by a signal: it never got to serve
            return never_started()
        found = f"one that ended with exit code {self.process.exitcode}"
        return FederationError("every worker process to answer", found, "free memory or use fewer workers")


def _even_chunks(cohort: Sequence[int], largest: int, workers: int) -> list[list[int]]:
    """`cohort` in order, in chunks of equal size (to one client), as many for each worker."""
    rounds = -(-len(cohort) // (largest * workers))
    count = min(len(cohort), rounds * workers)
    bounds = [len(cohort) * k // count for k in range(count + 1)] if count else []
    return [list(cohort[start:end]) for start, end in pairwise(bounds)]
