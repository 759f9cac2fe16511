"""The pool of workers: the loop's sum, on any number of processes, and what happens when one fails."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import FederationError
from fedimg.fusion import ClientPool, Separately, _even_chunks
from fedimg.training import minibatches, train_open

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """The benchmark's virtual clients, small: picklable, and importable in a worker."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        from benchmark_simulation_peers import fedimg_side, problem
    finally:
        sys.path.remove(str(SCRIPTS))
    sized = problem.Problem(
        str(tmp_path_factory.mktemp("problem")), clients=9, images=7, size=12, batch_size=3
    )
    return fedimg_side, problem, sized


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))


@pytest.fixture(scope="module")
def start(benchmark):
    _, problem, sized = benchmark
    torch.manual_seed(5)
    return problem.flat_weights(problem.Cnn(sized.classes, sized.size)).astype(np.float64)


def summed_by_the_loop(clients, start, cohort):
    """Σ w·(local − global) with one ordinary training a client."""
    network, params = clients.network(), torch.from_numpy(start).float()
    total = np.zeros(len(start))
    for client in cohort:
        local = train_open(
            network, params, clients.dataset(client), clients.training, clients.entropy(client, 0)
        )
        total += clients.weight(client) * (local - params).double().numpy()
    return total


def test_any_number_of_workers_gives_the_loops_sum_and_each_time_the_same_bits(benchmark, start):
    side, _, sized = benchmark
    clients, cohort = side.Clients(sized, generated=True, chunk=1), [3, 0, 8, 5, 1, 2, 7]
    sums = {}
    for workers in (1, 3):
        with ClientPool(clients, len(start), workers) as pool:
            sums[workers] = [pool.train(start, cohort, number) for number in (0, 1)]
    expected = summed_by_the_loop(clients, start, cohort)
    for first, second in sums.values():
        assert first.weight == 7.0 * len(cohort)
        assert np.abs(first.vector / first.weight - expected / first.weight).max() < 1e-6
        assert np.abs(expected / first.weight).max() > 1e-3
        assert np.array_equal(first.vector, second.vector)
    assert not active_children()


@given(st.lists(st.integers(), max_size=60), st.integers(1, 9), st.integers(1, 5))
def test_chunks_are_even_in_order_and_as_many_for_each_worker(cohort, largest, workers):
    chunks = _even_chunks(cohort, largest, workers)
    assert [client for chunk in chunks for client in chunk] == cohort
    sizes = {len(chunk) for chunk in chunks}
    assert all(1 <= size <= largest for size in sizes)
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert len(chunks) == len(cohort) or len(chunks) % workers == 0


def test_an_empty_cohort_is_an_empty_sum(benchmark, start):
    side, _, sized = benchmark
    with ClientPool(side.Clients(sized, generated=True), len(start), workers=1) as pool:
        total = pool.train(start, [], 0)
    assert total.weight == 0.0
    assert not total.vector.any()


def test_a_client_that_cannot_be_read_ends_the_round_without_its_path(benchmark, start):
    side, _, sized = benchmark
    with (
        ClientPool(side.Clients(sized), len(start), workers=2) as pool,
        pytest.raises(FederationError) as refused,
    ):
        pool.train(start, [0, 1, 2], 0)
    assert str(refused.value) == (
        "expected every virtual client to train; found an error of type FileNotFoundError; "
        "correct it and run the round again"
    )


def test_a_killed_worker_is_noticed(benchmark, start):
    side, _, sized = benchmark
    with ClientPool(side.Clients(sized, generated=True), len(start), workers=2) as pool:
        pool.train(start, [0, 1], 0)
        for process in active_children():
            os.kill(process.pid, signal.SIGKILL)
            process.join()
        with pytest.raises(
            FederationError, match=r"found one that ended with exit code -9; free memory or use"
        ):
            pool.train(start, [0, 1], 1)
        with pytest.raises(
            FederationError, match="expected an open pool; found one that was closed; start a new"
        ):
            pool.train(start, [0, 1], 2)


def test_fused_clients_end_at_the_weights_of_torch_optim(benchmark, start):
    """The benchmark's own assertion in small: FedAvg of two rounds, against modules and torch.optim."""
    side, problem, sized = benchmark
    clients, cohort = side.Clients(sized, generated=True), [2, 7, 4]
    ours = start.copy()
    with ClientPool(clients, len(start), workers=1) as pool:
        for number in range(2):
            total, weight = pool.train(ours, cohort, number)
            ours = ours + total / weight
    theirs = start.astype(np.float32)
    for number in range(2):
        trained = []
        for client in cohort:
            module, data = (
                problem.load_flat(problem.Cnn(sized.classes, sized.size), theirs),
                clients.dataset(client),
            )
            optimizer = torch.optim.SGD(module.parameters(), lr=sized.learning_rate)
            for indices in minibatches(data, clients.training, clients.entropy(client, number)):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(
                    module(data.images[indices]), data.labels[indices]
                ).backward()
                optimizer.step()
            trained.append(problem.flat_weights(module))
        theirs = np.mean(trained, axis=0, dtype=np.float64).astype(np.float32)
    assert np.abs(ours - theirs).max() < 1e-6
    assert np.abs(ours - start).max() > 1e-3


def test_separate_updates_are_each_clients_own_clipped_and_a_failing_one_is_zero(benchmark, start):
    side, _, sized = benchmark

    class Clients(side.Clients):
        def dataset(self, client):
            if client == 5:
                raise OSError
            return super().dataset(client)

    told = []
    clients, cohort, most = Clients(sized, generated=True, chunk=3), [3, 0, 5, 1, 2], 0.05
    apart = Separately(most, lambda client, fault: told.append((client, type(fault).__name__)))
    with ClientPool(clients, len(start), workers=1, apart=apart) as pool:
        rows = list(pool.separate(start, cohort, 0))
    assert told == [(5, "OSError")]
    assert not rows[2].any()
    for client, row in zip(cohort, rows, strict=True):
        if client != 5:
            alone = summed_by_the_loop(clients, start, [client]) / clients.weight(client)
            norm = float(np.linalg.norm(alone))
            assert norm > most
            assert np.linalg.norm(row - alone * most / norm) < 1e-5 * most
            assert np.linalg.norm(row) <= most * (1 + 1e-6)


def ignored(_client, _fault):
    """A worker's own note of a failing client: nobody reads it here."""


def test_separate_updates_are_the_same_from_several_workers(benchmark, start):
    side, _, sized = benchmark
    clients, cohort = side.Clients(sized, generated=True, chunk=2), [3, 0, 8, 5, 1]
    rows = {}
    for workers in (1, 2):
        with ClientPool(clients, len(start), workers, apart=Separately(0.05, ignored)) as pool:
            rows[workers] = [list(pool.separate(start, cohort, number)) for number in (0, 1)]
            assert list(pool.separate(start, [], 2)) == []
    assert np.abs(np.array(rows[1]) - np.array(rows[2])).max() < 1e-7
    assert np.linalg.norm(rows[1][0][0]) > 0.049
