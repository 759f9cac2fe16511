"""A row of a comparison that learns nothing: rules or a traditional method, on the coordinator's public set.

No site is asked anything, so that no byte leaves one and no patient of theirs is in any number: ε = 0. What is
written is a folder that `compare.reading` takes for a finished run's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg import config as configuration
from fedimg import declared_public, site_data
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.imaging import baselines, patients
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.measurements import Case, measure
from fedimg.imaging.rules import Rulebook, load_rules
from fedimg.measuring import home as measuring
from fedimg.simulation import virtual
from fedimg.terms import Terms
from fedimg.values import SiteDataset

MODE = "no site asked"
Progress = Callable[[str, int, int], None]
_Outputs = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


@dataclass(frozen=True)
class Baseline:
    """`name`: "rules" or one of `imaging.baselines.TRADITIONAL`. `rules`: the file of the former."""

    name: str
    rules: Path | None = None


def check(config: Config, baseline: Baseline) -> None:
    """Raises ConfigError for a baseline of another task, or a rulebook of other classes than the data's."""
    task, classes = config.model.task, config.model.classes
    if config.imaging.together:
        several = f"imaging.together={list(config.imaging.together)}"
        raise ConfigError(f"one image an example with the row {baseline.name}", several, "leave the row out")
    if baseline.rules is not None:
        book = load_rules(baseline.rules)
        if task != "classification" or book.classes != classes:
            raise ConfigError(
                f"rules of {book.classes} classes beside learners of as many, model.task=classification",
                f"model.task={task}, model.classes={classes}",
                "name another rulebook by rules=FILE, or leave the row out",
            )
    elif task not in ("segmentation", "detection") or classes != 2:
        raise ConfigError(
            f"model.task segmentation or detection of one kind of finding with the row {baseline.name}",
            f"model.task={task}, model.classes={classes}",
            "leave the row out",
        )


def run(config: Config, baseline: Baseline, progress: Progress) -> Path:
    """The folder of the row, whole.

    Raises:
        ConfigError: see `check`. DataError: the source has no public set, or nothing in it can be used.
    """
    check(config, baseline)
    folder = RunFolder.create(Path(config.runs))
    folder.write("config.yaml", configuration.dump(config))
    manifests = virtual.manifests_of(config, folder)
    names = virtual.sites_of(manifests)
    config = configuration.settled(config, len(names))
    terms = terms_of(config, folder.run_id)
    virtual.check_classes(next(iter(manifests.values())).classes, config.model.classes)
    root = virtual.fill_public(config, manifests, folder, progress)
    if root is None:
        raise DataError(
            f"a public test set, on which {baseline.name} is measured",
            "a source without one",
            "give rows of the table split=public, or leave this row out",
        )
    home, started = SiteHome.open(root), time.perf_counter()
    outputs, labels, first = _outputs(home, terms, baseline)
    seconds = time.perf_counter() - started
    if not len(labels):
        raise DataError("a public test set that can be used", "none of its files", "see its intake's reasons")
    own = config.evaluation.bootstrap
    found = terms.measure.of_outputs(outputs, labels, first, bootstrap=own, seed=config.seed)
    unit = manifests[names[0]].unit if names else "patient"
    folder.write_json(
        "summary.json",
        {
            "baseline": baseline.name,
            "simulated": True,
            "task": terms.model.task,
            "test": {name: interval.value for name, interval in found.metrics.items()},
            "test_intervals": {name: [i.low, i.high] for name, i in found.metrics.items()},
            "sites": {name: {} for name in names},
            "privacy": {"mode": MODE, "private": False, "unit": unit, "secagg": "none"},
            "rounds": 0,
            "cost": {
                "seconds": seconds,
                "bytes_sent": dict.fromkeys(names, 0),
                "bytes_received": dict.fromkeys(names, 0),
            },
        }
        | ({"intake": {}} if all(part.public_data for part in manifests.values()) else {}),
    )
    return folder.path


def _outputs(home: SiteHome, terms: Terms, baseline: Baseline) -> _Outputs:
    """Outputs, labels and first images as an evaluation takes them."""
    if baseline.rules is None:
        public = _as_given(home, terms)
        of = baselines.voxels if terms.model.task == "segmentation" else baselines.places
        return of(baseline.name, public.images.numpy()), public.labels.numpy(), public.first_image
    book = load_rules(baseline.rules)
    arrays = declared_public.load_arrays(home.root, home.signing_key.public_bytes)
    if arrays is None:
        decided = measuring.decide(home, terms.imaging, terms.deid_profile, book)
        return decided.scores, decided.labels, decided.first_image
    data = patients.dataset_from_arrays(arrays.images, arrays.labels, arrays.units, terms.imaging)
    scores = [decided_array(image, terms.imaging, book) for image in data.images.numpy()]
    return np.array(scores), data.labels.numpy(), data.first_image


def decided_array(image: npt.NDArray[np.float32], imaging: ImagingConfig, book: Rulebook) -> npt.NDArray[Any]:
    """(C, *spatial) of arrays, put back to [0, 1] by the public constants; nobody knows how large their pixels are."""
    grey = image.mean(axis=0) * imaging.intensity.std + imaging.intensity.mean
    return book.decide(measure(Case(grey if grey.ndim == 3 else grey[None], None), book.names)).scores(
        book.classes
    )


def _as_given(home: SiteHome, terms: Terms) -> SiteDataset:
    """The public set as a network without fixed features is given it."""
    network = own_network(terms)
    plain = replace(network, frozen=None, feature_shape=network.image_shape)
    profile = terms.deid_profile
    return site_data.load(home, terms.imaging, plain, profile=profile, validation_fraction=0.0).train
