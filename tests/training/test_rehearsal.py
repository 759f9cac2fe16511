"""What no patient could go through is refused on dummies, in the words of whatever failed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fedimg.errors import ConfigError
from fedimg.evaluation import measure_of
from fedimg.imaging.config import AugmentationConfig
from fedimg.models import ModelConfig, build_model
from fedimg.models.config import OF_VOXELS
from fedimg.models.losses import (
    binary_cross_entropy,
    centre_heat_map,
    dice_cross_entropy,
    squared_error,
)
from fedimg.privacy.engines import cross_entropy
from fedimg.privacy.request import PrivacyRequest
from fedimg.training import LocalTraining
from fedimg.training.rehearsal import Rehearsal
from fedimg.training.variation import patient_loss

SIZE = (32, 32)


def rehearsal(*, loss=cross_entropy, augmentation=None, privacy=None, **training):
    config = LocalTraining(**training)
    varied = augmentation or AugmentationConfig()
    return Rehearsal(
        build_model(ModelConfig(name="cnn", width=4, image_size=SIZE), seed=0),
        2,
        patient_loss(config, varied, loss),
        privacy or PrivacyRequest(engine="vmap"),
        config,
        varied,
        measure=measure_of("classification", 2, 8),
        device=torch.device("cpu"),
        timed=False,
    )


@pytest.mark.parametrize("mode", ["per_site", "none"])
@pytest.mark.parametrize("engine", ["auto", "vmap", "autograd"])
def test_what_works_is_let_through(mode, engine):
    augmentation = AugmentationConfig(copies=2, rotation_degrees=5.0, noise_std=0.1)
    rehearsal(augmentation=augmentation, privacy=PrivacyRequest(mode=mode, engine=engine)).run()


class OneByOne:
    """A network that asks for a value: autograd can, vmap cannot."""

    def __init__(self, network):
        self._network = network

    def __getattr__(self, name):
        return getattr(self._network, name)

    def apply(self, flat, images):
        logits = self._network.apply(flat, images)
        return logits * 2 if float(logits.detach().sum()) > 0 else logits * 3


def test_a_network_without_a_rule_for_vmap_is_refused_before_a_site_joins():
    asked = rehearsal()
    asked = replace(asked, network=OneByOne(asked.network))
    with pytest.raises(
        ConfigError, match=r"training that a dummy patient can go through.*RuntimeError.*vmap"
    ):
        asked.run()
    replace(asked, privacy=PrivacyRequest(engine="autograd")).run()
    replace(asked, privacy=PrivacyRequest(mode="none")).run()


def broken(*_):
    raise IndexError("a list of shapes\nand a second line")


@pytest.mark.parametrize("mode", ["per_site", "none"])
def test_a_loss_that_fails_is_refused_in_its_own_words(mode):
    asked = rehearsal(privacy=PrivacyRequest(mode=mode, engine="vmap"))
    asked = replace(asked, loss=replace(asked.loss, example_loss=broken))
    with pytest.raises(ConfigError) as refused:
        asked.run()
    assert refused.value.found == "IndexError: a list of shapes"
    assert "privacy.engine=auto" in refused.value.remedy


def test_an_augmentation_that_fails_is_refused():
    asked = rehearsal()
    with pytest.raises(ConfigError, match="IndexError"):
        replace(asked, loss=replace(asked.loss, augment=broken)).run()


def test_an_evaluation_that_fails_is_refused():
    asked = rehearsal()

    class Silent(OneByOne):
        apply = property(lambda self: self._network.apply)

        def outputs(self, *_):
            raise MemoryError

    with pytest.raises(ConfigError, match="evaluation that a dummy patient can go through"):
        replace(asked, network=Silent(asked.network)).run()


def test_class_weights_of_another_length_are_refused_in_both_modes():
    for mode in ("per_site", "none"):
        with pytest.raises(ConfigError, match="2 class weights; found 3"):
            rehearsal(class_weights=(1.0, 1.0, 1.0), privacy=PrivacyRequest(mode=mode, engine="vmap")).run()


def test_augmentation_behind_frozen_features_is_refused():
    asked = rehearsal(augmentation=AugmentationConfig(copies=2))
    scattering = build_model(ModelConfig(name="scattering", image_size=SIZE), seed=0)
    with pytest.raises(
        ConfigError,
        match="whose features are computed once, ahead of training; found augmentation with model=scattering",
    ):
        replace(asked, network=scattering).run()


@pytest.mark.parametrize("mode", ["per_site", "none"])
@pytest.mark.parametrize(
    ("task", "loss"),
    [("segmentation", cross_entropy), ("detection", centre_heat_map), ("regression", squared_error),
     ("multilabel", binary_cross_entropy)],
)  # fmt: skip
def test_dummies_have_the_labels_that_the_network_asks_for(task, loss, mode):
    name = "segresnet" if task in OF_VOXELS else "cnn"
    network = build_model(ModelConfig(name=name, width=8, image_size=(16, 16), task=task), 0)
    plain = rehearsal(privacy=PrivacyRequest(mode=mode, engine="vmap"))
    own = replace(plain.loss, example_loss=loss)
    asked = replace(plain, network=network, loss=own, measure=measure_of(task, 2, 8))
    asked.run()
    with pytest.raises(ConfigError, match="training that a dummy patient can go through"):
        replace(asked, loss=replace(asked.loss, example_loss=broken)).run()


@pytest.mark.parametrize("mode", ["per_site", "none"])
@pytest.mark.parametrize("engine", ["vmap", "autograd", "bookkeeping"])
@pytest.mark.parametrize(
    ("task", "loss", "weights"),
    [("segmentation", dice_cross_entropy, (1.0, 4.0)), ("multilabel", binary_cross_entropy, (2.0, 9.0)),
     ("detection", centre_heat_map, None)],
)  # fmt: skip
def test_labels_of_voxels_and_findings_go_through_with_copies_and_weights(task, loss, weights, engine, mode):
    name = "segresnet" if task in OF_VOXELS else "cnn"
    network = build_model(ModelConfig(name=name, width=8, image_size=(16, 16), task=task), 0)
    varied = AugmentationConfig(copies=2, rotation_degrees=10.0, shift_fraction=0.1, flip=True, noise_std=0.1)
    config = LocalTraining(loss=loss.__name__, class_weights=weights)
    plain = rehearsal(augmentation=varied, privacy=PrivacyRequest(mode=mode, engine=engine))
    own = patient_loss(config, varied, loss)
    asked = replace(plain, network=network, loss=own, training=config, measure=measure_of(task, 2, 8))
    asked.run()
    if weights is not None:
        longer = replace(config, class_weights=(*weights, 1.0))
        with pytest.raises(ConfigError, match="2 class weights; found 3"):
            replace(asked, training=longer, loss=patient_loss(longer, varied, loss)).run()
