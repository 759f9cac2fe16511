"""What the engine is told of an input beside its bytes, from the survey of all inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from fedimg.dicom import attributes, graphics, structure
from fedimg.dicom.deidentify import Hints
from fedimg.dicom.encoder import Element
from fedimg.dicom.graphics import Graphics
from fedimg.dicom.reader import parse, read_capped
from fedimg.dicom.refusal import contained
from fedimg.dicom.structure import StoredImage
from fedimg.intake.index import SubjectHints

_CACHED_SERIES = 32
_LARGEST_SAMPLE = 1 << 25  # bytes: longer files are cines, which compare their own frames
# The Image Pixel module's attributes (PS3.3 C.7.6.3) that say how to read pixel data.
_SIZES = tuple(0x00280000 | element for element in (2, 4, 6, 8, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103))


class InputHints:
    """Hints by run position. Without an index an input stands alone."""

    def __init__(self, index: Path | None) -> None:
        self._index = index
        self._graphics = lru_cache(_CACHED_SERIES)(self._graphics_of)

    @cached_property
    def _subjects(self) -> SubjectHints | None:
        """Opened at the first input: a child process starts while the survey still writes."""
        return SubjectHints(self._index) if self._index is not None else None

    def of(self, position: int, patient_id: str | None, words: tuple[str, ...], *, digitised: bool) -> Hints:
        """For one input; see `Hints`."""
        if self._subjects is None:
            return Hints(patient_id, words, digitised)
        series = self._subjects.series(position)
        drawn = self._graphics(series) if series is not None else None
        return Hints(patient_id, words, digitised, self._subjects.needles(position), drawn)

    def needles(self, position: int) -> frozenset[bytes]:
        """Identifiers of all files of the input's subject; one object for all of them."""
        return self._subjects.needles(position) if self._subjects is not None else frozenset()

    def _graphics_of(self, series: int) -> Graphics | None:
        """What all sampled images of a series have in common; the same in every process."""
        samples = self._subjects.samples(series) if self._subjects is not None else ()
        if len(samples) < graphics.FEWEST:
            return None
        return graphics.of_series(_images(samples))


def _images(samples: Sequence[Path]) -> Iterator[StoredImage]:
    """The samples that decode; the others get their decision when they are taken in."""
    for path in samples:
        try:
            with contained():
                yield stored_image(read_capped(path, _LARGEST_SAMPLE))
        # Whatever a parser or codec meets in a strange file: it is no sample then.
        except Exception:  # noqa: BLE001, S112
            continue


def stored_image(data: bytes) -> StoredImage:
    """Stored values of an input, by the sizes that its own header gives. Raises Quarantined."""
    dataset = parse(data)
    kept = {}
    for tag in _SIZES:
        if tag in dataset:
            element, vr = dataset.get_item(tag), attributes.dictionary_vr(tag) or "UN"
            raw = attributes.raw_value(element, ())
            kept[tag] = Element(tag, vr, attributes.little_endian(element, raw, vr))
    return structure.decode(dataset, kept)
