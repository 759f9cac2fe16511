"""Which files make one example of several modalities, and what becomes of those that cannot be used.

Of a modality that was acquired several times the longest series counts (localisers are short), of equally long ones
the first by pseudonym; where one cannot be used the next one does. Nothing here depends on another patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from fedimg.imaging.cache import LASTING, VolumeCache
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.preprocessing import Prepared
from fedimg.imaging.together import Windowed, prepare_together, windowed
from fedimg.values import DecodedImage, DeidentifiedRecord, Quarantine

Records = Sequence[DeidentifiedRecord]
Open = Callable[[DeidentifiedRecord], DecodedImage]


class _NotKeptError(Exception):
    """An example that lacks what another time may be there: the cache is not to remember it."""

    def __init__(self, prepared: list[Prepared]) -> None:
        super().__init__()
        self.prepared = prepared


def groups(ordered: Records, config: ImagingConfig) -> Iterator[list[DeidentifiedRecord]]:
    """By patient, or by study: the files of `config.together` among records that are ordered by patient."""

    def example(record: DeidentifiedRecord) -> tuple[str, ...]:
        return (record.patient_key, record.study_key)[: 1 if config.unit == "patient" else 2]

    wanted = sorted((r for r in ordered if r.modality in config.together), key=example)
    return (list(own) for _, own in groupby(wanted, key=example))


def is_drawn(group: Records) -> bool:
    """Whether a class of every voxel follows from the group: it is drawn on a file, or there is nothing to draw."""
    return any(r.target for r in group) or all(r.label == 0 for r in group)


def others(records: Records, config: ImagingConfig) -> int:
    """How many files are of no modality that is asked for: for the site's operator."""
    return sum(r.modality not in config.together for r in records) if config.together else 0


def prepared(
    group: Records, open_one: Open, cache: VolumeCache, config: ImagingConfig, drawn_as: str
) -> list[Prepared]:
    """One example of a group's files, through the cache. Raises Rejected where no modality can be used.

    `drawn_as` names what a voxel's class follows from; "" where nothing is drawn.
    """

    def make() -> list[Prepared]:
        refusals: list[Rejected] = []
        found = [
            _first_usable(_candidates(group, name, config), open_one, config, refusals)
            for name in config.together
        ]
        passing = [refusal for refusal in refusals if refusal.reason not in LASTING]
        if not any(found) and refusals:
            raise (passing or refusals)[0]
        made = [prepare_together(found, config)]
        if passing:
            raise _NotKeptError(made)
        return made

    parts = sorted(
        "/".join(
            (r.modality, r.series_key, r.sha256, *((r.target, str(r.label), drawn_as) if drawn_as else ()))
        )
        for r in group
    )
    content = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    try:
        return cache.get_or_make(content, config.digest, make)
    except _NotKeptError as made:
        return made.prepared


def lost(group: Records, made: Sequence[Prepared], config: ImagingConfig) -> int:
    """How many modalities have files in the group and are missing in the example: for the site's operator."""
    first = config.planes.pixels
    return sum(
        bool(_of(group, name)) and not one.image_CDHW[first + place].any()
        for one in made
        for place, name in enumerate(config.together)
    )


def _of(group: Records, modality: str) -> list[list[DeidentifiedRecord]]:
    """The series of a modality, the one to take first."""
    own = sorted((r for r in group if r.modality == modality), key=lambda r: (r.series_key, r.study_key))
    series = [list(members) for _, members in groupby(own, key=lambda r: (r.series_key, r.study_key))]
    return sorted(series, key=len, reverse=True)


def _candidates(group: Records, modality: str, config: ImagingConfig) -> list[list[DeidentifiedRecord]]:
    series = _of(group, modality)
    if config.dimensions == 3:
        return series
    # views of a projection share a series and are no stack: there each file is a picture of its own
    return [*series, *([record] for own in series for record in own if len(own) > 1)]


def _first_usable(
    series: Sequence[Records], open_one: Open, config: ImagingConfig, refusals: list[Rejected]
) -> Windowed | None:
    """None where there is none; what was refused is added to `refusals`."""
    for files in series:
        try:
            return windowed([open_one(record) for record in files], config)
        except Rejected as refusal:
            refusals.append(refusal)
        except Exception:  # noqa: BLE001 - as in loading: one file may make a library fail in ways of its own
            refusals.append(Rejected(Quarantine.UNSAFE_STRUCTURE))
    return None
