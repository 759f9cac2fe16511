"""Labels, masks and patients: how many there are of each, and what to do about it without telling anybody.

Exact counts of classes are patient data. A class weight computed from them and sent to a coordinator in a
configuration would be a release that no ledger has charged; what is suggested here is coarse, for the operator's own
judgement, and belongs into a configuration only if it also follows from something public.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedimg.quality.finding import Finding, Kind, Severity
from fedimg.quality.measuring import Measured

IMBALANCED = 4.0
MANY_IMAGES = 20.0
_LARGEST_WEIGHT = 10


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Training images by class.

    Attributes:
        counts: name → images. effective: name → their effective number (Y. Cui et al., CVPR 2019), (1 − βⁿ)/(1 − β)
            with β = 1 − 1/N of all N images.
        weights: coarse, one a class, 1 for the largest; None where classes are balanced or one is empty.
    """

    counts: Mapping[str, int]
    effective: Mapping[str, float]
    weights: tuple[int, ...] | None


def class_counts(measured: Measured) -> ClassCounts:
    """Of usable training images that have a label."""
    classes = measured.source.classes
    found: Counter[int] = Counter()
    for sample, usable in zip(measured.samples, measured.usable(), strict=True):
        if usable and sample.label is not None and sample.part != "public":
            found[sample.label] += 1
    number_of_classes = max(len(classes), max(found, default=-1) + 1)
    names = [classes[k] if k < len(classes) else f"class {k}" for k in range(number_of_classes)]
    counts = [found[k] for k in range(number_of_classes)]
    return ClassCounts(
        dict(zip(names, counts, strict=True)),
        dict(zip(names, effective_numbers(counts), strict=True)),
        coarse_weights(counts),
    )


def effective_numbers(counts: Sequence[int]) -> list[float]:
    """(1 − βⁿ)/(1 − β): n for few images, near N·(1 − 1/e) for all of them."""
    total = sum(counts)
    if total < 2:
        return [float(n) for n in counts]
    beta = 1 - 1 / total
    return [(1 - beta**n) / (1 - beta) for n in counts]


def coarse_weights(counts: Sequence[int]) -> tuple[int, ...] | None:
    """Largest count ÷ count, to the next of 1, 2, 3, 5 and 10; None where that is 1 everywhere, or a class is empty."""
    if len(counts) < 2 or min(counts) < 1:
        return None
    steps = np.array([1, 2, 3, 5, _LARGEST_WEIGHT])
    ratios = max(counts) / np.asarray(counts, np.float64)
    nearest = np.abs(np.log(ratios[:, None]) - np.log(steps[None])).argmin(axis=1)
    weights = tuple(int(steps[k]) for k in nearest)
    return weights if max(weights) > 1 else None


def images_per_patient(measured: Measured) -> list[int]:
    """Usable training images of each patient who is named, most first."""
    counts: Counter[str] = Counter()
    for index, usable in enumerate(measured.usable()):
        patient = measured.patient(index)
        if usable and patient is not None and measured.samples[index].part != "public":
            counts[patient] += 1
    return sorted(counts.values(), reverse=True)


def find_gaps(measured: Measured) -> Iterator[Finding]:
    """What cannot be used, names no patient, has no label or mask; classes and patients that outweigh the others."""
    yield from _unusable(measured)
    usable = np.flatnonzero(measured.usable()).tolist()
    nobody = [i for i in usable if measured.patient(i) is None]
    if nobody:
        text = "images without a patient number: the intake holds them back"
        yield Finding(Kind.NO_PATIENT, Severity.WARNING, len(nobody), text, _one_by_one(nobody))
    if measured.source.labelled:
        without = [i for i in usable if measured.samples[i].label is None]
        if without:
            text = "images without a label: the intake holds them back"
            yield Finding(Kind.UNLABELLED, Severity.WARNING, len(without), text, _one_by_one(without))
        yield from _imbalance(measured)
    masked = {measured.taken[i].kind for i in usable if measured.samples[i].has_mask}
    positive = [
        i for i in usable if (measured.samples[i].label or 0) > 0 and measured.taken[i].kind in masked
    ]
    bare = [i for i in positive if not measured.samples[i].has_mask]
    if bare:
        text = "positive images without a mask, where others of their modality have one"
        yield Finding(Kind.MISSING_MASK, Severity.WARNING, len(bare), text, _one_by_one(bare))
    yield from _crowded(measured)


def _unusable(measured: Measured) -> Iterator[Finding]:
    reasons: dict[str, list[int]] = defaultdict(list)
    for index, taken in enumerate(measured.taken):
        if taken.reason:
            reasons[taken.reason].append(index)
    for reason, indices in sorted(reasons.items()):
        text = f"inputs that cannot be used: {reason}"
        yield Finding(Kind.CANNOT_BE_USED, Severity.WARNING, len(indices), text, _one_by_one(indices))
    for reason, count in sorted((measured.source.held_back or {}).items()):
        text = f"inputs that the source itself holds back: {reason}"
        yield Finding(Kind.HELD_BACK_BY_SOURCE, Severity.WARNING, count, text)


def _imbalance(measured: Measured) -> Iterator[Finding]:
    found = class_counts(measured)
    if len(found.counts) < 2 or not sum(found.counts.values()):
        return
    most, least = max(found.counts.values()), min(found.counts.values())
    if least and most / least < IMBALANCED:
        return
    ratio = (
        f"{most / least:.1f} times as many images as the smallest"
        if least
        else "images, and another has none"
    )
    yield Finding(Kind.CLASS_IMBALANCE, Severity.WARNING, 1, f"the largest class has {ratio}")


def _crowded(measured: Measured) -> Iterator[Finding]:
    counts = images_per_patient(measured)
    if not counts:
        return
    typical = float(np.median(counts))
    many = sum(count > MANY_IMAGES * typical for count in counts)
    if many:
        text = (
            f"patients with over {MANY_IMAGES:g} times the median of images: their share is clipped like anybody's, "
            "and most of what they show is lost"
        )
        yield Finding(Kind.PATIENT_WITH_MANY_IMAGES, Severity.NOTE, many, text)


def _one_by_one(indices: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((index,) for index in indices)
