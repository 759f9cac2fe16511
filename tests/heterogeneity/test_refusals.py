"""What does not stand together is refused by name and with its reason: by the coordinator, and by the site again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedimg.config import agreed, compose, settled
from fedimg.coordination.terms import terms_of
from fedimg.errors import ConfigError, MessageError
from fedimg.models import ModelConfig, build_model
from fedimg.training import AlgorithmConfig, LocalTraining, head_of, kept_parameters

DISTRIBUTED = "privacy=distributed, where no site knows its own noised gradient"


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (("training=scaffold", "privacy=distributed", "training.local_steps=1"), DISTRIBUTED),
        (("training=feddyn", "privacy=distributed", "training.local_steps=1"), DISTRIBUTED),
        (("training=fedbn", "privacy=distributed", "training.local_steps=1"), DISTRIBUTED),
        (("training=local_head", "privacy=distributed", "training.local_steps=1"), DISTRIBUTED),
        (("training=scaffold", "privacy=client_level"), "privacy=client_level"),
        (("training=ditto", "privacy=client_level"), "privacy=client_level"),
        (("training=scaffold", "training.momentum=0.9"), r"training\.momentum=0\.9"),
        (("training=feddyn", "training.gradient_norm=1"), r"training\.gradient_norm=1"),
        (("training=feddyn", "training.proximal_mu=0.1"), r"training\.proximal_mu=0\.1"),
        (("training=scaffold", "aggregation=fedavgm"), r"aggregation\.name=fedavgm"),
        (("training=feddyn", "aggregation.learning_rate=0.5"), r"aggregation\.learning_rate=0\.5"),
        (("training=scaffold", "aggregation.robust=median", "secagg=none"), r"aggregation\.robust=median"),
        (("training=fedbn", "engine.fused=true", "privacy=none"), r"engine\.fused=true"),
        (("training=fine_tuned_head", "evaluation.site_evaluations=0"), r"evaluation\.site_evaluations=0"),
        (("experiment=ridge", "training.algorithm.name=ditto"), "which follows from sums of statistics"),
        (
            ("training=fedbn", "model.centring_rounds=4", "model=scattering", "training.local_steps=1"),
            r"model\.centring_rounds=4",
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_does_not_stand(overrides, found):
    with pytest.raises(ConfigError, match=found):
        compose(list(overrides) if "experiment=ridge" in overrides else ["model=cnn", *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ("training=scaffold",),
        ("training=feddyn", "privacy=none"),
        ("training=fedbn", "aggregation=fedadam"),
        ("training=ditto", "privacy=distributed", "training.local_steps=1"),
        ("training=fine_tuned_head", "privacy=distributed", "training.local_steps=1"),
        ("training=ditto", "aggregation.robust=median", "secagg=none"),
    ],
)
def test_one_that_does(overrides):
    config = settled(compose(["model=cnn", *overrides]), 4)
    terms = terms_of(config, "run")
    assert agreed.read(agreed.plain(terms)) == terms


@pytest.mark.parametrize("name", ["scaffold", "fedbn"])
def test_a_site_judges_terms_itself(name):
    """A coordinator with another program could send them."""
    terms = terms_of(compose(["model=cnn", f"training={name}", "secagg=none"]), "run")
    shared = compose(["model=cnn", "privacy=distributed", "training.local_steps=1"]).privacy
    with pytest.raises(ConfigError, match=DISTRIBUTED):
        replace(terms, privacy=shared)
    values = agreed.plain(terms)
    values["training"]["momentum"], values["privacy"]["mode"] = 0.5, "client_level"
    with pytest.raises(MessageError, match="the terms of a run"):
        agreed.read(values)


@pytest.mark.parametrize(
    ("values", "key"),
    [({"alpha": 0.0}, "alpha"), ({"pull": -1.0}, "pull"), ({"personal_epochs": 0}, "personal_epochs"),
     ({"personal_learning_rate": 0.0}, "personal_learning_rate")],
)  # fmt: skip
def test_numbers_are_judged(values, key):
    with pytest.raises(ConfigError, match=rf"training\.algorithm\.{key} to be"):
        AlgorithmConfig(**values)
    assert LocalTraining().algorithm == AlgorithmConfig("none")


@pytest.mark.parametrize("name", ["fedbn", "local_head"])
def test_a_network_without_such_parameters_is_refused(name):
    scattering = build_model(ModelConfig(image_size=(16, 16)), 0)
    with pytest.raises(ConfigError, match=f"training.algorithm.name={name}"):
        kept_parameters(scattering, AlgorithmConfig(name))
    assert kept_parameters(scattering, AlgorithmConfig("ditto")) is None


@pytest.mark.parametrize("model", ["cnn", "resnet18", "densenet121", "efficientnet_b0"])
def test_which_parameters_stay(model):
    network = build_model(ModelConfig(name=model, width=4, image_size=(32, 32), classes=3), 0)
    sizes = dict(zip(network.layout.names, network.layout.sizes, strict=True))
    shapes = dict(zip(network.layout.names, network.layout.shapes, strict=True))
    offsets = dict(zip(network.layout.names, network.layout.offsets, strict=False))
    mask, head = network.normalisation, head_of(network)
    inside = {name for name in sizes if mask[offsets[name]]}
    assert all(mask[offsets[n] : offsets[n] + sizes[n]].all() == (n in inside) for n in sizes)
    # by shape: only normalising layers have a weight that is a vector, one value a channel
    scales = {
        name.removesuffix("weight") for name in sizes if name.endswith("weight") and len(shapes[name]) == 1
    }
    assert inside == {name for name in sizes if name.rpartition(".")[0] + "." in scales}
    assert inside
    last = [name for name in sizes if head[offsets[name]]]
    assert [shapes[name][0] for name in last] == [3, 3]
    assert not (mask & head).any()
