"""Several tasks at once: every head measured as its task is alone, under its own name, in one release.

The release is one row: each head's table, flat, one behind the other. A patient's row is what each head's measure
makes of them, of norm ≤ 1, divided by the root of the number of heads, so that the whole has norm ≤ 1; read back, a
head's cells are multiplied by that root, and so is their noise. To a head an image without its label does not exist,
and a patient without any adds zeros there: a label that is missing (NaN) shows in no other head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedimg.evaluation.patient_means import NO_EXAMPLES, Floats, checked_table
from fedimg.values import EvaluationReport

Array = npt.NDArray[Any]
_LARGEST_CLASS = 1 << 14  # of what fits where maps of classes stand; -1 is none


class _Measure(Protocol):
    """As `measure.Measure`, which knows of this one."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def headline(self) -> str: ...
    def rows(self, outputs: Array, labels: Array, first_image: Array) -> Floats: ...
    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport: ...
    def of_outputs(
        self, outputs: Array, labels: Array, first_image: Array, *, bootstrap: int, seed: int
    ) -> EvaluationReport: ...


@dataclass(frozen=True)
class HeadMeasure:
    """One head's measure.

    Attributes:
        name: of the task, which stands before its metrics' names.
        outputs, labels: shapes of one image's, as the measure takes them; in a row they lie flat.
        of_classes, maps: whether labels are classes; whether outputs are too.
    """

    name: str
    measure: _Measure
    outputs: tuple[int, ...]
    labels: tuple[int, ...]
    of_classes: bool
    maps: bool


@dataclass(frozen=True)
class Several:
    """Attributes: heads: in the order in which their outputs and labels lie in an image's row."""

    heads: tuple[HeadMeasure, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return 1, sum(self._sizes)

    @property
    def headline(self) -> str:
        first = self.heads[0]
        return f"{first.name}/{first.measure.headline}"

    @property
    def _sizes(self) -> list[int]:
        return [head.measure.shape[0] * head.measure.shape[1] for head in self.heads]

    @property
    def _scale(self) -> float:
        return float(np.sqrt(len(self.heads)))

    def rows(self, outputs: Array, labels: Array, first_image: Array) -> Floats:
        each = [
            head.measure.rows(own, known, first)
            for head, own, known, first in self._of_heads(outputs, labels, first_image)
        ]
        return np.asarray(np.concatenate(each, axis=1) / self._scale, dtype=np.float64)

    def of_release(self, noised: Floats, noise_std: float) -> EvaluationReport:
        tables, own_std = self.split(noised, noise_std)
        each = [head.measure.of_release(tables[head.name], own_std) for head in self.heads]
        return self._joined(each, max(one.examples for one in each))

    def split(self, noised: Floats, noise_std: float) -> tuple[dict[str, Floats], float]:
        """A release → each head's own table, by its task's name, and the noise in a cell of any of them."""
        row = checked_table(noised, self.shape, noise_std)[0] * self._scale
        parts = np.split(row, np.cumsum(self._sizes)[:-1])
        tables = {
            head.name: part.reshape(head.measure.shape) for head, part in zip(self.heads, parts, strict=True)
        }
        return tables, noise_std * self._scale

    def of_outputs(
        self, outputs: Array, labels: Array, first_image: Array, *, bootstrap: int, seed: int
    ) -> EvaluationReport:
        each = []
        for head, own, known, first in self._of_heads(outputs, labels, first_image):
            some = np.concatenate([[0], first[1:][np.diff(first) > 0]])
            if len(some) == 1:
                each.append(_nothing(head.measure.headline))
                continue
            each.append(head.measure.of_outputs(own, known, some, bootstrap=bootstrap, seed=seed))
        return self._joined(each, len(labels))

    def _of_heads(
        self, outputs: Array, labels: Array, first_image: Array
    ) -> Iterator[tuple[HeadMeasure, Array, Array, Array]]:
        """Each head with its outputs and labels of the images that have one, and where each patient's begin."""
        places = np.cumsum([[0, 0]] + [[_size(head.outputs), _size(head.labels)] for head in self.heads], 0)
        for head, begin, end in zip(self.heads, places, places[1:], strict=False):
            own, known = outputs[:, begin[0] : end[0]], labels[:, begin[1] : end[1]]
            there = ~np.isnan(known).any(axis=1)
            first = np.concatenate([[0], np.cumsum(there)])[first_image]
            own, known = own[there], known[there]
            if head.of_classes:
                known = _classes(known)
            if head.maps:
                own = _classes(own)
            yield head, own.reshape(-1, *head.outputs), known.reshape(-1, *head.labels), first

    def _joined(self, each: list[EvaluationReport], examples: int) -> EvaluationReport:
        """All metrics under their heads' names; curves and confusion are of the head of classes, if there is one."""
        names = [head.name for head in self.heads]
        drawn = next(
            (one for one, head in zip(each, self.heads, strict=True) if head.name == "classification"),
            each[0],
        )
        metrics = {
            f"{name}/{metric}": found
            for name, one in zip(names, each, strict=True)
            for metric, found in one.metrics.items()
        }
        omitted = {
            f"{name}/{metric}": reason
            for name, one in zip(names, each, strict=True)
            for metric, reason in one.omitted.items()
        }
        return replace(drawn, examples=examples, metrics=metrics, omitted=omitted)


def _nothing(headline: str) -> EvaluationReport:
    return EvaluationReport("public", 0, {}, np.zeros((1, 1), np.int64), omitted={headline: NO_EXAMPLES})


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _classes(numbers: Array) -> Array:
    """Numbers as classes, −1 for one that is none."""
    fine = np.isfinite(numbers) & (abs(numbers) <= _LARGEST_CLASS) & (numbers == np.floor(numbers))
    return np.where(fine, numbers, -1).astype(np.int64)
