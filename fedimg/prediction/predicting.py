"""Files of one series → what the model says of it, and where.

The network's own answer comes first. Only where a series is called is it asked where: of voxels or places that the
network has learnt, else of what its score rests on (`attention`), at once or later (`attended`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedimg.bundle import Finding, Output
from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.imaging.way_back import source_voxels, taken_back
from fedimg.prediction import places, reading
from fedimg.prediction.attention import Begun, covered_map
from fedimg.prediction.examples import Example, Examples, Stack, examples_of, picture
from fedimg.prediction.loading import Model
from fedimg.prediction.measures import embedding_of, measures_of
from fedimg.prediction.places import Place
from fedimg.prediction.reading import Reading
from fedimg.prediction.results import Analysis, Found, NotFinite, Prediction, Region
from fedimg.values import FloatArray

ATTENTION = "attention, not an outline: "
NO_PLACE = "no single place"
SCORE_ALONE = "a score without a place"
_UNCODED = Code("404684003", "SCT", "Clinical finding")


@dataclass(frozen=True, slots=True)
class _Where:
    """Where it is on which stack; of mask, box and attention at most one is there."""

    stack: Stack
    place: Place | None
    shown: int
    mask: npt.NDArray[np.bool_] | None = None
    box: Region | None = None
    attention: FloatArray | None = None


def predict(
    model: Model, files: Sequence[Path], *, always_where: bool = False, attention: bool = True
) -> Analysis:
    """Of the files of one series that was routed to the model, whatever their order.

    Guarantee: the images' floats are those of training on the same pixels; the result does not depend on the files'
    names or order. Args: always_where: look for a place also where nothing is called. attention: where nothing is
    outlined or boxed, look at what the score rests on; that takes some 30 images' time, which an alert may not have.

    Raises DataError: the series cannot be used. It is then not analysed, which is no result. NotFinite: the model failed.
    """
    started = time.perf_counter()
    found = examples_of(files, model.imaging)
    logits, features = model.run(found.images)
    said = model.metadata
    with np.errstate(all="ignore"):  # what is not finite is refused in the next line
        read = reading.read(logits, said)
        measures = measures_of(found, read, model.imaging)
        embedding = embedding_of(found.images, features)
    _checked((read.score, *read.scores.values(), *measures.values(), *embedding))
    called = said.threshold is not None and read.score >= said.threshold
    where = _nowhere(found, read)
    if called or always_where:
        where = _where(model, found, logits, read, attention=attention)
    owed = called and not attention and where.place is None
    prediction = Prediction(
        model_name=said.name,
        model_version=said.version,
        model_digest=model.digest,
        kind=said.kind,
        series_uid=found.originals[0].series_uid,
        scores=read.scores,
        score=read.score,
        threshold=said.threshold,
        called=called,
        found=_found(model, found, read, where, owed=owed) if called else (),
        measures=measures,
        embedding=embedding,
        seconds=time.perf_counter() - started,
    )
    return _analysis(model, found, where, prediction, read.best if owed else None)


def attended(
    model: Model,
    files: Sequence[Path],
    before: Prediction,
    owed: int,
    inputs: str,
    begun: Begun | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> Analysis | None:
    """What a call rests on, after it: `predict` without attention, then this, say what `predict` says at once.

    Args: before, owed, inputs: of the analysis that owes it. begun, go_on: as of `covered_map`; None is the answer where
        `go_on` says no.

    Raises DataError where the files are not the very ones that were looked at.
    """
    found = examples_of(files, model.imaging)
    if found.inputs != inputs or not 0 <= owed < len(found.examples):
        raise DataError("the images that were looked at", "others by now", "the alert stays as it is")
    where = _attended(model, found, owed, begun, go_on)
    if where is None:
        return None
    image = found.originals[where.stack.planes[where.shown][0]].sop_uid
    text = _words(found, where)
    located = tuple(replace(one, where=text, image=image) for one in before.found)
    return _analysis(model, found, where, replace(before, found=located), None)


def _analysis(
    model: Model, found: Examples, where: _Where, prediction: Prediction, owed: int | None
) -> Analysis:
    return Analysis(
        prediction,
        found.originals[0].study_uid,
        found.inputs,
        found.originals,
        where.stack.planes,
        where.mask,
        where.shown,
        picture(where.stack, where.shown, model.imaging),
        where.attention,
        where.box,
        owed,
    )


def _checked(numbers: Iterable[float]) -> None:
    if not all(math.isfinite(one) for one in numbers):
        raise NotFinite


def _words(found: Examples, where: _Where) -> str:
    place = where.place
    text = NO_PLACE if place is None else places.words(place, where.stack, found.originals) or NO_PLACE
    return text if where.attention is None else f"{ATTENTION}{text}"


def _score_alone(found: Examples, read: Reading) -> str:
    """In words that stay true whatever attention says later: an image by itself is at least a slice."""
    best = found.examples[read.best]
    one = best.last - best.first == 1
    at = places.slice_words(best.first, found.stacks[best.stack], found.originals) if one else ""
    return f"{SCORE_ALONE}, highest in {at}" if at else SCORE_ALONE


def _found(model: Model, found: Examples, read: Reading, where: _Where, *, owed: bool) -> tuple[Found, ...]:
    name = model.metadata.classes[read.kind]
    said = next(
        (one for one in model.metadata.findings if one.of_class == name), Finding(name, _UNCODED, None)
    )
    place = where.place
    outlined = where.attention is None and place is not None
    number, _ = where.stack.planes[where.shown]
    one = Found(
        finding=name,
        code=said.code,
        site=said.site,
        score=read.scores[name],
        where=_score_alone(found, read) if owed else _words(found, where),
        size_mm=place.size_mm if outlined and place is not None else None,
        image=found.originals[number].sop_uid,
        centre_mm=place.centre_mm if outlined and place is not None else None,
    )
    return (one,)


def _nowhere(found: Examples, read: Reading) -> _Where:
    best = found.examples[read.best]
    return _Where(found.stacks[best.stack], None, (best.first + best.last - 1) // 2)


def _where(model: Model, found: Examples, logits: torch.Tensor, read: Reading, *, attention: bool) -> _Where:
    if (output := model.output("segmentation")) is not None:
        where = _outlined(found, reading.part(logits, output), read, output)
        if where is not None:
            return where
    if (output := model.output("detection")) is not None:
        return _boxed(found, reading.part(logits, output), read)
    attended = _attended(model, found, read.best) if attention else None
    return attended or _nowhere(found, read)


def _outlined(found: Examples, logits: torch.Tensor, read: Reading, output: Output) -> _Where | None:
    """On the grid of the stack where most is outlined; None where nothing is."""
    kind = read.kind if 0 < read.kind < output.shape[0] else None
    each = reading.outlined(logits, kind)
    sizes = [0] * len(found.stacks)
    for example, mask in zip(found.examples, each, strict=True):
        sizes[example.stack] += int(mask.sum())
    chosen = int(np.argmax(sizes))
    if not sizes[chosen]:
        return None
    stack = found.stacks[chosen]
    whole = np.zeros(stack.image.pixels_DHW.shape, bool)
    for example, mask in zip(found.examples, each, strict=True):
        if example.stack == chosen:
            whole[example.first : example.last] |= taken_back(_deep(mask), example.way)
    if not whole.any():  # a voxel that lies in the padding only
        return None
    place = places.of_mask(whole, stack, found.originals)
    return _Where(stack, place, place.slice, mask=whole)


def _boxed(found: Examples, logits: torch.Tensor, read: Reading) -> _Where:
    """Of the best finding of the image with the best score."""
    example = found.examples[read.best]
    axes = logits.dim() - 2
    kind = read.kind if read.kind > 0 else None
    _, *numbers = reading.best_place(logits[read.best], kind)
    centre, size = [0.0] * (3 - axes) + numbers[:axes], [1.0] * (3 - axes) + numbers[axes : 2 * axes]
    at, extent = (
        _on_grid(example, centre),
        _turned_back(example, [length * example.way.scale[axis] for axis, length in enumerate(size)]),
    )
    stack = found.stacks[example.stack]
    at = (at[0] + example.first, at[1], at[2])
    place = places.of_point(at, stack, found.originals, max(extent[1:]))
    half_h, half_w = extent[1] / 2, extent[2] / 2
    height, width = stack.image.pixels_DHW.shape[1:]
    box = Region(
        max(at[1] - half_h, 0.0),
        max(at[2] - half_w, 0.0),
        min(at[1] + half_h, height - 1.0),
        min(at[2] + half_w, width - 1.0),
    )
    return _Where(stack, place, place.slice, box=box)


def _attended(
    model: Model,
    found: Examples,
    best: int,
    begun: Begun | None = None,
    go_on: Callable[[], bool] = lambda: True,
) -> _Where | None:
    """Where the score of the best image rests on; no place where it rests on none, None where `go_on` says no."""
    example, said = found.examples[best], model.metadata

    def score(images: torch.Tensor) -> npt.NDArray[np.float64]:
        return reading.logit(reading.read(model.run(images)[0], said).by_image)

    flat = covered_map(found.images[best], score, begun, go_on)
    if flat is None:
        return None
    heat = _deep(flat)
    stack = found.stacks[example.stack]
    if not heat.any():
        return _Where(stack, None, (example.first + example.last - 1) // 2)
    on_grid = taken_back(heat, example.way, smooth=True)
    middle = np.argwhere(on_grid == on_grid.max()).mean(axis=0)
    place = places.of_point((middle[0] + example.first, middle[1], middle[2]), stack, found.originals)
    return _Where(stack, place, place.slice, attention=on_grid[place.slice - example.first])


def _on_grid(example: Example, prepared: Sequence[float]) -> tuple[float, float, float]:
    """A place of the prepared image, (d, h, w) in voxels → of the grid that it was made of."""
    way = example.way
    turned = [float(source_voxels(way, axis, at)) for axis, at in enumerate(prepared)]
    turned = [way.turned_shape[k] - 1 - at if k in way.flips else at for k, at in enumerate(turned)]
    d, h, w = _turned_back(example, turned)
    return d, h, w


def _turned_back(example: Example, turned: Sequence[float]) -> list[float]:
    return [turned[example.way.order.index(axis)] for axis in range(3)]


def _deep(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """With a depth of 1 where there is none."""
    return values if values.ndim == 3 else values[None]
