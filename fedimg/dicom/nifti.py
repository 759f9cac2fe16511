"""NIfTI in and out: a header is rebuilt from geometry alone, so that no text field can come along.

Format: NIfTI-1 (Cox et al. 2004, nifti1.h); NIfTI-2 is read too. nibabel parses; what is written is
laid out here, byte by byte, because a byte that nobody wrote cannot hold a name.
"""

from __future__ import annotations

import gzip
import zlib
from io import BytesIO
from typing import Any, NamedTuple

import nibabel
import numpy as np
import numpy.typing as npt

from fedimg.dicom.reader import ReadLimits
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Quarantine

_SPACING_MM = (1e-3, 1e3)
_HEADER, _DATA_OFFSET = 348, 352
_TO_MM = {"mm": 1.0, "meter": 1000.0, "micron": 1e-3, "unknown": 1.0}


class NiftiVolume(NamedTuple):
    """Stored values and what turns them into millimetres and units."""

    stored: npt.NDArray[Any]
    slope: float
    intercept: float
    affine_ras_mm: npt.NDArray[np.float64]


def is_nifti(data: bytes) -> bool:
    """By content: a gzip stream, or a NIfTI-1/-2 header of either byte order."""
    sizes = (
        (348).to_bytes(4, "little"),
        (540).to_bytes(4, "little"),
        (348).to_bytes(4, "big"),
        (540).to_bytes(4, "big"),
    )
    return data[:2] == b"\x1f\x8b" or data[:4] in sizes


def read_nifti(data: bytes, limits: ReadLimits) -> NiftiVolume:
    """Parse a single-file NIfTI, plain or gzipped. Raises Quarantined only.

    Guarantee: `stored` holds the values on disk in their own type (native byte order), integer or
    float, 2-D to 4-D, axes (i, j, k[, t]).
    """
    raw = _inflate(data, limits.file_bytes) if data[:2] == b"\x1f\x8b" else data
    try:
        with contained():
            return _parse(raw, limits)
    except Quarantined:
        raise
    # nibabel raises what it happens to meet in a bad header; its text may quote header fields.
    except Exception as error:  # noqa: BLE001
        found = f"a NIfTI structure that does not parse ({type(error).__name__})"
        raise Quarantined(Quarantine.UNREADABLE, found) from None


def _inflate(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        raw = inflater.decompress(data, limit + 1)
    except zlib.error:
        raise Quarantined(Quarantine.UNREADABLE, "a gzip stream that does not inflate") from None
    if len(raw) > limit:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"a file that inflates beyond {limit} bytes")
    if not inflater.eof:
        raise Quarantined(Quarantine.UNREADABLE, "a gzip stream that ends early")
    return raw


def _parse(raw: bytes, limits: ReadLimits) -> NiftiVolume:
    second = raw[:4] in ((540).to_bytes(4, "little"), (540).to_bytes(4, "big"))
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    if raw[4:8] != b"n+2\0" if second else raw[344:348] != b"n+1\0":
        raise Quarantined(Quarantine.NOT_AN_IMAGE, "a file that is no single-file NIfTI")
    header = kind.header_class.from_fileobj(BytesIO(raw))
    shape, dtype = tuple(int(n) for n in header.get_data_shape()), header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Quarantined(Quarantine.WRONG_SHAPE, "a NIfTI of colours or complex numbers")
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise Quarantined(Quarantine.WRONG_SHAPE, f"a NIfTI of {len(shape)} dimensions, or an empty one")
    count, offset = int(np.prod([float(n) for n in shape])), int(header.get_data_offset())
    if count > limits.pixel_samples:
        raise Quarantined(Quarantine.UNSAFE_STRUCTURE, f"{count} voxels, limit {limits.pixel_samples}")
    if offset < 0 or len(raw) < offset + count * dtype.itemsize:
        raise Quarantined(Quarantine.UNREADABLE, "a NIfTI that ends within its data")
    stored = np.frombuffer(raw, dtype, count, offset).reshape(shape, order="F")
    slope, intercept = header.get_slope_inter()
    units = _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    affine = np.diag([units, units, units, 1.0]) @ header.get_best_affine()
    affine = _checked(affine)
    native = stored.astype(dtype.newbyteorder("="), copy=False)
    return NiftiVolume(
        native, 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept), affine
    )


def _checked(affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The same, or millimetres along the axes where the header gives no geometry. Raises Quarantined.

    Voxels smaller than a micrometre or larger than a metre are a wrong unit: whatever is resampled from
    them would be next to nothing, or without end.
    """
    columns = affine[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or not spacing.all():
        return np.eye(4)
    if not ((spacing >= _SPACING_MM[0]) & (spacing <= _SPACING_MM[1])).all():
        found = f"a voxel spacing outside {_SPACING_MM[0]:g} to {_SPACING_MM[1]:g} mm"
        raise Quarantined(Quarantine.WRONG_SHAPE, found)
    return affine if abs(np.linalg.det(columns / spacing)) > 1e-6 else np.eye(4)


def clean_bytes(volume: NiftiVolume) -> bytes:
    """A gzipped NIfTI-1 of these values and this geometry, and nothing else.

    Guarantee: stored values bit for bit; description, auxiliary file, intent name, database name,
    calibration, slice timing and extensions are zero or absent; equal input gives equal bytes.
    """
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_shape(volume.stored.shape)
    header.set_data_dtype(volume.stored.dtype)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"] = volume.slope, volume.intercept
    header["magic"], header["vox_offset"] = b"n+1", _DATA_OFFSET
    header.set_qform(volume.affine_ras_mm, code=1, strip_shears=True)
    header.set_sform(volume.affine_ras_mm, code=1)
    values = volume.stored.astype(volume.stored.dtype.newbyteorder("<"), copy=False)
    body = header.binaryblock + b"\0" * (_DATA_OFFSET - _HEADER) + values.tobytes(order="F")
    packed = BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=6, mtime=0) as stream:
        stream.write(body)
    return packed.getvalue()
