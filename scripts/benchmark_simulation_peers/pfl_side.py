"""Apple's pfl-research 0.6 as its PyTorch tutorials run it: SimulatedBackend and FederatedAveraging.

Data are tensors in memory; no evaluation, no callbacks but the clock. Under torchrun the same file
is pfl's own way to use several processes.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from benchmark_simulation_peers.problem import (
    Cnn,
    Problem,
    RoundClock,
    finish,
    flat_weights,
    load_flat,
    main_arguments,
)
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch.nn import functional as F


class TutorialCnn(Cnn):
    """The model with the two methods that pfl asks for."""

    def loss(self, images: torch.Tensor, labels: torch.Tensor, eval: bool = False) -> torch.Tensor:  # noqa: A002
        self.train(not eval)
        return F.cross_entropy(self(images), labels)

    @torch.no_grad()
    def metrics(self, images: torch.Tensor, labels: torch.Tensor, eval: bool = True) -> dict[str, Any]:  # noqa: A002
        self.train(not eval)
        return {"loss": Weighted(F.cross_entropy(self(images), labels, reduction="sum").item(), len(labels))}


class Clock(TrainingProcessCallback):
    def __init__(self, problem: Problem) -> None:
        self.clock = RoundClock(problem)

    def after_central_iteration(self, *_: Any, **__: Any) -> tuple[bool, Metrics]:
        self.clock.mark()
        return False, Metrics()


def main() -> None:
    problem, side = main_arguments()
    images, labels = problem.shuffled()
    data = {
        str(client): (torch.from_numpy(images[client]), torch.from_numpy(labels[client]))
        for client in range(problem.clients)
    }
    cohort_order = iter([str(client) for cohort in problem.cohorts() for client in cohort])
    training_data = FederatedDataset.from_slices(data, lambda: next(cohort_order))
    module = TutorialCnn(problem.classes, problem.size)
    load_flat(module, problem.initial())
    model = PyTorchModel(
        model=module,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    clock = Clock(problem)
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=problem.total_rounds,
            evaluation_frequency=10**6,
            train_cohort_size=problem.cohort,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=training_data, val_data=training_data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=problem.learning_rate, local_batch_size=problem.batch_size
        ),
        model_eval_params=NNEvalHyperParams(local_batch_size=problem.images),
        callbacks=[clock],
    )
    if os.environ.get("RANK", "0") == "0":
        finish(problem, side, clock.clock, flat_weights(module))
    if torch.distributed.is_initialized():
        # Leave together and at once: gloo's threads now and then abort a normal exit.
        torch.distributed.barrier()
        os._exit(0)


if __name__ == "__main__":
    main()
