"""What of the parameters a round trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedimg.models import ModelConfig, build_model
from fedimg.privacy.noise import InsecureSeededEntropy
from fedimg.privacy.patient_loss import PatientLoss, cross_entropy
from fedimg.training import LocalTraining, part_of_round, train_open_part
from fedimg.values import SiteDataset

CENTRED = ModelConfig(name="scattering", image_size=(16, 16), centring_rounds=4)


def made(config=CENTRED):
    network = build_model(config, 0)
    flat = torch.linspace(-0.1, 0.1, network.number_of_parameters)
    return network, flat


def patients(network, number=7):
    images = torch.randn(number, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    labels = torch.arange(number) % 2
    names = tuple(f"p{n}" for n in range(number))
    return SiteDataset(network.features(images), labels, names, np.arange(number + 1))


def test_without_a_centre_every_round_trains_everything():
    network, flat = made(ModelConfig(name="scattering", image_size=(16, 16)))
    part = part_of_round(network, 1, flat, LocalTraining(learning_rate=0.3), 1.0)
    assert part.network is network
    assert torch.equal(part.start, flat)
    assert part.config.learning_rate == 0.3


@pytest.mark.parametrize("number", [1, 4, 5])
def test_a_round_moves_its_own_part_and_no_other(number):
    network, flat = made()
    part = part_of_round(network, number, flat, LocalTraining(learning_rate=0.3, momentum=0.5), 1.0)
    after = train_open_part(part, patients(network), InsecureSeededEntropy(0, "open"), cross_entropy)
    update = part.among((after - part.start).double().numpy(), len(flat))
    features = network.layout.sizes[-1]
    moved = np.flatnonzero(update)
    assert len(moved) > 0
    assert ((moved >= len(flat) - features) == (number <= 4)).all()
    assert torch.allclose(after - flat[part.where], torch.from_numpy(update[part.where]).float(), atol=1e-6)


def test_without_privacy_the_centre_is_the_mean_after_either_half_of_the_centring_rounds():
    network, flat = made()
    dataset, waiting = patients(network), torch.zeros(len(flat))
    for number in range(1, 5):
        part = part_of_round(network, number, flat, LocalTraining(class_weights=(1.0, 9.0)), 0.1)
        after = train_open_part(part, dataset, InsecureSeededEntropy(0, "open"), cross_entropy)
        waiting[part.where] += after - part.start
        if number in (2, 4):
            flat, waiting = flat + waiting, torch.zeros(len(flat))
            assert torch.allclose(flat[part.where], dataset.images.mean(dim=0), atol=1e-4)


def test_the_head_behind_the_centre_is_the_whole_network():
    network, flat = made()
    features = patients(network).images
    part = part_of_round(network, 5, flat, LocalTraining(), 1.0)
    assert torch.allclose(part.network.apply(part.start, features), network.apply(flat, features), atol=1e-5)


def test_a_centring_round_has_its_own_loss_and_others_have_what_was_asked_for():
    network, flat = made()
    asked = PatientLoss((1.0, 2.0))
    centring, usual = (part_of_round(network, n, flat, LocalTraining(), 1.0) for n in (4, 5))
    assert usual.patient_loss(asked) is asked
    assert usual.loss(cross_entropy) is cross_entropy
    assert centring.patient_loss(asked).class_weights is None
    assert float(centring.loss(cross_entropy)(torch.full((1, 3), 2.0), torch.zeros(1))) == 6.0
