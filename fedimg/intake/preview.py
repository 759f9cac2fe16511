"""What a reviewer looks at: a picture of the pixels and the places of the findings. Confidential, all of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.dicom import gate
from fedimg.dicom.refusal import Quarantined
from fedimg.dicom.structure import StoredImage
from fedimg.errors import DataError
from fedimg.intake.hints import stored_image
from fedimg.intake.release import Releaser
from fedimg.intake.task import Task
from fedimg.values import Quarantine

_CLIPPED = 0.5  # per cent at either end of the grey values


@dataclass(frozen=True, slots=True)
class Preview:
    """Attributes: png: the picture. notes: what was found where; holds words of the patient."""

    png: bytes
    notes: Mapping[str, Any]


def of(releaser: Releaser, task: Task, frame: int) -> Preview:
    """One frame of an input as it came, and what the gate or the pixel layers said of it.

    Raises DataError for an input without pixels that could be looked at.
    """
    try:
        image = stored_image(releaser.dicom(task, releaser.content(task)))
        if not 0 <= frame < len(image.values):
            raise DataError(f"a frame from 0 to {len(image.values) - 1}", f"frame {frame}", "choose another")
    except Quarantined as refusal:
        raise DataError("an input whose pixels can be looked at", refusal.reason.value, "repair it") from None
    notes = {"frames": len(image.values), "frame": frame} | findings(releaser, task)
    return Preview(png(shades(image, frame)), notes)


def findings(releaser: Releaser, task: Task) -> dict[str, Any]:
    """Every word of the patient that the written bytes would hold, and whether it lies in pixels."""
    content = releaser.content(task)
    try:
        release = releaser.deidentified(task, content)
    except Quarantined as refusal:
        return {"held_by": refusal.reason.value, "detail": refusal.detail, "words": []}
    start, end = release.pixels
    words = [
        {
            "word": release.data[first:last].decode("latin-1"),
            "offset": first,
            "in_pixels": start <= first < end,
        }
        for first, last in releaser.hits(task, release.data, release)
    ]
    fault = gate.structure_fault(release.data, releaser.profile)
    held = Quarantine.UNSAFE_STRUCTURE if fault else Quarantine.RESIDUAL_IDENTIFIER
    return {"held_by": held.value, "detail": fault or "", "words": words}


def shades(image: StoredImage, frame: int) -> npt.NDArray[np.uint8]:
    """(rows, columns) or (rows, columns, 3), 8 bits: the range of the values without its outermost half per cent."""
    values = image.values[frame]
    if values.shape[2] == 3 and values.dtype.itemsize == 1:
        return np.asarray(values, np.uint8)
    grey = values[..., 0].astype(np.float64)
    low, high = np.percentile(grey, (_CLIPPED, 100 - _CLIPPED))
    scaled = np.clip((grey - low) / max(high - low, 1.0), 0, 1) * 255
    return np.asarray(255 - scaled if image.photometric == "MONOCHROME1" else scaled).astype(np.uint8)


def png(picture: npt.NDArray[np.uint8]) -> bytes:
    """8-bit grey or RGB (ISO/IEC 15948), without any text."""
    rows, columns = picture.shape[:2]
    colour = 2 if picture.ndim == 3 else 0
    lines = np.ascontiguousarray(picture).reshape(rows, -1)
    raw = np.hstack([np.zeros((rows, 1), np.uint8), lines]).tobytes()
    head = struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
