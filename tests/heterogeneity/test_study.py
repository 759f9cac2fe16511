"""The study of heterogeneity, small and with a fixed seed: every algorithm, and the same numbers each time."""

from dataclasses import replace

import pytest
import torch

from fedimg.models import build_model
from tests.heterogeneity.conftest import patients_of

SMALL = (
    "sites=3", "rounds=3", "insecure_test_mode=true", "imaging.image_size=[16,16]", "model.width=4",
    "training.batch_size=8", "data.alpha=0.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def study():
    import study_heterogeneity

    return study_heterogeneity


def discs(patients, seed):
    """Class 1 has a bright square, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(patients) % 2
    images = 0.3 * torch.randn(patients, 1, 16, 16, generator=generator)
    for number in torch.nonzero(labels).flatten().tolist():
        row, column = torch.randint(0, 10, (2,), generator=generator).tolist()
        images[number, 0, row : row + 6, column : column + 6] += 2.0
    return patients_of(images, labels)


@pytest.fixture(scope="module")
def splits(study):
    config = study.configured("FedAvg", 0.1, 0, SMALL)
    network = build_model(config.model, 0)
    return study.Splits(network, discs(120, 0), discs(40, 1), discs(40, 2))


@pytest.mark.parametrize(
    "method", ["FedAvg", "FedProx", "SCAFFOLD", "FedDyn", "FedBN", "local head", "Ditto", "fine-tuned head"]
)
def test_every_algorithm_learns_and_repeats_itself(study, splits, method):
    config = study.configured(method, 0.1, 0, SMALL)
    first, second = (replace(study.one_run(config, splits), seconds=0.0) for _ in range(2))
    assert first == second
    if method in ("FedBN", "local head"):
        assert first.auroc is None
        assert first.own_personal > 0.7
    else:
        assert first.auroc > 0.9
    assert (first.own_personal is None) == (method in ("FedAvg", "FedProx", "SCAFFOLD", "FedDyn"))


def test_ditto_and_fine_tuned_heads_leave_the_global_model_as_it_is(study, splits):
    plain, *beside = (
        study.one_run(study.configured(method, 0.1, 0, SMALL), splits)
        for method in ("FedAvg", "Ditto", "fine-tuned head")
    )
    assert [(one.auroc, one.accuracy, one.own_global) for one in beside] == [
        (plain.auroc, plain.accuracy, plain.own_global)
    ] * 2


def test_the_best_rate_is_told_with_every_seed(study, splits):
    found = study.studied("FedAvg", splits, (1e-6, 0.1), 2, SMALL)
    assert [(one.seed, one.learning_rate) for one in found] == [(0, 0.1), (1, 0.1)]
    assert study.row("FedAvg", found).count("±") == 3
    assert set(study.METHODS) >= {"SCAFFOLD", "FedDyn", "FedBN", "Ditto", "local head"}
