"""A finished run → the bundle of its model: graph, card, calibration and threshold from what the sites have released.

Nothing new is asked of a site: temperature and threshold are post-processing of the last evaluation's noised tables, and
cost no privacy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg import config as configuration
from fedimg import record, training
from fedimg.bundle import KINDS, Finding, Metadata, Output, Point
from fedimg.bundle.contents import Described
from fedimg.bundle.metadata import CODE, DESCRIPTION, MOST_IMAGES, NAME
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import ConfigError, DataError
from fedimg.evaluation import Several, Subgroups
from fedimg.evaluation.site_scores import SiteScores
from fedimg.imaging.config import PIPELINE_VERSION
from fedimg.models import ModelConfig, Network
from fedimg.models.deployed import exported
from fedimg.monitoring import calibration, operating_point
from fedimg.monitoring.calibration import Temperature
from fedimg.monitoring.operating_point import OperatingPoint
from fedimg.record.model import weights_of_file
from fedimg.sources import cohort
from fedimg.terms import Terms

_NONE = "no released evaluation of two classes: scores are as the network gives them"


@dataclass(frozen=True, slots=True)
class Asked:
    """What whoever releases a model says of it.

    Attributes:
        name, version, description, kind: for people. findings: what a call says, in codes.
        modalities, body_parts: of series that it may look at, in DICOM's words. least_images: in a series.
        target, confidence: of the sensitivity that the threshold is to promise.
    """

    name: str
    version: str
    description: str
    kind: str = "other"
    findings: tuple[Finding, ...] = ()
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    least_images: int = 1
    target: float = 0.95
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Raises ConfigError for words that a reader of the bundle would refuse."""
        if not all(NAME.fullmatch(text) for text in (self.name, self.version)):
            expected = "a name and a version of 1 to 200 characters on one line"
            raise ConfigError(expected, "another", "change --name or --release")
        if not DESCRIPTION.fullmatch(self.description):
            raise ConfigError("a description of 1 to 2000 characters on one line", "another", "shorten it")
        if self.kind not in KINDS:
            raise ConfigError(f"a kind out of {', '.join(KINDS)}", "another", "change --kind")
        if not 1 <= self.least_images <= MOST_IMAGES:
            found = str(self.least_images)
            raise ConfigError(f"least images from 1 to {MOST_IMAGES}", found, "change --least-images")
        if not (0 < self.target < 1 and 0 < self.confidence < 1):
            expected = "--sensitivity and --confidence as shares between 0 and 1, such as 0.95"
            raise ConfigError(expected, f"{self.target:g} and {self.confidence:g}", "change them")
        if not all(CODE.fullmatch(text) for text in (*self.modalities, *self.body_parts)):
            expected = "--modality and --body-part in DICOM's own words (CT, CR; CHEST, HEAD)"
            raise ConfigError(
                expected, "another", "write them in capitals, as in a file's Modality and BodyPartExamined"
            )


def described(folder: Path, asked: Asked) -> Described:
    """Of a finished run's folder, whose record was verified.

    Raises:
        DataError: an unfinished run, or weights that are not those of its release record.
        ConfigError: a run whose sites keep models of their own. ModelError: a network that has no graph.
    """
    for name in ("config.yaml", record.MODEL_FILE, record.FILE):
        if not (folder / name).is_file():
            raise DataError("the folder of a finished run", f"no {name}", "name a folder below runs/")
    config, run = configuration.load(folder / "config.yaml"), RunFolder(folder)
    terms = terms_of(config, run.run_id)
    network = own_network(terms)
    if training.kept_parameters(network, terms.training.algorithm) is not None:
        algorithm = f"training.algorithm.name={terms.training.algorithm.name}"
        raise ConfigError(
            "a run with one model for all", algorithm, "its sites have their own; release another run"
        )
    signed = (folder / record.FILE).read_bytes()
    found = record.read(signed)["record"]
    tensors, digest = weights_of_file(folder / record.MODEL_FILE)
    named = found["model"]
    if terms.run_id != found["run"]:
        remedy = "give the run's folder its name again: it is the run's id"
        raise DataError(f"the folder of run {found['run']} under this name", "another name", remedy)
    if (digest, network.digest) != (named["weights"], named["architecture"]):
        raise DataError("weights and network that the release record names", "others", "see `fedimg verify`")
    made = exported(network, network.layout.flatten(tensors).double().numpy())
    classes = _classes(config)
    _check_findings(asked.findings, classes)
    fitted, point, why = _calibrated(run, terms, asked)
    temperature = fitted.value.value if fitted is not None else 1.0
    threshold = None if point is None else _under(point.threshold, temperature)
    said = Metadata(
        name=asked.name,
        version=asked.version,
        description=asked.description,
        run=terms.run_id,
        kind=asked.kind,
        task=terms.model.task,
        classes=classes,
        image_shape=network.image_shape,
        outputs=_outputs(terms.model, network),
        imaging=json.loads(json.dumps(asdict(terms.imaging))) | {"pipeline_version": PIPELINE_VERSION},
        temperature=temperature,
        threshold=threshold,
        operating_point=None if point is None or threshold is None else _said_of(point, threshold),
        findings=asked.findings,
        modalities=asked.modalities,
        body_parts=asked.body_parts,
        least_images=asked.least_images,
        weights=digest,
        architecture=network.digest,
    )
    return Described(said, made, _guarantees(found["claim"], point, why), _figures(fitted, point), signed)


