"""What all sites of a run agree to before round 1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Protocol

from fedimg import classical
from fedimg.errors import ConfigError
from fedimg.evaluation import HeadMeasure, Measure, Several, Subgroups, measure_of
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig, Network, extension_digests
from fedimg.models.classical_config import CLASSICAL
from fedimg.models.config import SEVERAL
from fedimg.models.heads import build_several
from fedimg.models.losses import BUILTIN, OF_HEAD, OF_TASK, WEIGHTED, Loss, build_loss, loss_digests
from fedimg.privacy.entropy import Entropy, source_of
from fedimg.privacy.plan import PrivacyRequest
from fedimg.privacy.request import DISTRIBUTED
from fedimg.secagg.config import SecaggConfig
from fedimg.subgroups import Grouping
from fedimg.training import CORRECTED, KEPT, LocalTraining


@dataclass(frozen=True)
class Terms:
    """What all sites are asked to agree to: public, equal everywhere, fixed before round 1.

    `bins` is the number of public score bins of an evaluation release, `subgroups` which groups of patients it tells
    apart. `insecure_seed` is None
    except in the openly insecure test mode.
    """

    run_id: str
    rounds: int
    model: ModelConfig
    training: LocalTraining
    imaging: ImagingConfig
    privacy: PrivacyRequest
    deid_profile: str
    validation_fraction: float
    bins: int
    seed: int
    insecure_seed: int | None = None
    secagg: SecaggConfig = field(default_factory=lambda: SecaggConfig("none"))
    subgroups: Grouping = field(default_factory=Grouping)

    def __post_init__(self) -> None:
        check(self)
        if self.secagg.name == "auto":
            raise ConfigError(
                "secagg none or pairwise in the terms of a run", "auto", "settle it by the number of sites"
            )

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, hex: every instruction names it.

        A file of weights is the coordinator's: its name is no part of what sites agree to.
        """
        agreed = asdict(self)
        agreed["model"]["weights"] = None
        text = json.dumps(agreed, sort_keys=True, separators=(",", ":"), default=list)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def measure(self) -> Measure:
        """How a site and the coordinator measure the model."""
        model, spacing = self.model, self.imaging.spacing_mm
        each = [
            measure_of(one.task, one.classes, self.bins, target_range=one.target_range, voxel_mm=spacing)
            for one in model.each
        ]
        own = each[0]
        if model.heads:
            own = Several(tuple(_head_measure(one, of) for one, of in zip(model.each, each, strict=True)))
        return Subgroups(own, self.subgroups) if self.subgroups.attributes else own

    @property
    def evaluation_rounds(self) -> frozenset[int]:
        """The declared evaluation releases at the sites, evenly spread; the last round is always one of them."""
        evaluations = self.privacy.evaluations
        return frozenset(-(-self.rounds * number // evaluations) for number in range(1, evaluations + 1))

    @property
    def extensions(self) -> dict[str, str]:
        """Name → digest of every extension that these terms would run at a site."""
        losses = (self.training.loss, *self.training.head_losses)
        return extension_digests(self.model) | {
            name: digest for loss in losses for name, digest in loss_digests(loss).items()
        }

    def loss(self, allowed_extensions: Collection[str]) -> Loss:
        """Of an image. Raises as `build_loss`."""
        if not self.model.heads:
            return build_loss(self.training.loss, allowed_extensions)
        names = self.training.head_losses or tuple(OF_HEAD[head] for head in self.model.heads)
        weights = self.training.head_weights or (1.0,) * len(names)
        return build_several(self.model, names, weights, allowed_extensions)

    def update_size(self, network: Network) -> int:
        """Values of a site's update, (k,): parameters, or what a classical model or an algorithm sends in place of them."""
        return classical.update_size(network, self.model) * self.training.algorithm.vectors

    def instructed_size(self, network: Network, task: str) -> int:
        """Values of the coordinator's instructions."""
        vectors = self.training.algorithm.vectors if task == "train" else 1
        return network.number_of_parameters * vectors

    def entropy(self, *labels: str) -> Entropy:
        """The operating system's entropy; a seeded stream only in the insecure test mode."""
        return source_of(self.insecure_seed, *labels)


def _head_measure(model: ModelConfig, measure: Measure) -> HeadMeasure:
    voxels = model.of_voxels
    outputs = model.label_shape if voxels else model.output_shape
    of_classes = voxels or model.task == "classification"
    return HeadMeasure(model.task, measure, outputs, model.label_shape, of_classes, voxels)


class Asked(Protocol):
    """What a run asks for: its terms, or the configuration that they come from."""

    @property
    def rounds(self) -> int: ...
    @property
    def model(self) -> ModelConfig: ...
    @property
    def training(self) -> LocalTraining: ...
    @property
    def imaging(self) -> ImagingConfig: ...
    @property
    def privacy(self) -> PrivacyRequest: ...


def check(asked: Asked) -> None:
    """What both a coordinator's configuration and a site's terms are judged by. Raises ConfigError."""
    check_task(asked)
    check_channels(asked)
    if asked.model.name in CLASSICAL:
        check_classical(asked)
    if asked.training.algorithm.name != "none":
        check_algorithm(asked)


def check_algorithm(asked: Asked) -> None:
    """Raises ConfigError for what an algorithm for sites that differ does not stand beside, with the reason."""
    own, name = asked.training, asked.training.algorithm.name
    shared, corrected = asked.privacy.mode == DISTRIBUTED, name in CORRECTED
    against = {
        f"model={asked.model.name}, which follows from sums of statistics": asked.model.name in CLASSICAL,
        f"model.centring_rounds={asked.model.centring_rounds}": asked.model.centring_rounds > 0,
        "privacy=client_level, where a client's one clipped update is all that it gives, and it keeps nothing": (
            asked.privacy.mode == "client_level"
        ),
        "privacy=distributed, where no site knows its own noised gradient: a correction made of exact ones "
        "would be in later sums without noise": shared and corrected,
        "privacy=distributed, where no site knows its own noised gradient: parameters of its own would move "
        "by exact ones, and later sums with them": shared and name in KEPT,
        f"training.momentum={own.momentum:g}": corrected and own.momentum > 0,
        f"training.proximal_mu={own.proximal_mu:g}": corrected and own.proximal_mu > 0,
        f"training.gradient_norm={own.gradient_norm:g}": corrected and own.gradient_norm > 0,
        "evaluation.site_evaluations=0, whose last one brings the last model to the sites": (
            name == "fine_tuned_head" and asked.privacy.evaluations == 0
        ),
    }
    for found, there in against.items():
        if there:
            raise ConfigError(
                f"a run that training.algorithm.name={name} stands in (docs/heterogeneity.md)",
                found,
                "change it, or set training=default",
            )


def check_classical(asked: Asked) -> None:
    """Raises ConfigError for what a model cannot take that is learnt from sums of statistics."""
    name = asked.model.name
    least, most = classical.rounds_of(asked.model)
    if asked.rounds < least or (most is not None and asked.rounds > most):
        expected = f"rounds={least}{'' if most else ' or more'} with model={name}"
        raise ConfigError(expected, f"rounds={asked.rounds}", f"set it, or experiment={name}, which sets all")
    against = {
        "privacy=client_level": asked.privacy.mode == "client_level",
        f"training.local_steps={asked.training.local_steps}": asked.training.local_steps != 1,
        f"training.class_weights={asked.training.class_weights}": asked.training.class_weights is not None,
        "imaging=augmented": asked.imaging.augmentation.active,
        f"model.centring_rounds={asked.model.centring_rounds}": asked.model.centring_rounds > 0,
    }
    for found, there in against.items():
        if there:
            raise ConfigError(
                f"one sum of patients' statistics a round, of images as they are, with model={name}",
                found,
                "change it, or choose a model that is trained along gradients",
            )


def check_channels(asked: Asked) -> None:
    """Raises ConfigError for a network that does not take what imaging makes; the numbers to set are in it."""
    planes, model = asked.imaging.planes, asked.model
    if (model.channels, model.features) != (planes.image, planes.features):
        expected = f"model.channels={planes.image} and model.features={planes.features}, as imaging and data.features say"
        raise ConfigError(
            expected, f"{model.channels} and {model.features}", "set them so, or leave them null"
        )


def check_task(asked: Asked) -> None:
    """Raises ConfigError for a loss of another task, or what only labels of images can take."""
    task, training = asked.model.task, asked.training
    fits = training.loss in OF_TASK[task] or (task != SEVERAL and training.loss not in (*BUILTIN, SEVERAL))
    weighted, name = training.class_weights is not None, asked.model.name
    found = f"training.class_weights={training.class_weights}"
    against = {
        f"training.loss={training.loss}": not fits,
        f"{found}, and no classes to weigh": weighted and task not in WEIGHTED,
        f"{found} inside the loss of an extension": (
            weighted and task in WEIGHTED and task != "classification" and training.loss not in BUILTIN
        ),
        f"model.centring_rounds={asked.model.centring_rounds}": (
            task != "classification" and asked.model.centring_rounds > 0
        ),
        f"model={name}, which follows from sums of statistics of classes": (
            task == SEVERAL and name in CLASSICAL
        ),
        "imaging=augmented, which moves one kind of label": (
            task == SEVERAL and asked.imaging.augmentation.active
        ),
    }
    for found, there in against.items():
        if there:
            expected = f"what model.task={task} can be trained with (losses: {', '.join(OF_TASK[task])})"
            raise ConfigError(expected, found, "change it, or choose another model.task")
    _check_heads(asked)


def _check_heads(asked: Asked) -> None:
    """Raises ConfigError for losses or weights of other heads than the model's."""
    heads, own = asked.model.heads, asked.training
    for key, found in (("head_losses", own.head_losses), ("head_weights", own.head_weights)):
        if found and len(found) != len(heads):
            expected = f"training.{key}: one for each of model.heads={list(heads)}, or []"
            raise ConfigError(expected, str(list(found)), "set both alike")
    for head, name in zip(heads, own.head_losses, strict=False):
        if name not in OF_TASK[head] and name in (*BUILTIN, SEVERAL):
            expected = f"a loss of {head} in training.head_losses ({', '.join(OF_TASK[head])})"
            raise ConfigError(expected, name, "put it at the place of its head in model.heads")
