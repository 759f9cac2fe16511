"""The values that travel from one station to the next.

Reading downwards is the way of one image. A boundary is a change of type:
`DeidentifiedRecord` exists only behind the identity boundary, `NoisedSum` and
`NoisedUpdate` only behind the privacy boundary, `MaskedUpdate` only behind the visibility boundary.
Only released and masked values have `to_bytes`, and the two that a site's policy must allow by name:
`OpenUpdate` and `ClippedUpdate`. Whatever else has not crossed a boundary cannot be sent by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Protocol, Self

import numpy as np
import numpy.typing as npt

from fedimg.errors import MessageError
from fedimg.subgroups import UNKNOWN, Codes
from fedimg.wire import counts, pack, typed, unpack

if TYPE_CHECKING:  # a process that de-identifies needs no torch, and importing it takes over a second
    import torch

FloatArray = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[Any]  # (P,) unsigned, modulo 2ᵏ: "<u4" or "<u8"
Split = Literal["train", "public"]
NO_CLASS = -1
"""Label of an image whose class nobody knows, and that is there for a number or an outline."""


class Quarantine(StrEnum):
    """Why an input was held back. A reason is a closed code: it can carry no patient data."""

    UNREADABLE = "unreadable"
    NOT_AN_IMAGE = "not_an_image"
    LINK = "link"
    NO_PATIENT_ID = "no_patient_id"
    NO_LABEL = "no_label"
    PATIENT_AT_TWO_SITES = "patient_at_two_sites"
    OBJECT_TYPE = "object_type"
    UNSAFE_STRUCTURE = "unsafe_structure"
    RESIDUAL_IDENTIFIER = "residual_identifier"
    PIXELS_UNDECODABLE = "pixels_undecodable"
    PIXELS_NOT_FINITE = "pixels_not_finite"
    PIXELS_BLANK = "pixels_blank"
    PIXELS_CLIPPED = "pixels_clipped"
    DUPLICATE = "duplicate"
    WRONG_SHAPE = "wrong_shape"
    BURNED_IN_TEXT = "burned_in_text"
    PIXELS_UNPROVEN = "pixels_unproven"
    RECOGNISABLE_FACE = "recognisable_face"
    RECEIPT_INVALID = "receipt_invalid"
    DISK_FULL = "disk_full"


Box = tuple[int, ...]
"""A finding's pixels, half open: (x0, y0, x1, y1), in every frame; or (x0, y0, z0, x1, y1, z1)."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Over an image: files with a class, of so many, for every voxel; or boxes, a finding each.

    `label`: the image's own class, which a mask or box means that says only where; None: it has none. `kinds`: each
    box's class, 0 where it says none.
    """

    masks: tuple[Path, ...] = ()
    boxes: tuple[Box, ...] = ()
    classes: int = 2
    label: int | None = None
    kinds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One input as a data source names it, still in front of the identity boundary.

    Everything here may be PHI (paths and patient numbers are); it never leaves the site. `patient_id` is None where the
    DICOM header is to be asked. `label` is the class index, None where unknown (`NO_CLASS` where the rest is to be learnt
    alone), of several findings a sum of 2^k; `drawn` where voxels, `value` where a number is to be learnt; `groups`,
    `features`, `modality`: by the table.
    """

    path: Path
    kind: Literal["dicom", "nifti", "image"]
    patient_id: str | None = None
    label: int | None = None
    site: str | None = None
    split: Split = "train"
    drawn: Drawn | None = None
    value: float | None = None
    groups: Codes = UNKNOWN
    features: tuple[tuple[str, float], ...] = ()
    modality: str = ""


Area = tuple[int | None, int, int, int, int]
"""Filled pixels of a release: (frame or None for all, x0, y0, x1, y1), corners included."""


@dataclass(frozen=True, slots=True)
class DeidentifiedRecord:
    """One released file: the identity boundary is behind it.

    Attributes:
        path: keyed path below the site's `released` folder.
        sha256: of the released bytes, hex.
        patient_key: keyed pseudonym of the patient; the unit of privacy, splits and ledger.
        study_key, series_key, instance_key: keyed UIDs (or keyed digests for non-DICOM).
        modality: DICOM Modality, or "OT".
        label: class index, or `NO_CLASS`. split: "train", or "public" for declared public data.
        kind: container of the released bytes.
        masked: areas that were filled because they showed text or marks; by its receipt.
        target: SHA-256, hex, of a class for every voxel, which lies in the home; "" without.
        value: the number to be learnt, if any. groups: see `subgroups`; nobody knows them but the site.
        features: numbers beside the image, by name.
    """

    path: PurePosixPath
    sha256: str
    patient_key: str
    study_key: str
    series_key: str
    instance_key: str
    modality: str
    label: int
    split: Split
    kind: Literal["dicom", "nifti"]
    masked: tuple[Area, ...] = ()
    target: str = ""
    value: float | None = None
    groups: Codes = UNKNOWN
    features: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Pixels of one released file in physical units.

    Attributes:
        pixels_DHW: float32, depth first (1 for a single frame); rescale slope and intercept
            applied, MONOCHROME1 inverted, colour turned to luminance.
        affine_lps_mm: 4×4, voxel index (w, h, d) → patient millimetres (DICOM LPS).
        spacing_mm: (D, H, W).
        units: "HU" for CT, else "arbitrary".
        window: (centre, width) of the file, if any. frame: of reference: what has one lies in one space; "" unknown.
        mask_DHW: True where pixels were blanked by de-identification, if any.
        labels_DHW: a class for every voxel, if any.
    """

    pixels_DHW: FloatArray
    affine_lps_mm: npt.NDArray[np.float64]
    spacing_mm: tuple[float, float, float]
    modality: str
    units: Literal["HU", "arbitrary"]
    window: tuple[float, float] | None = None
    mask_DHW: npt.NDArray[np.bool_] | None = None
    labels_DHW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None = None
    frame: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """One training example before batching: float32 image_CDHW, its patient, its label or each voxel's."""

    image_CDHW: FloatArray
    spacing_mm: tuple[float, float, float]
    patient_key: str
    label: int
    labels_DHW: npt.NDArray[np.uint8] | npt.NDArray[np.uint16] | None = None
    value: float = 0.0
    groups: Codes = UNKNOWN


