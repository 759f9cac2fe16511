"""Released files with their labels → one site's data set, through the cache."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from fedimg.imaging import cleaning, patients, preprocessing
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
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
    records: Sequence[DeidentifiedRecord], decode: Decode, cache: VolumeCache, config: ImagingConfig
) -> LoadedImages:
    """Decode, prepare and order all records; one bad file is counted and left out, never fatal.

    Guarantee: the result does not depend on the order of `records`; what one patient contributes
    does not depend on any other patient's files. With `unit="series"` each series becomes one
    example; it has the highest class index among its slices (a series with one positive
    slice is positive).
    """
    ordered = sorted(records, key=lambda r: (r.patient_key, r.series_key, r.instance_key, r.sha256))
    groups = [[record] for record in ordered]
    if config.unit == "series":
        groups = [
            list(members) for _, members in groupby(ordered, key=lambda r: (r.patient_key, r.series_key))
        ]
    volumes: list[Volume] = []
    held_back: Counter[Quarantine] = Counter()
    for group in groups:
        try:
            prepared = _prepared(group, decode, cache, config)
        except Rejected as refusal:
            held_back[refusal.reason] += 1
            continue
        # One patient's file may make a library fail in ways of its own; that the site then declined would
        # be an answer about this patient.
        except Exception:  # noqa: BLE001
            held_back[Quarantine.UNSAFE_STRUCTURE] += 1
            continue
        record = replace(group[0], label=max(r.label for r in group))
        volumes += preprocessing.to_volumes(prepared, record)
    if config.cleaning.drop_duplicates:
        volumes, dropped = cleaning.drop_duplicates(volumes)
        held_back.update({Quarantine.DUPLICATE: dropped} if dropped else {})
    return LoadedImages(patients.build_dataset(volumes, config), held_back)


def _prepared(
    group: Sequence[DeidentifiedRecord], decode: Decode, cache: VolumeCache, config: ImagingConfig
) -> list[Prepared]:
    def open_one(record: DeidentifiedRecord) -> DecodedImage:
        image = decode(record)
        if isinstance(image, Quarantine):
            raise Rejected(image, "a released file that does not decode")
        return image

    def make() -> list[Prepared]:
        if config.unit == "series":
            return preprocessing.prepare_series([open_one(r) for r in group], config)
        return preprocessing.prepare(open_one(group[0]), config)

    content = group[0].sha256
    if len(group) > 1:
        content = hashlib.sha256("".join(sorted(r.sha256 for r in group)).encode()).hexdigest()
    return cache.get_or_make(content, config.digest, make)
