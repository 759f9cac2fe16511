"""Pretrained weights: read from a local file, checked, never unpickled."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import resnet18
from safetensors.torch import save_file

from fedimg.errors import ConfigError
from fedimg.models import ModelConfig, build_model

SMALL = ModelConfig(name="cnn", width=4, image_size=(12, 12))


@pytest.fixture
def weights():
    """Weights of the small network, none of them as initialised."""
    network = build_model(SMALL, 0)
    return network.state_dict(np.linspace(-1, 1, network.number_of_parameters))


def _loaded(path, config=SMALL):
    return build_model(dataclasses.replace(config, weights=str(path)), 0)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped.pt"])
def test_weights_come_back_as_saved(tmp_path, weights, kind):
    path = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights} if kind == "wrapped.pt" else weights, path)
    found = _loaded(path)
    assert np.array_equal(found.initial, found.layout.flatten(weights).double().numpy())
    assert found.digest == build_model(SMALL, 0).digest


def test_another_number_of_classes_trains_a_new_head(tmp_path, weights):
    save_file(weights, tmp_path / "w.safetensors")
    wanted = dataclasses.replace(SMALL, classes=3)
    found = _loaded(tmp_path / "w.safetensors", wanted)
    parts = found.state_dict(found.initial)
    assert torch.equal(parts["stages.0.weight"], weights["stages.0.weight"])
    assert float(parts["head.weight"].abs().max()) == float(parts["head.bias"].abs().max()) == 0


def test_batch_norm_weights_of_the_original_network_fit(tmp_path):
    torch.save(resnet18(spatial_dims=2, n_input_channels=1, num_classes=2).state_dict(), tmp_path / "w.pt")
    found = _loaded(tmp_path / "w.pt", ModelConfig(name="resnet18", image_size=(28, 28)))
    stored = torch.load(tmp_path / "w.pt", weights_only=True)
    assert torch.equal(
        found.state_dict(found.initial)["layer3.0.conv1.weight"], stored["layer3.0.conv1.weight"]
    )


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda w: w.pop("stages.1.bias"), "stages.1.bias missing"),
        (lambda w: w.update({"stages.1.bias": torch.zeros(5)}), r"stages.1.bias of shape \(5,\)"),
        (lambda w: w["stages.1.bias"].fill_(torch.nan), "stages.1.bias with values that are not finite"),
        (lambda w: w.update({"other": torch.zeros(1)}), "a value named 'other', which this network has not"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, weights, spoil, found):
    spoil(weights)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=found):
        _loaded(tmp_path / "w.safetensors")


class Bomb:
    def __reduce__(self):
        return (RuntimeError, ("unpickled",))


@pytest.mark.parametrize("content", [pickle.dumps(Bomb(), protocol=2), b"", b"not weights", None])
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_is_no_file_of_weights_is_refused_without_running_it(tmp_path, content, suffix):
    path = tmp_path / f"secret-name.{suffix}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"expected model.weights to name a file") as refusal:
        _loaded(path)
    assert "secret-name" not in str(refusal.value)


def test_a_saved_object_that_is_no_state_dict_is_refused(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="a file that holds no state dict"):
        _loaded(tmp_path / "w.pt")