@dataclass(frozen=True, slots=True)
class SiteDataset:
    """A site's examples as tensors, ordered by patient.

    Attributes:
        images: (N, C, *spatial) float32.
        labels: (N, *label_shape): int64 classes, of images or of every voxel, or float32 numbers.
        patient_keys: U distinct keys, sorted.
        first_image: (U + 1,) int64; images of patient u are first_image[u]:first_image[u+1].
        groups: (N, 3) codes of images (`subgroups`); None where nothing is known.
    """

    images: torch.Tensor
    labels: torch.Tensor
    patient_keys: tuple[str, ...]
    first_image: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None

    @property
    def number_of_patients(self) -> int:
        return len(self.patient_keys)

    def images_of(self, patient: int) -> npt.NDArray[np.int64]:
        """Image indices of one patient."""
        return np.arange(self.first_image[patient], self.first_image[patient + 1])

    def of_patients(self, patients: npt.NDArray[np.int64]) -> SiteDataset:
        """The same data restricted to the given patients, in ascending order."""
        chosen = np.sort(np.asarray(patients, dtype=np.int64))
        images = [self.images_of(int(u)) for u in chosen]
        index = np.concatenate([*images, np.zeros(0, np.int64)])
        lengths = np.array([len(i) for i in images], dtype=np.int64)
        return SiteDataset(
            self.images[index],
            self.labels[index],
            tuple(self.patient_keys[int(u)] for u in chosen),
            np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int64),
            None if self.groups is None else self.groups[index],
        )


@dataclass(frozen=True, slots=True)
class ClippedSum:
    """A sum over patients of vectors of L2 norm ≤ `sensitivity`. Not released: it cannot be sent.

    `vector` is (P,) float64; adding or removing one patient moves it by at most `sensitivity`.
    """

    vector: Vector
    sensitivity: float


@dataclass(frozen=True, slots=True)
class NoisedSum:
    """A `ClippedSum` with noise, charged to the ledger first (`release_id`). `vector` (P,) may be post-processed."""

    vector: Vector
    noise_std: float
    release_id: str


@dataclass(frozen=True, slots=True)
class MaskedUpdate:
    """(P,) words under masks that only a sum over enough sites takes off. The visibility boundary."""

    words: Words

    def to_bytes(self) -> bytes:
        return self.words.tobytes()


Masking = Callable[[Words], MaskedUpdate]


class Maskable(Protocol):
    """What may go into a secure sum; `excess` as in `PartlyNoisedSum`."""

    @property
    def excess(self) -> tuple[bytes, ...]: ...
    def mask(self, masking: Masking) -> MaskedUpdate: ...


@dataclass(frozen=True, slots=True, repr=False)
class PartlyNoisedSum:
    """(P,) whole steps of a clipped sum, charged, with a *share* of its noise: it can be masked, and nothing else."""

    _steps: Integers
    excess: tuple[bytes, ...]  # keys of noise that is in it for drop-outs, which may not happen
    release_id: str

    def mask(self, masking: Masking) -> MaskedUpdate:
        return masking(self._steps.astype("<i8").view("<u8"))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a part of a noised sum is never stored or sent")

    def placed(self, where: slice, size: int) -> PartlyNoisedSum:
        whole = np.zeros(size, dtype=np.int64)
        whole[where] = self._steps
        return PartlyNoisedSum(whole, self.excess, self.release_id)


