"""The same image twice: within a patient, under two patients, in two parts of the data, at two sites.

Under two patients is the serious one: the privacy unit is the patient, and whoever is two of them has twice the
share that every bound counts on. In two parts (training and validation or public) a measured accuracy is that of
images the model was trained on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedimg.quality.finding import Finding, Kind, Severity
from fedimg.quality.measuring import Measured
from fedimg.quality.near import NearConfig, near_pairs
from fedimg.values import NO_CLASS

_EXPLAINED: dict[Kind, tuple[Severity, str]] = {
    Kind.COPY_ACROSS_PATIENTS: (
        Severity.SERIOUS,
        "the same image under two patients: one person may be two privacy units; correct the patient numbers",
    ),
    Kind.NEAR_COPY_ACROSS_PATIENTS: (
        Severity.SERIOUS,
        "nearly the same image under two patients: look at the pairs; if it is one person, as above",
    ),
    Kind.COPY_ACROSS_PARTS: (
        Severity.SERIOUS,
        "the same image in two of training, validation and public set: leave it out of training",
    ),
    Kind.NEAR_COPY_ACROSS_PARTS: (
        Severity.SERIOUS,
        "nearly the same image in two of training, validation and public set: look at the pairs",
    ),
    Kind.COPY_ACROSS_SITES: (
        Severity.SERIOUS,
        "the same image at two sites: its patient is counted at both; raise data.max_sites_per_patient or leave one out",
    ),
    Kind.NEAR_COPY_ACROSS_SITES: (
        Severity.SERIOUS,
        "nearly the same image at two sites: look at the pairs",
    ),
    Kind.COPY_WITH_ANOTHER_LABEL: (
        Severity.SERIOUS,
        "the same image with two labels: one of them is wrong",
    ),
    Kind.COPY_WITHOUT_PATIENT: (
        Severity.WARNING,
        "the same or nearly the same image, and one of the two names no patient",
    ),
    Kind.COPY_WITHIN_PATIENT: (
        Severity.WARNING,
        "the same image of one patient more than once: imaging.cleaning.drop_duplicates keeps one",
    ),
    Kind.NEAR_COPY_WITHIN_PATIENT: (
        Severity.NOTE,
        "nearly the same image of one patient in two series",
    ),
}


@dataclass(frozen=True, slots=True)
class Copies:
    """Findings, and the pairs behind them: (i, j, exact)."""

    findings: tuple[Finding, ...]
    pairs: tuple[tuple[int, int, bool], ...]


def find_copies(measured: Measured, config: NearConfig) -> Copies:
    """All copies and near-copies. Images that cannot be used are like none; slices of one series may be alike."""
    exact = list(_exact(measured))
    pairs = [(i, j, True) for i, j in exact]
    usable = np.flatnonzero(measured.usable())
    found, _ = near_pairs(measured.thumbnails[usable], config, _series(measured)[usable])
    for i, j in usable[found].tolist():
        if measured.taken[i].digest != measured.taken[j].digest:
            pairs.append((i, j, False))
    by_kind: dict[Kind, list[tuple[int, ...]]] = defaultdict(list)
    for i, j, same in pairs:
        for kind in _kinds(measured, i, j, exact=same):
            by_kind[kind].append((i, j))
    findings = [
        Finding(kind, *_severity(kind, len(by_kind[kind])), tuple(by_kind[kind]))
        for kind in Kind
        if by_kind[kind]
    ]
    return Copies((*findings, *_divided(measured)), tuple(pairs))


def _severity(kind: Kind, count: int) -> tuple[Severity, int, str]:
    severity, text = _EXPLAINED[kind]
    return severity, count, text


def _exact(measured: Measured) -> Iterator[tuple[int, int]]:
    """The first of each group of equal images with each of the others: whatever differs, differs from the first."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index in np.flatnonzero(measured.usable()).tolist():
        groups[measured.taken[index].digest].append(index)
    for first, *others in groups.values():
        for other in others:
            yield first, other


def _series(measured: Measured) -> npt.NDArray[np.int64]:
    """(N,) a number for each series of each patient, −1 where there is none."""
    numbers: dict[tuple[str | None, str], int] = {}
    of_image = [
        -1 if taken.series is None else numbers.setdefault((taken.patient, taken.series), len(numbers))
        for taken in measured.taken
    ]
    return np.array(of_image, np.int64)


def _kinds(measured: Measured, i: int, j: int, *, exact: bool) -> Iterator[Kind]:
    """What a pair is; it may be several things at once."""
    one, other = measured.samples[i], measured.samples[j]
    patients = measured.patient(i), measured.patient(j)
    if None in patients:
        yield Kind.COPY_WITHOUT_PATIENT
    elif patients[0] != patients[1]:
        yield Kind.COPY_ACROSS_PATIENTS if exact else Kind.NEAR_COPY_ACROSS_PATIENTS
    elif one.part == other.part and one.site == other.site:
        yield Kind.COPY_WITHIN_PATIENT if exact else Kind.NEAR_COPY_WITHIN_PATIENT
    if one.part != other.part:
        yield Kind.COPY_ACROSS_PARTS if exact else Kind.NEAR_COPY_ACROSS_PARTS
    elif one.site != other.site:
        yield Kind.COPY_ACROSS_SITES if exact else Kind.NEAR_COPY_ACROSS_SITES
    if exact and {None, NO_CLASS}.isdisjoint((one.label, other.label)) and one.label != other.label:
        yield Kind.COPY_WITH_ANOTHER_LABEL


def _divided(measured: Measured) -> Iterable[Finding]:
    """Patients in two parts, or at two sites."""
    parts: dict[str, dict[str, int]] = defaultdict(dict)
    sites: dict[str, dict[str, int]] = defaultdict(dict)
    for index, sample in enumerate(measured.samples):
        patient = measured.patient(index)
        if patient is not None:
            parts[patient].setdefault(sample.part, index)
            if sample.part != "public":
                sites[patient].setdefault(sample.site, index)
    texts = (
        (
            Kind.PATIENT_IN_TWO_PARTS,
            parts,
            "patients with images in two of training, validation and public set",
        ),
        (
            Kind.PATIENT_AT_TWO_SITES,
            sites,
            "patients with images at two sites: each site counts them as its own",
        ),
    )
    for kind, places, text in texts:
        where = [tuple(found.values()) for found in places.values() if len(found) > 1]
        if where:
            yield Finding(kind, Severity.SERIOUS, len(where), text, tuple(where))
