"""A sum over patients in which no patient counts for more than C.

Clipping per *patient* is what makes the promise a patient's: clipping per image and calling it
patient-level turns ε = 6.5 into 39 at four images a patient, and into 329 at sixteen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fedimg.errors import ConfigError, FedimgError
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.engines import PatientGradients
from fedimg.values import ClippedSum, Vector


def clipped_sum(
    gradients: PatientGradients,
    flat: torch.Tensor,
    batch: PatientBatch,
    l2_clip_norm: float,
    failed: Callable[[Exception], None] = lambda _fault: None,
) -> ClippedSum:
    """Σ over patients of g·min(1, C/‖g‖₂), g the gradient of a patient's mean loss.

    Args:
        flat: (P,) parameters; its device does the work.
        batch: the sampled patients; empty is fine and gives zeros.
        l2_clip_norm: C.
        failed: is told of what a patient's images made a library raise, for the site's own operator.

    Returns:
        (P,) float64 with sensitivity C under adding or removing one patient. Norms and the sum are
        float64, and patients are added one by one in a fixed order, so chunks do not change the sum. A
        patient whose norm is not finite contributes zero, and so does one who makes a library fail: an error
        would be an answer about that patient.
    """
    _check_norm(l2_clip_norm)
    total = torch.zeros(flat.numel(), dtype=torch.float64, device=flat.device)
    for images, labels in batch.to(flat.device).by_count():
        engine = gradients.settled(flat, images)
        step = engine.patients_at_once(flat, images)
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            _add_clipped(total, _rows(engine, flat, images[part], labels[part], failed), l2_clip_norm)
    return ClippedSum(total.cpu().numpy(), l2_clip_norm)


def _rows(
    engine: PatientGradients,
    flat: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    failed: Callable[[Exception], None],
) -> torch.Tensor:
    """(B, P) gradients; the row of a patient who makes a library fail is NaN."""
    try:
        return engine.of(flat, images, labels).detach()
    except FedimgError:  # about the settings, equal for all patients
        raise
    except Exception as fault:  # noqa: BLE001 - whichever library it was: found out patient by patient
        failed(fault)
        if len(images) == 1:
            return torch.full((1, flat.numel()), torch.nan, device=flat.device)
    alone = [_rows(engine, flat, images[u : u + 1], labels[u : u + 1], failed) for u in range(len(images))]
    return torch.cat(alone)


def clipped_vectors(vectors: Vector, l2_clip_norm: float) -> ClippedSum:
    """The same for given vectors, (U, k) float64, one row a patient: used by histogram releases."""
    _check_norm(l2_clip_norm)
    if vectors.ndim != 2:
        raise ConfigError("one vector a patient, (U, k)", f"{vectors.ndim} dimensions", "stack the vectors")
    total = torch.zeros(vectors.shape[1], dtype=torch.float64)
    if len(vectors):
        _add_clipped(total, torch.from_numpy(np.ascontiguousarray(vectors, dtype=np.float64)), l2_clip_norm)
    return ClippedSum(total.numpy(), l2_clip_norm)


def _add_clipped(total: torch.Tensor, rows: torch.Tensor, l2_clip_norm: float) -> None:
    """Add each row of (B, P), scaled down to C, to `total` (P,) in place; rows without a finite norm are left out."""
    # row by row: a float64 copy of all rows would be the step's largest array, and cost more than the sum
    norms = torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in rows]).tolist()
    for row, norm in zip(rows, norms, strict=True):
        if np.isfinite(norm):
            total.add_(row, alpha=min(1.0, l2_clip_norm / norm) if norm > 0 else 1.0)


def _check_norm(l2_clip_norm: float) -> None:
    if not (np.isfinite(l2_clip_norm) and l2_clip_norm > 0):
        raise ConfigError("a finite clip norm > 0", f"{l2_clip_norm}", "set privacy.l2_clip_norm")
