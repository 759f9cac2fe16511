"""From a configuration to a network that may be trained with patient-level privacy."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import asdict, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from fedimg.errors import ConfigError, ModelError
from fedimg.models import dp_ready
from fedimg.models.architecture import Architecture, Factory
from fedimg.models.centring import CentredLinear
from fedimg.models.classical_config import CLASSICAL
from fedimg.models.config import ModelConfig
from fedimg.models.extensions import find
from fedimg.models.heads import VoxelsAndImages, heads_of
from fedimg.models.late_fusion import check_frozen, fused
from fedimg.models.network import Layout, Network, architecture_digest
from fedimg.models.weights import load_weights

GROUP = "fedimg.models"

# Modules by name, so that no configuration loads a library it does not use.
BUILTIN = MappingProxyType(
    {
        **dict.fromkeys(sorted(CLASSICAL), "fedimg.models.classical_networks"),
        "basic_unet": "fedimg.models.monai_networks",
        "cnn": "fedimg.models.cnn",
        "scattering": "fedimg.models.scattering_classifier",
        "densenet121": "fedimg.models.monai_networks",
        "filter_bank": "fedimg.models.filter_bank",
        "efficientnet_b0": "fedimg.models.monai_networks",
        "resnet18": "fedimg.models.monai_networks",
        "segresnet": "fedimg.models.monai_networks",
        "unet": "fedimg.models.monai_networks",
    }
)
SEGMENT = frozenset({"basic_unet", "filter_bank", "segresnet", "unet"})
"""Built-in networks that label every voxel; all others, and `segresnet` too, label images."""
NO_CLASSIFIER = SEGMENT - {"segresnet"}


def extension_digests(config: ModelConfig) -> dict[str, str]:
    """Name → digest of the extension that `config` would run, for a site's policy; {} if built in.

    Nothing is imported. Raises ConfigError for a name that is neither, or a built-in network of another task.
    """
    if config.name in BUILTIN:
        _check_task(config)
        return {}
    return {config.name: find(GROUP, config.name, tuple(BUILTIN)).digest}


def build_model(config: ModelConfig, seed: int, allowed_extensions: Collection[str] = ()) -> Network:
    """The network that `config` names, made fit for privacy and checked.

    The same configuration, seed and library versions give the same initial parameters. Torch's
    global generator is left as it was.

    Args:
        seed: of the initial parameters only.
        allowed_extensions: digests of extensions that may run here; built-in networks need none.

    Raises:
        ConfigError: an unknown name (with the nearest), or a configuration the network cannot take.
        PolicyRefused: an extension that is not allowed; it was not imported.
        ModelError: a network that cannot be trained with patient-level privacy.
    """
    factory, code = _factory(config, allowed_extensions)
    # A file of weights may change between two calls, so only builds without one are remembered.
    return (_remembered if config.weights is None else _build)(config, seed, factory, code)


def _build(config: ModelConfig, seed: int, factory: Factory, code: str) -> Network:
    architecture = _asked(config, seed, factory)
    if architecture.frozen is not None:
        check_frozen(config, built_in=config.name in BUILTIN)
    module = dp_ready.make_dp_ready(architecture.module)
    origin = None
    if config.weights is not None:
        origin = load_weights(module, config.weights)
    shape = architecture.feature_shape or config.image_shape
    check = dp_ready.check_scores if architecture.by_statistics else dp_ready.check
    in_place = check(module, shape, config.output_shape)
    _check_centred(module, config)
    _check_frozen(architecture, config.image_shape, shape)
    layout = Layout.of(module)
    initial = layout.flatten(dict(module.named_parameters())).detach().double().numpy()
    initial.flags.writeable = False
    settings = asdict(config) | {"weights": None}
    if not architecture.by_statistics:
        del settings["classical"]
    if not config.reads_voxels:  # as networks were called before there was a choice
        del settings["reads_voxels"]
    return Network(
        name=config.name,
        layout=layout,
        initial=initial,
        image_shape=config.image_shape,
        feature_shape=shape,
        frozen=architecture.frozen,
        task=config.task,
        target_range=config.target_range,
        label_shape=config.label_shape,
        heads=heads_of(config),
        linear=architecture.linear and not config.centring_rounds,
        by_statistics=architecture.by_statistics,
        centring_rounds=config.centring_rounds,
        digest=architecture_digest(config.name, settings, layout, code),
        _module=module,
        _in_place=in_place,
        origin=origin,
    )


# A simulation asks for the same network once for each site; a Network never changes.
_remembered = lru_cache(maxsize=2)(_build)


def _asked(config: ModelConfig, seed: int, factory: Factory) -> Architecture:
    """A factory knows of outputs only: of a number one, of a heat map and sizes one each, of several heads all of
    them; beside a head of voxels a few channels more, which the others read (`VoxelsAndImages`).
    """
    if not config.heads:
        return _made(replace(config, classes=config.outputs), seed, factory)
    if not config.of_voxels:
        whole = replace(config, task="classification", heads=(), reads_voxels=False, classes=config.outputs)
        return _made(whole, seed, factory)
    hidden = config.width
    with_more = replace(
        config, task="segmentation", heads=(), reads_voxels=False, classes=config.classes + hidden
    )
    made = _made(with_more, seed, factory)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        return replace(made, module=VoxelsAndImages(made.module, config, hidden), linear=False)


def _made(config: ModelConfig, seed: int, factory: Factory) -> Architecture:
    # CPU only: initial weights are made there on every machine.
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        made = factory(config)
    if isinstance(made, nn.Module):
        made = Architecture(made)
    if not isinstance(made, Architecture):
        raise ModelError(
            f"network {config.name} to return a torch module or an Architecture",
            type(made).__name__,
            "see docs/extend-model.md",
        )
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        return fused(made, config)


def _factory(config: ModelConfig, allowed: Collection[str]) -> tuple[Factory, str]:
    """What makes the network, and the digest of its code."""
    if config.name in BUILTIN:
        _check_task(config)
        module = import_module(BUILTIN[config.name])
        builtin: Factory = getattr(module, config.name)
        return builtin, f"sha256:{hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()}"
    extension = find(GROUP, config.name, tuple(BUILTIN))
    factory = extension.load(allowed)
    if not callable(factory):
        raise ModelError(
            f"network {config.name} to be a function of ModelConfig",
            type(factory).__name__,
            "see docs/extend-model.md",
        )
    added: Factory = factory
    return added, extension.digest


def _check_centred(module: nn.Module, config: ModelConfig) -> None:
    if config.centring_rounds and not isinstance(module, CentredLinear):
        raise ConfigError(
            "model.centring_rounds=0 with a network that has no centre",
            f"{config.centring_rounds} with model={config.name}",
            "choose model=scattering, or leave the centre out",
        )


def _check_task(config: ModelConfig) -> None:
    """An extension may do either; its logits are checked."""
    others = SEGMENT if config.of_voxels else BUILTIN.keys() - NO_CLASSIFIER
    if config.task != "classification":  # sums of statistics are of classes
        others -= CLASSICAL
    if config.name in others:
        return
    raise ConfigError(
        f"a network for model.task={config.task} ({', '.join(sorted(others))})",
        config.name,
        "choose one of these, or another model.task",
    )


def _check_frozen(
    architecture: Architecture, image_shape: tuple[int, ...], feature_shape: tuple[int, ...]
) -> None:
    """A frozen part must treat images one by one, and alike each time."""
    if architecture.frozen is None:
        if feature_shape != image_shape:
            raise ModelError("feature_shape only beside a frozen part", str(feature_shape), "leave it out")
        return
    size = int(torch.Size((2, *image_shape)).numel())
    images = torch.sin(torch.arange(size, dtype=torch.float32)).reshape(2, *image_shape)
    with torch.no_grad():
        both, alone, again = (
            architecture.frozen(images),
            architecture.frozen(images[:1]),
            architecture.frozen(images),
        )
    if both.shape != (2, *feature_shape) or not torch.equal(both, again):
        raise ModelError(
            f"frozen features of shape (2, {', '.join(map(str, feature_shape))}), the same each time",
            f"shape {tuple(both.shape)}",
            "a frozen part is deterministic, and feature_shape says what it returns",
        )
    if not torch.allclose(both[:1], alone, rtol=1e-4, atol=1e-5):
        raise ModelError(
            "frozen features of one image at a time",
            "features that move with the batch",
            "see docs/extend-model.md",
        )
