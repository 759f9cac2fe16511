"""Numbers of a table reach the last layer beside the image's features, and by no other way."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedimg.errors import ConfigError, ModelError
from fedimg.models import ModelConfig, build_model
from fedimg.models.architecture import Architecture
from fedimg.models.late_fusion import LateFusion, fused, joined, split

WHOLE = ("cnn", "resnet18", "densenet121", "efficientnet_b0", "segresnet")
FROZEN = ("scattering", "ridge", "logistic", "extra_trees")


def config(name, **changes):
    size = changes.pop("image_size", (32, 32))
    return ModelConfig(name=name, features=2, image_size=size, width=8, **changes)


def example(table, seed=0, channels=1, size=(32, 32)):
    """One image with (value, presence) of two features behind it."""
    image = torch.randn((1, channels, *size), generator=torch.Generator().manual_seed(seed))
    planes = torch.tensor(table, dtype=torch.float32).reshape(1, 4, 1, 1).expand(1, 4, *size)
    return torch.cat([image, planes], dim=1)


def logits(network, images, vector=None):
    flat = torch.from_numpy((network.initial if vector is None else vector).astype(np.float32))
    return network.apply(flat, network.features(images))


def random_vector(network, seed=0):
    return network.initial + 0.1 * np.random.default_rng(seed).standard_normal(network.number_of_parameters)


@pytest.mark.parametrize("name", [*WHOLE, *FROZEN[:2]])
def test_every_network_of_images_takes_a_table_and_uses_it(name):
    network = build_model(config(name), seed=1)
    assert network.image_shape == (5, 32, 32)
    vector = random_vector(network)
    high, low, none = (example(t) for t in ([0.9, 1, 0.5, 1], [0.1, 1, 0.5, 1], [0, 0, 0, 0]))
    found = [logits(network, one, vector) for one in (high, low, none)]
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])
    assert not torch.allclose(found[0], logits(network, example([0.9, 1, 0.5, 1], seed=3), vector))


def test_a_missing_number_says_nothing_whatever_stands_in_its_plane():
    network = build_model(config("cnn"), seed=1)
    vector = random_vector(network)
    a, b = (logits(network, example([value, 0, 0.5, 1]), vector) for value in (0.0, 0.7))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", WHOLE)
def test_the_image_goes_its_own_way_as_without_a_table(name):
    """With the new layer's weights of the table at zero it is the old network, weight for weight."""
    plain = build_model(replace(config(name), features=0), seed=1)
    both = build_model(config(name), seed=1)
    images = example([0.9, 1, 0.5, 1])
    torch.testing.assert_close(logits(both, images), logits(plain, images[:, :1]), atol=1e-5, rtol=1e-4)
    assert 0 < both.number_of_parameters - plain.number_of_parameters <= 4 * 16 + 16 + 2 * (4 + 16)


def test_frozen_features_are_the_images_own_with_the_table_behind():
    plain, both = (
        build_model(replace(config("scattering"), features=0), 0),
        build_model(config("scattering"), 0),
    )
    images = example([0.75, 1, 0, 0])
    found, image = both.features(images)[0], plain.features(images[:, :1])[0]
    torch.testing.assert_close(found[: len(image)], image)
    scale = (len(image) / 4) ** 0.5
    torch.testing.assert_close(found[len(image) :], scale * torch.tensor([0.5, 0, 1, 0]))
    # the table cannot outweigh the image: √4 numbers of at most 1, times the scale
    assert scale * 4**0.5 <= len(image) ** 0.5 * (1 + 1e-6)
    assert both.linear and both.feature_shape == (len(image) + 4,)


@pytest.mark.parametrize("name", FROZEN)
def test_classical_models_have_the_table_among_their_features(name):
    made = build_model(config(name), 0)
    first, second = (made.features(example(t)) for t in ([0.1, 1, 0, 0], [0.9, 1, 0, 0]))
    moved = (first != second).flatten()
    assert moved.sum() == 1 and moved[-4]
    shape = made.features(torch.zeros(0, 5, 32, 32)).shape
    assert shape == (0, *made.feature_shape)


def test_each_image_is_read_alone_under_vmap():
    network = build_model(config("cnn"), seed=0)
    flat = torch.from_numpy(random_vector(network).astype(np.float32))
    images = torch.cat([example([v, 1, 0.2, 1], seed=k) for k, v in enumerate((0.1, 0.5, 0.9))])

    def loss(parameters, image):
        return network.apply(parameters, image[None])[0, 1]

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(flat, images)
    for k in range(3):
        torch.testing.assert_close(rows[k], torch.func.grad(loss)(flat, images[k]), atol=1e-5, rtol=1e-4)


def test_weights_of_a_network_of_images_load_below_the_table(tmp_path):
    path = tmp_path / "w.pt"
    plain = build_model(replace(config("cnn"), features=0), seed=5)
    torch.save(plain.state_dict(random_vector(plain)), path)
    both = build_model(replace(config("cnn"), weights=str(path)), seed=1)
    loaded = torch.load(path, weights_only=True)
    found = both.state_dict(both.initial)
    torch.testing.assert_close(found["image.stages.0.weight"], loaded["stages.0.weight"])
    torch.save({**loaded, "strange": torch.zeros(1)}, path)
    with pytest.raises(ConfigError, match="strange"):
        build_model(replace(config("cnn"), weights=str(path)), seed=1)


def test_a_network_with_a_table_takes_its_own_weights(tmp_path):
    """What a run released is what the next one begins with, the table's part included."""
    path = tmp_path / "w.pt"
    whole = build_model(config("cnn"), seed=5)
    torch.save(whole.state_dict(random_vector(whole)), path)
    again = build_model(replace(config("cnn"), weights=str(path)), seed=1)
    found, saved = again.state_dict(again.initial), torch.load(path, weights_only=True)
    assert found.keys() == saved.keys()
    for name in found:
        torch.testing.assert_close(found[name], saved[name])


def test_networks_that_cannot_are_refused_with_what_to_do():
    with pytest.raises(ConfigError, match="a table says nothing of single voxels"):
        ModelConfig(name="unet", task="segmentation", features=1)
    with pytest.raises(ModelError, match="ends with a linear layer"):
        fused(Architecture(torch.nn.Flatten()), config("cnn"))
    flat, last = torch.nn.Flatten(), torch.nn.Linear(1024, 2)
    assert isinstance(fused(Architecture(torch.nn.Sequential(flat, last)), config("cnn")).module, LateFusion)
    for behind in (torch.nn.Softmax(dim=1), torch.nn.Unflatten(1, (2, 1))):
        network = torch.nn.Sequential(flat, torch.nn.Linear(1024, 2), behind)
        with pytest.raises(ModelError, match="ends with a linear layer"):
            fused(Architecture(network), config("cnn"))
    with pytest.raises(ConfigError, match=r"model\.features between 0 and 64"):
        ModelConfig(features=65)


def test_without_features_nothing_is_split_or_joined():
    images = torch.randn(2, 3, 4, 4)
    image, numbers = split(images, 0)
    assert image is images and numbers.shape == (2, 0)
    frozen = images.flatten
    assert joined(frozen, 7, ModelConfig()) == (frozen, 7)
    assert replace(ModelConfig(), features=2).image_shape == (5, 64, 64)