def _classes(config: configuration.Config) -> tuple[str, ...]:
    """The generated hospitals name their own; of other sources a name is the configuration's, if there is one for each."""
    data, model = config.data, config.model
    if data.name == "cohort":
        return cohort.classes_of(data)
    of_numbers = model.task == "regression" or model.heads == ("regression",)
    if len(data.classes) == model.classes or of_numbers:
        return tuple(data.classes)
    return tuple(f"class {k}" for k in range(model.classes))


def _check_findings(findings: tuple[Finding, ...], classes: tuple[str, ...]) -> None:
    named = [one.of_class for one in findings]
    if not set(named) <= set(classes) or len(set(named)) < len(named):
        expected = f"findings of the model's classes, each once ({', '.join(classes)})"
        raise ConfigError(expected, ", ".join(named), "correct findings[].class, or data.classes of the run")


def _outputs(model: ModelConfig, network: Network) -> tuple[Output, ...]:
    """Where each task's logits lie in an image's, and what a number is a share of."""
    whole = [(one.config, one.outputs.start, one.outputs.stop) for one in network.heads]
    alone = [(model, 0, math.prod(model.output_shape))]
    return tuple(
        Output(
            one.task,
            start,
            stop,
            tuple(one.output_shape),
            (float(one.target_range[0]), float(one.target_range[1])) if one.task == "regression" else None,
        )
        for one, start, stop in whole or alone
    )


def _said_of(point: OperatingPoint, threshold: float) -> Point:
    """The same as the bundle says it: of the calibrated probability."""
    own = {one.name: getattr(point, one.name) for one in fields(point)} | {"threshold": threshold}
    return Point(**own)


def _calibrated(
    run: RunFolder, terms: Terms, asked: Asked
) -> tuple[Temperature | None, OperatingPoint | None, str]:
    """Temperature, operating point, and why there is none of the two; "" with both."""
    checkpoint = run.last_checkpoint()
    scores = None if checkpoint is None else SiteScores.restored(checkpoint[1])
    released = None if scores is None else _of_classes(terms, scores)
    if released is None:
        return None, None, _NONE
    table, noise_std = released
    try:
        fitted = calibration.of_histograms(table, noise_std)
    except DataError as fault:
        return None, None, f"it takes {fault.expected}; there are {fault.found}"
    try:
        target, confidence = asked.target, asked.confidence
        return (
            fitted,
            operating_point.of_histograms(table, noise_std, target=target, confidence=confidence),
            "",
        )
    except DataError as fault:
        return fitted, None, f"it takes {fault.expected}; there are {fault.found}"


def _of_classes(terms: Terms, scores: SiteScores) -> tuple[npt.NDArray[np.float64], float] | None:
    """The released table of two classes, of everybody, with the noise in a cell: of the task, or of one of its heads."""
    if "classification" not in (terms.model.task, *terms.model.heads) or terms.model.classes != 2:
        return None
    measure, noise_std = terms.measure, scores.noise_std
    table = np.asarray(scores.histogram, dtype=np.float64)
    if isinstance(measure, Subgroups):
        table, noise_std, _, _ = measure.split(table, noise_std)
        measure = measure.own
    if isinstance(measure, Several):
        tables, noise_std = measure.split(table.reshape(measure.shape), noise_std)
        table = tables["classification"]
    return table.reshape(2, terms.bins), noise_std


def _under(threshold: float, temperature: float) -> float:
    """A threshold of the network's own probability as one of the calibrated probability."""
    if not 0 < threshold < 1:
        return threshold
    return 1 / (1 + math.exp(-math.log(threshold / (1 - threshold)) / temperature))


def _guarantees(claim: Mapping[str, Any], point: OperatingPoint | None, why: str) -> tuple[str, ...]:
    promised = "no differential privacy: this model may tell of single patients"
    if claim["private"]:
        promised = (
            f"ε = {claim['epsilon']:.4g} at δ = {claim['delta']:g} for each {claim['unit']} ({claim['mode']}); record.json "
            "holds the signatures, and `fedimg verify` checks them"
        )
    threshold = f"no sensitivity is promised: {why}"
    if point is not None:
        threshold = (
            f"a sensitivity of {point.target:.0%} or more with {point.confidence:.0%} confidence, on patients like those of "
            f"the sites that released their scores ({point.positives} positives, as far as noise lets one count); "
            f"{1 - point.specificity.value:.0%} of those without the finding are called there too"
        )
    return promised, threshold, "nothing is promised of patients unlike those that it was trained on"


def _figures(fitted: Temperature | None, point: OperatingPoint | None) -> tuple[tuple[str, str], ...]:
    rows = []
    if fitted is not None:
        bound = ", a bound: the released scores do not fix it" if fitted.bounded else ""
        rows.append(("temperature, 95 %", f"{fitted.value.low:.3g} to {fitted.value.high:.3g}{bound}"))
    if point is not None:
        for name, one in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
            rows.append((f"{name} at the threshold", f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"))
    return tuple(rows)
