"""What each patient's images give to one layer's parameters: the norm of it, and weighted sums over patients.

A layer that computes Σ over positions of weight · input has, for one patient, the gradient Σₜ gₜ aₜᵀ:
aₜ (K,) what the weight met at position t of any of the patient's images, gₜ (O,) the gradient that came back.
Either that (O, K) row is written out, or, where positions are few, only its norm is computed from two T×T
Gram matrices, ‖Σₜ gₜaₜᵀ‖² = Σₜₜ' (aₜ·aₜ')(gₜ·gₜ') (Goodfellow 2015, arXiv 1510.01799; for convolutions
Bu et al. 2022, arXiv 2205.10683), and the weighted sum over patients is one ordinary weight gradient.

The Gram form loses digits where a patient's terms cancel, so it runs in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Protocol

import torch
from torch.nn import functional as F

Sizes = tuple[int, ...]

# One written row value costs as much as so many multiplications: it is written, squared, read again.
_WRITTEN = 40.0
# Values that a float32 norm may be taken of at once.
_PART = 1 << 14
# A float64 multiplication in float32 ones.
_DOUBLE = 2.5
# Input channels up to which patches are written out: an image's own.
_FEW = 4
_convolution_backward = torch.ops.aten.convolution_backward.default


class LayerGradient(Protocol):
    """One parameter's gradients, of B patients with M images each."""

    @property
    def offset(self) -> int:
        """Where the parameter lies in the flat vector."""
        ...

    def squared_norms(self) -> torch.Tensor:
        """(B,) float64."""
        ...

    def rows(self) -> torch.Tensor:
        """(B, size of the parameter)."""
        ...

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        """(B,) → Σ over patients of weight · row, flat."""
        ...

    def without(self, patients: torch.Tensor) -> LayerGradient:
        """With zeros in place of the given patients, (k,) indices, whatever they were."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """Rows that are there: biases, scales, and weights with many positions."""

    offset: int
    values: torch.Tensor

    def squared_norms(self) -> torch.Tensor:
        return _squared(self.values)

    def rows(self) -> torch.Tensor:
        return self.values

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        return weights.to(self.values.dtype) @ self.values

    def without(self, patients: torch.Tensor) -> Written:
        return replace(self, values=self.values.index_fill(0, patients, 0.0))


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution's, and M: images a patient. A matrix product is one over no spatial axes."""

    weight: Sizes
    images: int
    stride: Sizes = ()
    padding: Sizes = ()
    dilation: Sizes = ()
    groups: int = 1
    transposed: bool = False
    output_padding: Sizes = ()

    @property
    def pointwise(self) -> bool:
        """Whether every position meets one input position: a matrix product."""
        plain = set(self.stride) <= {1} and not any(self.padding) and set(self.weight[2:]) <= {1}
        return plain and self.groups == 1 and not self.transposed


