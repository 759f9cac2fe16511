"""From a configuration to a folder with weights, and what they were made of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from safetensors.torch import save

from fedimg.config import Config
from fedimg.durable import fresh_folder, write_durably
from fedimg.errors import ConfigError
from fedimg.models import Network, build_model, extension_digests
from fedimg.models.origin import GENERATED, MOST_SEED, Origin, read
from fedimg.pretraining import pictures
from fedimg.pretraining.fitting import Fitted, Fitting, fit
from fedimg.pretraining.pictures import Pictures, Progress
from fedimg.pretraining.tasks import Task, task_of
from fedimg.record import code
from fedimg.sources import medmnist
from fedimg.values import Vector

WEIGHTS, ABOUT = "weights.safetensors", "weights.json"
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made.

    Attributes:
        config: model, imaging, data and seed of it are read.
        method: "generated": the network's task, on generated hospitals; "self_supervised": no labels.
        source: the name of declared public data, which stands in every record of a run that begins with the weights.
    """

    config: Config
    method: Literal["generated", "self_supervised"]
    fitting: Fitting
    source: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.config.seed <= MOST_SEED:
            raise ConfigError(f"seed between 0 and {MOST_SEED}", f"{self.config.seed}", "set seed")
        if self.source and not _NAME.fullmatch(self.source):
            raise ConfigError(
                "--source: a name of at most 200 characters on one line", "another", "shorten it"
            )
        if self.config.model.weights is not None:
            raise ConfigError("weights made from a seed", "model.weights", "leave model.weights out")


@dataclass(frozen=True, slots=True)
class Made:
    """`origin` as a run will read it from the file; `about`: what stands in the JSON beside it."""

    origin: Origin
    about: dict[str, Any]


def make(plan: Plan, folder: Path, progress: Progress = lambda _stage, _done, _total: None) -> Made:
    """Write `weights.safetensors` and `weights.json` into a new folder; it appears whole or not at all.

    Raises:
        PolicyRefused: data that are neither generated nor declared public. ConfigError, DataError: what cannot be
            learnt, or of what.
    """
    config = plan.config
    pictures.check_allowed(config, plan.method)
    own = tuple(extension_digests(config.model).values())  # this machine's own user asks for them
    asked = build_model(config.model, config.seed, own)
    if asked.by_statistics or set(asked.layout.names) == asked.head:
        raise ConfigError(
            "a network that learns more than its last layer",
            f"model={asked.name}",
            "its features are fixed, and need no weights to begin with; choose model=cnn or a U-Net",
        )
    task = task_of(config, plan.method)
    network = build_model(task.model, config.seed, own)
    with fresh_folder(folder) as growing:
        with TemporaryDirectory(prefix="fedimg-pretrain-") as scratch:
            found = _pictures(plan, network, Path(scratch), progress)
        fitted = fit(network, task, found.train, found.held_out, plan.fitting, config.seed, progress)
        made = _written(plan, task, network, found, fitted, growing)
        # what a run would say of the file is said now
        build_model(replace(config.model, weights=str(growing / WEIGHTS)), config.seed, own)
    return made


def _pictures(plan: Plan, network: Network, work: Path, progress: Progress) -> Pictures:
    if plan.method == "generated":
        return pictures.labelled(plan.config, network, work, progress)
    return pictures.unlabelled(plan.config, work, progress)


def _written(plan: Plan, task: Task, network: Network, found: Pictures, fitted: Fitted, folder: Path) -> Made:
    config = plan.config
    origin = Origin(
        file="",
        data=found.data,
        method=task.method,
        source=plan.source or _known_name(config, found.data),
        source_digest=found.digest,
        fedimg=code.installed()["fedimg"],
        architecture=network.digest,
        seed=config.seed,
    )
    data = save(_kept(network, fitted.vector), origin.metadata())
    origin = replace(origin, file=read(data, safetensors=True).file)
    about = {
        **origin.as_json(),
        "model": config.model.name,
        "task": config.model.task,
        "images": len(found.train.images),
        "held_out_images": len(found.held_out.images),
        "held_out_loss": {"before": fitted.before, "after": fitted.after},
        "epochs": plan.fitting.epochs,
        "batch_size": plan.fitting.batch_size,
        "learning_rate": plan.fitting.learning_rate,
    }
    write_durably(folder / WEIGHTS, data, mode=0o644)
    write_durably(folder / ABOUT, json.dumps(about, indent=1, allow_nan=False) + "\n", mode=0o644)
    return Made(origin, about)


def _known_name(config: Config, data: str) -> str:
    """Of data that nobody has named."""
    if data == GENERATED:
        return "generated hospitals"
    return medmnist.set_name(config.data) if config.data.name == "medmnist" else "not named"


def _kept(network: Network, vector: Vector) -> dict[str, Any]:
    """All but the last layer, whose answers are the sites' own to learn."""
    return {n: tensor for n, tensor in network.state_dict(vector).items() if n not in network.head}
