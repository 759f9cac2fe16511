"""Files of one series → what the model says of it, and where.

The network's own answer comes first. Only where a series is called is it asked where: of voxels or places that the
network has learnt, else of what its score rests on (`attention`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from fedimg.bundle import Finding, Output
from fedimg.codes import Code
from fedimg.imaging.way_back import source_voxels, taken_back
from fedimg.prediction import places, reading
from fedimg.prediction.attention import covered_map
from fedimg.prediction.examples import Example, Examples, Stack, examples_of, picture
from fedimg.prediction.loading import Model
from fedimg.prediction.measures import embedding_of, measures_of
from fedimg.prediction.places import Place
from fedimg.prediction.reading import Reading
from fedimg.prediction.results import Analysis, Found, Prediction, Region
from fedimg.values import FloatArray

ATTENTION = "attention, not an outline: "
NO_PLACE = "no single place"
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

    Raises DataError: the series cannot be used. It is then not analysed, which is no result.
    """
    started = time.perf_counter()
    found = examples_of(files, model.imaging)
    logits, features = model.run(found.images)
    said = model.metadata
    read = reading.read(logits, said)
    called = said.threshold is not None and read.score >= said.threshold
    where = _nowhere(found, read)
    if called or always_where:
        where = _where(model, found, logits, read, attention=attention)
    named = _found(model, found, read, where) if called else ()
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
        found=named,
        measures=measures_of(found, read, model.imaging),
        embedding=embedding_of(found.images, features),
        seconds=time.perf_counter() - started,
    )
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
    )


def _found(model: Model, found: Examples, read: Reading, where: _Where) -> tuple[Found, ...]:
    name = model.metadata.classes[read.kind]
    said = next(
        (one for one in model.metadata.findings if one.of_class == name), Finding(name, _UNCODED, None)
    )
    place, text = where.place, NO_PLACE
    if place is not None:
        text = places.words(place, where.stack, found.originals) or NO_PLACE
        text = text if where.attention is None else f"{ATTENTION}{text}"
    outlined = where.attention is None and place is not None
    number, _ = where.stack.planes[where.shown]
    one = Found(
        finding=name,
        code=said.code,
        site=said.site,
        score=read.scores[name],
        where=text,
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
    return _attended(model, found, read) if attention else _nowhere(found, read)


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


def _attended(model: Model, found: Examples, read: Reading) -> _Where:
    """Where the score of the best image rests on; no place where it rests on none."""
    example, said = found.examples[read.best], model.metadata

    def score(images: torch.Tensor) -> npt.NDArray[np.float64]:
        return reading.logit(reading.read(model.run(images)[0], said).by_image)

    heat = _deep(covered_map(found.images[read.best], score))
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
