"""Patients' gradients of an image and a table, by every engine and under the rehearsal's own dummies."""

import numpy as np
import pytest
import torch

from fedimg.models import ModelConfig, build_model
from fedimg.privacy.engines import PatientGradients, PatientLoss


@pytest.mark.parametrize("engine", ["bookkeeping", "vmap"])
def test_engines_agree_with_plain_autograd_patient_by_patient(engine):
    network = build_model(ModelConfig(name="cnn", width=4, features=2, image_size=(16, 16)), 0)
    rng = np.random.default_rng(0)
    start = network.initial + 0.1 * rng.standard_normal(network.number_of_parameters)
    flat = torch.from_numpy(start.astype(np.float32))
    images = torch.from_numpy(rng.standard_normal((3, 2, 5, 16, 16)).astype(np.float32))
    images[:, :, 1:] = torch.from_numpy(rng.uniform(0, 1, (3, 2, 4, 1, 1)).astype(np.float32))
    labels = torch.tensor([[0, 1], [1, 1], [0, 0]])
    rows = PatientGradients(network, PatientLoss(), engine, 0, timed=False).of(flat, images, labels)
    for patient in range(3):
        leaf = flat.clone().requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(network.apply(leaf, images[patient]), labels[patient])
        (expected,) = torch.autograd.grad(loss, leaf)
        torch.testing.assert_close(rows[patient].float(), expected, atol=1e-5, rtol=1e-3)
        assert expected[-2 * (32 + 4 + 16) - 2 :].abs().sum() > 0  # the new last layer learns