@dataclass(frozen=True, slots=True)
class Weight:
    """A convolution's or matrix's weight: `inputs` (N, C, *spatial), `gradient` (N, O, *spatial'), N = B·M."""

    offset: int
    geometry: Geometry
    inputs: torch.Tensor
    gradient: torch.Tensor

    def squared_norms(self) -> torch.Tensor:
        if self.inputs.dim() == 2 and self.geometry.images == 1:  # one position: ‖g aᵀ‖ = ‖g‖ ‖a‖
            return _squared(self.inputs) * _squared(self.gradient)
        met, back = _per_patient(self.inputs, self.geometry), _per_patient(self.gradient, self.geometry)
        return (self._gram_of_met(met) * (back.mT @ back)).sum(dim=(1, 2))

    def _gram_of_met(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C, Q) input positions → (B, T, T): dot products of the patches that the filter met.

        A patch's product is the sum, over the filter's taps, of products of single input positions.
        """
        gram, shape = pixels.mT @ pixels, self.geometry
        if shape.pointwise:
            return gram
        sides = self.inputs.shape[2:]
        split = gram.view(len(gram), shape.images, *sides, shape.images, *sides)
        margins = [v for p in reversed(shape.padding) for v in (p, p)]
        padded = F.pad(split, [*margins, 0, 0, *margins, 0, 0][: 2 * (2 * len(sides) + 1)])
        for axis, taps in enumerate(shape.weight[2:]):  # one axis after the other: 3 + 3 shifts, not 3 · 3
            first, second = 2 + axis, 3 + len(sides) + axis
            ends, step = self.gradient.shape[2 + axis], shape.stride[axis]
            starts = [tap * shape.dilation[axis] for tap in range(taps)]
            shifted = [_every(_every(padded, first, k, ends, step), second, k, ends, step) for k in starts]
            padded = reduce(torch.add, shifted)
        positions = shape.images * math.prod(self.gradient.shape[2:])
        return padded.reshape(len(gram), positions, positions)

    def rows(self) -> torch.Tensor:
        shape = self.geometry
        patients = len(self.inputs) // shape.images
        if shape.pointwise:
            met, back = (_positions(t, shape.images) for t in (self.inputs, self.gradient))
            return torch.bmm(back, met.mT).flatten(1)
        if self._few_channels:
            met, back = (_positions(t, shape.images) for t in (self._patches(), self.gradient))
            return torch.bmm(back, met.mT).flatten(1)
        # one group of channels a patient, one batch entry an image
        inputs, gradient = (_beside(t, shape.images) for t in (self.inputs, self.gradient))
        return self._kernel(inputs, gradient, patients).view(patients, -1)

    @property
    def _few_channels(self) -> bool:
        """Whether writing out what the filter met costs little beside a grouped convolution's order of values."""
        shape = self.geometry
        plain = set(shape.dilation) == {1} and shape.groups == 1 and not shape.transposed
        return plain and shape.weight[1] <= _FEW

    def _patches(self) -> torch.Tensor:
        """(N, C·taps, positions): what the filter met at each position."""
        shape, axes = self.geometry, len(self.geometry.stride)
        patches = F.pad(self.inputs, [margin for p in reversed(shape.padding) for margin in (p, p)])
        for axis in range(axes):
            patches = patches.unfold(2 + axis, shape.weight[2 + axis], shape.stride[axis])
        first = range(2, 2 + axes)
        by_tap = patches.permute(0, 1, *(axis + axes for axis in first), *first)
        return by_tap.reshape(len(patches), -1, math.prod(self.gradient.shape[2:]))

    def weighted(self, weights: torch.Tensor) -> torch.Tensor:
        shape = self.geometry
        per_image = weights.to(self.gradient.dtype).repeat_interleave(shape.images)
        scaled = self.gradient * per_image.view(-1, *(1,) * (self.gradient.dim() - 1))
        if self.inputs.dim() == 2:
            return (scaled.T @ self.inputs).flatten()
        return self._kernel(self.inputs, scaled, 1).flatten()

    def _kernel(self, inputs: torch.Tensor, gradient: torch.Tensor, times: int) -> torch.Tensor:
        shape, axes = self.geometry, len(self.geometry.stride)
        if not axes:  # a matrix product with positions: a convolution along one axis
            shape = replace(shape, stride=(1,), padding=(0,), dilation=(1,), output_padding=(0,))
            inputs, gradient, axes = inputs.flatten(2), gradient.flatten(2), 1
        like = inputs.new_empty(()).expand(shape.weight[0] * times, shape.weight[1], *_taps(shape, axes))
        result: torch.Tensor = _convolution_backward(
            gradient,
            inputs,
            like,
            None,
            shape.stride,
            shape.padding,
            shape.dilation,
            shape.transposed,
            shape.output_padding or (0,) * axes,
            shape.groups * times,
            (False, True, False),
        )[1]
        return result

    def without(self, patients: torch.Tensor) -> Weight:
        images = self.geometry.images
        index = (patients[:, None] * images + torch.arange(images, device=patients.device)).flatten()
        return replace(
            self,
            inputs=self.inputs.index_fill(0, index, 0.0),
            gradient=self.gradient.index_fill(0, index, 0.0),
        )


def of_weight(offset: int, geometry: Geometry, inputs: torch.Tensor, gradient: torch.Tensor) -> LayerGradient:
    """Whichever form is cheaper by its number of operations: a fixed rule of public shapes."""
    weight = Weight(offset, geometry, inputs, gradient)
    return weight if _gram_is_cheaper(geometry, inputs, gradient) else Written(offset, weight.rows())


def _gram_is_cheaper(geometry: Geometry, inputs: torch.Tensor, gradient: torch.Tensor) -> bool:
    if geometry.groups != 1 or geometry.transposed:
        return False
    met = geometry.images * math.prod(inputs.shape[2:])
    back = geometry.images * math.prod(gradient.shape[2:])
    taps = math.prod(geometry.weight[2:])
    size = math.prod(geometry.weight)
    row = size * (back + _WRITTEN)
    # the Gram form still owes the weighted sum: one product for all patients, at twice the speed of rows
    weighted = size * back / 2
    padded = geometry.images**2 * math.prod(
        (n + 2 * p) ** 2 for n, p in zip(inputs.shape[2:], geometry.padding or (0,) * 9, strict=False)
    )
    gram = met**2 * inputs.shape[1] + back**2 * (gradient.shape[1] + 4 * (taps if taps > 1 else 0)) + padded
    return _DOUBLE * gram + weighted < row


def _every(values: torch.Tensor, axis: int, start: int, number: int, step: int) -> torch.Tensor:
    """`number` entries of an axis from `start` on, `step` apart."""
    index: list[slice] = [slice(None)] * values.dim()
    index[axis] = slice(start, start + (number - 1) * step + 1, step)
    return values[tuple(index)]


def _squared(values: torch.Tensor) -> torch.Tensor:
    """(B, n) → (B,) float64 squared norms, to a relative 10⁻⁶ for any length: float32 within a part."""
    parts = [torch.linalg.vector_norm(part, dim=1) for part in values.split(_PART, dim=1)]
    return torch.stack(parts).double().square().sum(dim=0)


def _taps(shape: Geometry, axes: int) -> Sizes:
    return shape.weight[2:] or (1,) * axes


def _positions(values: torch.Tensor, images: int) -> torch.Tensor:
    """(B·M, C, *spatial) → (B, C, M·positions)."""
    split = values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)
    if images == 1:
        return split
    by_patient = split.view(-1, images, *split.shape[1:])
    return by_patient.transpose(1, 2).flatten(2)


def _per_patient(values: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    return _positions(values, geometry.images).double()


def _beside(values: torch.Tensor, images: int) -> torch.Tensor:
    """(B·M, C, *spatial) → (M, B·C, *spatial): patients side by side along the channels."""
    split = values.view(-1, images, *values.shape[1:])
    return split.transpose(0, 1).reshape(images, -1, *values.shape[2:])