@dataclass(frozen=True, slots=True)
class RoundInstructions:
    """What the server sends: the global model and what to do with it.

    `vector` (P,) holds the model's parameters; `task` is "train" or "evaluate"; `plan_digest`
    must equal the digest of the plan that the site has accepted. `exact`, here and in updates: float64 on the wire.
    `taken`: site → the last round whose answer is in the model, where sites keep a state (`heterogeneity`).
    """

    run_id: str
    round: int
    task: Literal["train", "evaluate"]
    plan_digest: str
    vector: Vector
    exact: bool = False
    taken: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        header = {"run_id": self.run_id, "round": self.round, "task": self.task, "plan": self.plan_digest}
        header |= {"taken": dict(self.taken)} if self.taken else {}
        return pack(b"INST", header, self.vector, exact=self.exact)

    @classmethod
    def from_bytes(cls, data: bytes, size: int | None) -> Self:
        """Parse and check; raises MessageError. `size` is the agreed number of parameters."""
        header, vector = unpack(b"INST", data, size)
        task = typed(header, "task", str)
        if task not in ("train", "evaluate"):
            raise MessageError("task train or evaluate", "another task", "the message was discarded")
        run, number = typed(header, "run_id", str), typed(header, "round", int)
        return cls(run, number, task, typed(header, "plan", str), vector, taken=counts(header, "taken"))


@dataclass(frozen=True, slots=True)
class NoisedUpdate:
    """Post-processing of `NoisedSum`s only: what a private site may send. The privacy boundary.

    kind "update": local − global parameters, (P,). kind "histogram": noised score histograms,
    flattened (classes, bins). `releases` names the ledger entries behind it.
    """

    site: str
    round: int
    kind: Literal["update", "histogram"]
    vector: Vector
    releases: tuple[str, ...]
    exact: bool = False

    def to_bytes(self) -> bytes:
        header = {"site": self.site, "round": self.round, "kind": self.kind, "releases": list(self.releases)}
        return pack(b"NOIS", header, self.vector, exact=self.exact)

    @classmethod
    def from_bytes(cls, data: bytes, size: int | None) -> Self:
        header, vector = unpack(b"NOIS", data, size)
        kind, releases = typed(header, "kind", str), typed(header, "releases", list)
        if kind not in ("update", "histogram") or not all(isinstance(r, str) for r in releases):
            raise MessageError("kind update or histogram", "another kind", "the message was discarded")
        return cls(typed(header, "site", str), typed(header, "round", int), kind, vector, tuple(releases))


@dataclass(frozen=True, slots=True)
class OpenUpdate:
    """An update or histogram with *no* protection (`privacy=none`). Never called private anywhere.

    A type of its own, so that none becomes a `NoisedUpdate`; a site builds one where its policy allows it.
    """

    site: str
    round: int
    kind: Literal["update", "histogram"]
    vector: Vector
    exact: bool = False

    def to_bytes(self) -> bytes:
        return _unnoised_bytes(b"OPEN", self, exact=self.exact)

    @classmethod
    def from_bytes(cls, data: bytes, size: int | None) -> Self:
        return cls(*_unnoised_fields(b"OPEN", data, size))


@dataclass(frozen=True, slots=True)
class ClippedUpdate:
    """A client's contribution under `client_level`: clipped, *not* noised. The coordinator is trusted with it.

    Of L2 norm ≤ C (kind "update") or ≤ 1 (kind "histogram"), to float32's rounding; who receives it clips
    again. A site builds one only where its policy says `allow_client_level`.
    """

    site: str
    round: int
    kind: Literal["update", "histogram"]
    vector: Vector

    def to_bytes(self) -> bytes:
        return _unnoised_bytes(b"CLIP", self)

    @classmethod
    def from_bytes(cls, data: bytes, size: int | None) -> Self:
        return cls(*_unnoised_fields(b"CLIP", data, size))


def _unnoised_bytes(message: bytes, update: OpenUpdate | ClippedUpdate, *, exact: bool = False) -> bytes:
    header = {"site": update.site, "round": update.round, "kind": update.kind}
    return pack(message, header, update.vector, exact=exact)


def _unnoised_fields(
    message: bytes, data: bytes, size: int | None
) -> tuple[str, int, Literal["update", "histogram"], Vector]:
    """Site, round, kind and vector of a message of that name. Raises MessageError."""
    header, vector = unpack(message, data, size)
    kind = typed(header, "kind", str)
    if kind not in ("update", "histogram"):
        raise MessageError("kind update or histogram", "another kind", "the message was discarded")
    return typed(header, "site", str), typed(header, "round", int), kind, vector


@dataclass(frozen=True, slots=True)
class AggregatedUpdate:
    """The weighted mean of a round's updates, (P,), and who is in it."""

    round: int
    vector: Vector
    sites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with a two-sided confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The global model's performance on one set of scores.

    `metrics` maps names (auroc, pr_auc, accuracy, precision, recall, specificity, f1, …) to
    intervals; `confusion` is (classes, classes), rows true. `roc` and `reliability` are curves
    for the report: `roc` (points, 2) of (false, true positive rate), `reliability` (bins, 3) of
    (mean predicted, observed, weight). `source` is "public" (the server's own set) or "sites"
    (from DP histograms). `omitted` says of each metric that does not exist on these scores why;
    no metric is NaN.
    """

    source: Literal["public", "sites"]
    examples: int
    metrics: Mapping[str, Interval]
    confusion: npt.NDArray[np.int64]
    roc: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    reliability: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    omitted: Mapping[str, str] = field(default_factory=dict)
