"""Released files with their labels → one site's data set, through the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from fedimg.imaging import cleaning, features, patients, preprocessing, studies
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.findings import findings_of
from fedimg.imaging.labels import Kinds, check_any, of_group, of_voxels
from fedimg.imaging.preprocessing import Prepared
from fedimg.values import DecodedImage, DeidentifiedRecord, Quarantine, SiteDataset, Volume

Decode = Callable[[DeidentifiedRecord], DecodedImage | Quarantine]
"""Opens one released file, or says why it cannot."""


@dataclass(frozen=True)
class LoadedImages:
    """A site's examples, and how many files (in a series: series) were held back, by reason.

    The counts are for the site's own operator; they depend on patients and do not leave the site.
    """

    dataset: SiteDataset
    held_back: Counter[Quarantine]


def load_dataset(
    records: Sequence[DeidentifiedRecord],
    decode: Decode,
    cache: VolumeCache,
    config: ImagingConfig,
    *,
    labels: Kinds = "class",
) -> LoadedImages:
    """Decode, prepare and order all records; one bad file is counted and left out, never fatal.

    Guarantee: the result does not depend on the order of `records`; what one patient contributes
    does not depend on any other patient's files. With `unit="series"` each series becomes one
    example; it has the highest class index among its slices (a series with one positive
    slice is positive). So with `together` a study or a patient, of the named modalities' files; whoever has
    none of them is no example, and one that cannot be used counts as missing.

    `labels` says what of. "voxels" and "places": an image over which nothing is drawn has class 0 everywhere if that
    is its label, and is held back if it has another. "findings": labels are sums of 2^k, and a series has
    those of all its slices. "number": an image without one is held back; a series has its slices' largest. Of several
    kinds an image that lacks one keeps the others, and is held back where it lacks all.
    """
    voxels, several = of_voxels(labels), not isinstance(labels, str)
    volumes: list[Volume] = []
    held_back: Counter[Quarantine] = Counter()
    if others := studies.others(records, config):
        held_back[Quarantine.OBJECT_TYPE] += others
    for group in _groups(records, config):
        try:
            record = of_group(group, labels, one_is_enough=bool(config.together))
            # of several modalities one may be drawn on: whether any is, is asked of all of them
            opened = partial(_opened, decode, voxels, several or bool(config.together))
            if config.together and voxels and not studies.is_drawn(group):
                if not several:
                    raise Rejected(Quarantine.NO_LABEL, "a finding that nobody has drawn")
                opened = partial(_opened, decode, False, several)
            prepared = _prepared(group, opened, cache, config, _drawn_as(voxels, several))
            if voxels and not several and any(one.labels_DHW is None for one in prepared):
                raise Rejected(Quarantine.NO_LABEL, "a finding drawn on a file that cannot be used")
            if not isinstance(labels, str):
                check_any(record, labels, drawn=prepared[0].labels_DHW is not None)
            if labels == "places" and any(_too_many(one) for one in prepared):
                raise Rejected(Quarantine.WRONG_SHAPE, "a mask of more parts than an image has findings")
        except Rejected as refusal:
            held_back[refusal.reason] += 1
            continue
        # One patient's file may make a library fail in ways of its own; that the site then declined would
        # be an answer about this patient.
        except Exception:  # noqa: BLE001
            held_back[Quarantine.UNSAFE_STRUCTURE] += 1
            continue
        if lost := studies.lost(group, prepared, config):
            held_back[Quarantine.WRONG_SHAPE] += lost
        beside = features.of_records(group)
        volumes += features.with_planes(preprocessing.to_volumes(prepared, record), beside, config)
    if config.cleaning.drop_duplicates:
        volumes, dropped = cleaning.drop_duplicates(volumes)
        held_back.update({Quarantine.DUPLICATE: dropped} if dropped else {})
    return LoadedImages(patients.build_dataset(volumes, config, labels), held_back)


def _groups(
    records: Sequence[DeidentifiedRecord], config: ImagingConfig
) -> Iterator[list[DeidentifiedRecord]]:
    """The files of each example, in an order that is theirs alone."""
    if not config.together:
        return iter(grouped(records, config.unit))
    return studies.groups(_ordered(records), config)


def _ordered(records: Sequence[DeidentifiedRecord]) -> list[DeidentifiedRecord]:
    return sorted(records, key=lambda r: (r.patient_key, r.series_key, r.instance_key, r.sha256))


def grouped(records: Sequence[DeidentifiedRecord], unit: str) -> list[list[DeidentifiedRecord]]:
    """Records that are one example, or one file's examples, together; ordered by patient, whatever their order was.

    Args: unit: "image" or "series".
    """
    ordered = _ordered(records)
    if unit == "image":
        return [[record] for record in ordered]
    return [list(members) for _, members in groupby(ordered, key=lambda r: (r.patient_key, r.series_key))]


def _too_many(prepared: Prepared) -> bool:
    return prepared.labels_DHW is not None and findings_of(prepared.labels_DHW) is None


def _drawn_as(voxels: bool, several: bool) -> str:
    """Names what a voxel's class follows from, for the cache: among several kinds it may be missing."""
    return "" if not voxels else "several" if several else "voxels"


def _opened(decode: Decode, voxels: bool, several: bool, record: DeidentifiedRecord) -> DecodedImage:
    image = decode(record)
    if isinstance(image, Quarantine):
        raise Rejected(image, "a released file that does not decode")
    if not voxels:
        return replace(image, labels_DHW=None)
    if image.labels_DHW is None and record.label != 0:
        if several:
            return image
        raise Rejected(Quarantine.NO_LABEL, "a finding that nobody has drawn")
    empty = np.zeros(image.pixels_DHW.shape, np.uint8)
    return image if image.labels_DHW is not None else replace(image, labels_DHW=empty)


def _prepared(
    group: Sequence[DeidentifiedRecord],
    open_one: Callable[[DeidentifiedRecord], DecodedImage],
    cache: VolumeCache,
    config: ImagingConfig,
    drawn_as: str,
) -> list[Prepared]:
    if config.together:
        return studies.prepared(group, open_one, cache, config, drawn_as)

    def make() -> list[Prepared]:
        if config.unit == "series":
            return preprocessing.prepare_series([open_one(r) for r in group], config)
        return preprocessing.prepare(open_one(group[0]), config)

    content = group[0].sha256
    if len(group) > 1 or drawn_as:  # what a voxel's class follows from is part of the content then
        more = "" if drawn_as != "several" else drawn_as
        parts = sorted(f"{r.sha256}{r.target}{r.label}{more}" if drawn_as else r.sha256 for r in group)
        content = hashlib.sha256("".join(parts).encode()).hexdigest()
    return cache.get_or_make(content, config.digest, make)
