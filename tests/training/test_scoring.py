"""One patient whose images make a library fail has no scores; everybody else has theirs."""

from __future__ import annotations

import numpy as np
import torch

from fedimg.evaluation import score_histograms
from fedimg.models import ModelConfig, build_model
from fedimg.training import scores
from fedimg.values import SiteDataset


class Fragile:
    def __init__(self, network):
        self._network = network

    def outputs(self, vector, images, device):
        if len(images) and float(images.max()) > 50:
            raise RuntimeError("bad image")
        return self._network.outputs(vector, images, device)


def dataset():
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    return SiteDataset(images, torch.tensor([0, 1, 1, 0, 1, 0]), ("a", "b", "c"), np.array([0, 2, 4, 6]))


def test_a_patient_who_makes_a_library_fail_is_left_out_and_the_release_goes_on():
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(16, 16)), seed=0)
    whole, data, told = dataset(), dataset(), []
    data.images[2] = 99.0
    found = scores(Fragile(network), network.initial, data, torch.device("cpu"), told.append)
    expected = network.probabilities(network.initial, whole.images, "cpu")
    np.testing.assert_allclose(found[[0, 1, 4, 5]], expected[[0, 1, 4, 5]], rtol=1e-6)
    assert np.isnan(found[2:4]).all()
    assert {str(fault) for fault in told} == {"bad image"}
    histograms = score_histograms(found, data.labels.numpy(), data.first_image, 8)
    assert histograms.sum(axis=1).tolist() == [1.0, 0.0, 1.0]


def test_nobody_who_fails_costs_nothing():
    network = build_model(ModelConfig(name="cnn", width=4, image_size=(16, 16)), seed=0)
    told = []
    found = scores(network, network.initial, dataset(), torch.device("cpu"), told.append)
    assert np.array_equal(found, network.probabilities(network.initial, dataset().images, "cpu"))
    assert told == []
