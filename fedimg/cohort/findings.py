"""The ready findings: each in a body of its own exam, with its outline and the number that says how much of it there is.

Sick and healthy are the same body but for the finding: what is drawn of it comes from a stream of its own.

- nodule: solid or partly solid, 14 to 30 mm, in a lung. Vessels, scars and calcified granulomas are in every chest.
- cardiomegaly: the heart's width by the chest's above 0.5 on a radiograph (Danzer 1919); healthy hearts reach 0.49.
- calcium: plaques above 130 HU in the coronary arteries (Agatston et al. 1990); aortic and mitral calcium, bone and
  calcified lymph nodes are in every chest.
- haemorrhage: 50 to 90 HU in the brain or beneath the skull. infarct: 15 to 25 HU in one artery's territory. One in four of
  those without the one has the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fedimg.cohort import chest_findings, head_findings
from fedimg.cohort.anatomy import Generator, Mask, Phantom
from fedimg.cohort.canvas import Canvas
from fedimg.cohort.chest import Chest, draw_chest
from fedimg.cohort.exams import Exam
from fedimg.cohort.head import Head, draw_head
from fedimg.values import FloatArray

_OTHER = 0.25  # of those without the finding, how many have the other one that a head may have
_FRONT_MM, _PROJECTED = 220.0, 44  # depth of a radiograph's body, and how many planes it is added up from


@dataclass(frozen=True, slots=True)
class Body:
    """One study before any scanner.

    Attributes:
        values: (D, H, W), HU; of a radiograph (1, H, W), 0 … 1.
        mask: True in the finding, or in the organ that is measured; all False without either.
        positive: whether the finding is there. measure: the number, 0 without a finding.
        zs_mm: of the slices. pixel_mm: their side.
    """

    values: FloatArray
    mask: Mask
    positive: bool
    measure: float
    zs_mm: FloatArray
    pixel_mm: float

    def phantoms(self) -> list[Phantom]:
        """One a slice; a slice is positive where it shows some of the finding."""
        found = []
        side = self.values.shape[2] * self.pixel_mm
        for plane, inside in zip(self.values, self.mask, strict=True):
            diameter = 2 * float(np.sqrt(inside.sum() / np.pi)) * self.pixel_mm
            found.append(Phantom(plane, inside, diameter / side, self.positive and bool(inside.any())))
        return found


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: image side and slices, field in mm, whether the finding is there and how plainly it shows."""

    size: int
    slices: int
    field_mm: float
    exam: Exam
    sick: bool
    contrast: float

    def canvas(self) -> Canvas:
        field = (self.field_mm, self.field_mm, self.exam.depth_mm or 0.0)
        return Canvas.of((self.slices, self.size, self.size), field, self.exam.centre_mm)


def body_of(finding: str, order: Order, rng: Generator) -> Body:
    return _MADE[finding](order, rng)


def _nodule(order: Order, rng: Generator) -> Body:
    canvas, (own, of_body) = order.canvas(), rng.spawn(2)
    lungs = draw_chest(canvas, Chest.draw(of_body), of_body)
    chest_findings.look_alikes(canvas, lungs, of_body)
    mask, diameter = chest_findings.nodule(canvas, lungs, own, order.contrast if order.sick else None)
    return _body(canvas, mask, diameter)


def _calcium(order: Order, rng: Generator) -> Body:
    canvas, (own, of_body) = order.canvas(), rng.spawn(2)
    chest = Chest.draw(of_body)
    draw_chest(canvas, chest, of_body)
    chest_findings.other_calcium(canvas, chest, of_body)
    mask = chest_findings.coronary(canvas, chest, own, order.contrast if order.sick else None)
    return _body(canvas, mask, chest_findings.agatston(canvas, mask))


def _cardiomegaly(order: Order, rng: Generator) -> Body:
    """Seen from the front; how plainly a heart shows is not to be chosen."""
    own, of_body = rng.spawn(2)
    ratio = float(own.uniform(0.505, 0.62) if order.sick else own.uniform(0.38, 0.495))
    chest, side = Chest.draw(of_body, ratio), order.field_mm
    height = side * (1 - 1 / order.size)  # from the lowest row's middle to the highest's
    canvas = Canvas.of((order.size, _PROJECTED, order.size), (side, _FRONT_MM, height), order.exam.centre_mm)
    draw_chest(canvas, chest, of_body)
    region, share = canvas.ball(chest.heart, chest.heart_axes)
    heart = np.zeros(canvas.values.shape, np.bool_)
    heart[region] = share > 0.5
    outline: Mask = np.asarray(np.logical_or.reduce(heart, axis=1))
    seen = chest_findings.projected(canvas.values, _FRONT_MM / _PROJECTED)
    # the first row of an image is the highest
    upright, drawn = np.ascontiguousarray(seen[None, ::-1]), np.ascontiguousarray(outline[None, ::-1])
    return Body(upright, drawn, ratio > 0.5, ratio, np.zeros(1, np.float32), side / order.size)


def _head(which: str, order: Order, rng: Generator) -> Body:
    canvas, (own, of_body) = order.canvas(), rng.spawn(2)
    head = Head.draw(of_body)
    brain = draw_head(canvas, head, of_body)
    draws = {"haemorrhage": head_findings.haemorrhage, "infarct": head_findings.infarct}
    other = draws["infarct" if which == "haemorrhage" else "haemorrhage"]
    if not order.sick and own.uniform() < _OTHER:
        other(canvas, head, brain, own, 1.0)
    mask = draws[which](canvas, head, brain, own, order.contrast if order.sick else None)
    millilitres = canvas.edge**2 * canvas.step_mm / 1000
    return _body(canvas, mask, float(mask.sum()) * millilitres)


def _body(canvas: Canvas, mask: Mask, measure: float) -> Body:
    return Body(canvas.values, mask, bool(mask.any()), measure, canvas.z, canvas.edge)


_MADE: Mapping[str, Callable[[Order, Generator], Body]] = MappingProxyType(
    {
        "nodule": _nodule,
        "cardiomegaly": _cardiomegaly,
        "calcium": _calcium,
        "haemorrhage": lambda order, rng: _head("haemorrhage", order, rng),
        "infarct": lambda order, rng: _head("infarct", order, rng),
    }
)
