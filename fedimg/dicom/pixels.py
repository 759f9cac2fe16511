"""Released file → `DecodedImage`: stored values, modality transform, colour to luminance, geometry.

The order is PS3.3's: stored values (C.7.6.3), modality LUT (C.11.1), then, instead of a display
pipeline, inversion of MONOCHROME1 and luminance of colour, so that more is always brighter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut

from fedimg.dicom.codestream import frame_size
from fedimg.dicom.geometry import Geometry, geometry, group, numbers
from fedimg.dicom.masks import mask
from fedimg.dicom.nifti import NiftiVolume, is_nifti, read_nifti
from fedimg.dicom.reader import (
    DEFAULT_LIMITS,
    PIXEL_KEYWORDS,
    PixelShape,
    ReadLimits,
    parse,
    pixel_shape,
    read_capped,
    transfer_syntax,
)
from fedimg.dicom.refusal import Quarantined, contained
from fedimg.values import Area, DecodedImage, FloatArray, Quarantine

# One decoder for each syntax. GDCM alone has lossless JPEG; elsewhere it is not tried, because a C++
# exception in it ends the process, and with it the intake.
_PLUGINS: Mapping[str, str] = {
    uids.JPEGBaseline8Bit: "pillow",
    uids.JPEGExtended12Bit: "pillow",
    uids.JPEGLossless: "gdcm",
    uids.JPEGLosslessSV1: "gdcm",
    uids.JPEGLSLossless: "pyjpegls",
    uids.JPEGLSNearLossless: "pyjpegls",
    uids.JPEG2000Lossless: "pylibjpeg",
    uids.JPEG2000: "pylibjpeg",
    uids.HTJ2KLossless: "pylibjpeg",
    uids.HTJ2KLosslessRPCL: "pylibjpeg",
    uids.HTJ2K: "pylibjpeg",
    uids.RLELossless: "pydicom",
}
DECODED = (
    uids.ExplicitVRLittleEndian,
    uids.ImplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    *_PLUGINS,
)
"""Transfer syntaxes whose pixels are decoded here."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as YBR_FULL's own Y (PS3.3 C.7.6.3.1.2)


def decode(
    path: Path,
    limits: ReadLimits = DEFAULT_LIMITS,
    masked: Sequence[Area] = (),
    labels: npt.NDArray[Any] | None = None,
) -> DecodedImage:
    """Pixels of one released DICOM or NIfTI file in physical units.

    Args:
        masked: areas of the stored frames that its de-identification filled (`masks`).
        labels: a class for every voxel as stored, (F, H, W), see `voxel_labels`.

    Guarantee: finite float32, (D, H, W); frames of a spatial stack in spatial order; same file,
    same bits. Raises Quarantined only: UNREADABLE, UNSAFE_STRUCTURE, NOT_AN_IMAGE, WRONG_SHAPE,
    PIXELS_UNDECODABLE, PIXELS_NOT_FINITE.
    """
    try:
        data = read_capped(path, limits.file_bytes)
    except OSError as error:
        raise Quarantined(Quarantine.UNREADABLE, f"the system could not read it ({error.strerror})") from None
    image = (
        decode_nifti(read_nifti(data, limits))
        if is_nifti(data)
        else decode_dataset(parse(data, limits), masked, labels)
    )
    if labels is not None and image.labels_DHW is None:  # of a NIfTI file: in the order of its pixels
        image = replace(image, labels_DHW=labels)
    if image.labels_DHW is not None and image.labels_DHW.shape != image.pixels_DHW.shape:
        found = f"labels {image.labels_DHW.shape} of an image {image.pixels_DHW.shape}"
        raise Quarantined(Quarantine.WRONG_SHAPE, found)
    return finite(image)


def finite(image: DecodedImage) -> DecodedImage:
    """Raises Quarantined for NaN and infinities, which `decode_dataset` lets pass."""
    if not np.isfinite(image.pixels_DHW).all():
        raise Quarantined(Quarantine.PIXELS_NOT_FINITE, "NaN or infinite pixel values")
    return image


def decode_dataset(
    dataset: Dataset, masked: Sequence[Area] = (), labels: npt.NDArray[Any] | None = None
) -> DecodedImage:
    """`decode` for a data set in memory; values may still be infinite. Raises Quarantined only."""
    try:
        with contained():
            frames, interpretation = stored_frames(dataset)
            place = geometry(dataset, len(frames))
            image = _in_units(dataset, frames, interpretation, place)
            if labels is not None and len(labels) == len(frames):
                image = replace(image, labels_DHW=labels[place.order])
            if not masked:
                return image
            return replace(image, mask_DHW=mask(masked, image.pixels_DHW.shape)[place.order])
    except Quarantined:
        raise
    # Attributes of a bad file fail in ways of their own; the text of the error may quote them.
    except Exception as error:  # noqa: BLE001
        found = f"pixels that cannot be put into units ({type(error).__name__})"
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found) from None


def stored_frames(dataset: Dataset) -> tuple[npt.NDArray[Any], str]:
    """Stored values as (F, H, W, S), sign applied, YBR turned to RGB; and the photometric interpretation.

    Raises Quarantined as `decoded_array` does, and PIXELS_UNDECODABLE for frames beyond the stated number.
    """
    values, interpretation = decoded_array(dataset, raw=False)
    shape = pixel_shape(dataset)
    if values.size != shape.values:
        found = f"{values.size} values where {shape.values} are stated"
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found)
    return values.reshape(shape.frames, shape.rows, shape.columns, shape.samples), interpretation


def decoded_array(dataset: Dataset, *, raw: bool) -> tuple[npt.NDArray[Any], str]:
    """What the one decoder for this transfer syntax gives, as pydicom shapes it; the interpretation it has then.

    Args:
        raw: leave YBR as it is.

    Raises Quarantined(NOT_AN_IMAGE, PIXELS_UNDECODABLE), or UNSAFE_STRUCTURE where a frame's own
    header states another size than the data set: it would be a bomb, or another image.
    """
    if not any(keyword in dataset for keyword in PIXEL_KEYWORDS):
        raise Quarantined(Quarantine.NOT_AN_IMAGE, "an object without pixel data")
    shape, syntax = pixel_shape(dataset), transfer_syntax(dataset)
    plugin = ""
    try:
        if syntax.is_encapsulated:
            _check_codestreams(dataset, shape)
            if syntax not in _PLUGINS:
                raise Quarantined(Quarantine.PIXELS_UNDECODABLE, "a compression without a decoder here")
            plugin = _PLUGINS[syntax]
        values, properties = get_decoder(syntax).as_array(dataset, raw=raw, decoding_plugin=plugin)
    except Quarantined:
        raise
    # Decoder plugins raise exceptions of their own kinds: all of them mean that there is no image.
    except Exception as error:  # noqa: BLE001
        name = syntax.name if syntax in _PLUGINS else "native"
        found = f"a {name} stream that does not decode ({type(error).__name__})"
        raise Quarantined(Quarantine.PIXELS_UNDECODABLE, found) from None
    return values, str(properties["photometric_interpretation"])


def _check_codestreams(dataset: Dataset, shape: PixelShape) -> None:
    expected = (shape.rows, shape.columns, shape.samples)
    for codestream in generate_frames(dataset.PixelData, number_of_frames=shape.frames):
        found = frame_size(codestream)
        if found is not None and found != expected:
            sizes = f"a frame of {tuple(found)} in an image of {expected} (rows, columns, samples)"
            raise Quarantined(Quarantine.UNSAFE_STRUCTURE, sizes)


def _in_units(
    dataset: Dataset, frames: npt.NDArray[Any], interpretation: str, place: Geometry
) -> DecodedImage:
    modality = str(dataset.get("Modality") or "OT")
    window = _window(dataset)
    if interpretation == "PALETTE COLOR":
        colours = [apply_color_lut(frame[..., 0], dataset) for frame in frames]
        top = float(np.iinfo(colours[0].dtype).max)
        pixels = np.stack(colours)[..., :3].astype(np.float32) * np.float32(255.0 / top)
        pixels = pixels @ _LUMA
    elif frames.shape[3] == 3:
        pixels = frames.astype(np.float32) @ _LUMA
    elif frames.shape[3] == 1:
        pixels = _modality_transform(dataset, frames[..., 0])
        if interpretation == "MONOCHROME1" and modality != "CT":  # HU are physical: never turned round
            turn = _sum_of_limits(dataset, frames)
            pixels = turn - pixels
            window = (float(turn) - window[0], window[1]) if window is not None else None
    else:
        raise Quarantined(Quarantine.WRONG_SHAPE, f"{frames.shape[3]} samples per pixel")
    return DecodedImage(
        pixels_DHW=np.ascontiguousarray(pixels[place.order], dtype=np.float32),
        affine_lps_mm=place.affine_lps_mm,
        spacing_mm=place.spacing_mm,
        modality=modality,
        units="HU" if modality == "CT" else "arbitrary",
        window=window,
        frame=str(dataset.get("FrameOfReferenceUID") or "") if place.placed else "",
    )


def _linear(dataset: Dataset, frame: int) -> tuple[float, float]:
    """(slope, intercept): the frame's own, the shared ones, or the image's (PS3.3 C.7.6.16.2.9)."""
    source = group(dataset, "PixelValueTransformationSequence", frame) or dataset
    slope, intercept = numbers(source, "RescaleSlope", 1), numbers(source, "RescaleIntercept", 1)
    written = source.get("RescaleSlope") not in (None, "") or source.get("RescaleIntercept") not in (None, "")
    if written and (slope is None or intercept is None):
        raise Quarantined(
            Quarantine.PIXELS_NOT_FINITE, "RescaleSlope or RescaleIntercept that is not a number"
        )
    return (slope or (1.0,))[0], (intercept or (0.0,))[0]


def _modality_transform(dataset: Dataset, stored_FHW: npt.NDArray[Any]) -> FloatArray:
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored_FHW, dataset), np.float32)
    pairs = np.array([_linear(dataset, frame) for frame in range(len(stored_FHW))])
    slopes, intercepts = pairs[:, 0, None, None], pairs[:, 1, None, None]
    return np.asarray(stored_FHW * slopes + intercepts, np.float32)


def _sum_of_limits(dataset: Dataset, frames: npt.NDArray[Any]) -> np.float32:
    """f(least) + f(greatest) of the stored range: v → that − v turns the scale round, also signed ones."""
    if frames.dtype.kind == "f":
        return np.float32(frames.min() + frames.max())
    bits = int(dataset.BitsStored)
    least = -(1 << (bits - 1)) if frames.dtype.kind == "i" else 0
    limits = np.array([least, least + (1 << bits) - 1], frames.dtype)
    return np.float32(_modality_transform(dataset, limits.reshape(1, 1, 2)).sum(dtype=np.float64))


def _window(dataset: Dataset) -> tuple[float, float] | None:
    """The first VOI window (PS3.3 C.11.2.1.2); a width below 1 is none."""
    source = group(dataset, "FrameVOILUTSequence", 0) or dataset
    found = []
    for keyword in ("WindowCenter", "WindowWidth"):
        value = source.get(keyword)
        first = value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) and value else value
        try:
            found.append(float(first))
        except (TypeError, ValueError):
            return None
    return (found[0], found[1]) if np.isfinite(found).all() and found[1] >= 1 else None


def decode_nifti(volume: NiftiVolume) -> DecodedImage:
    """NIfTI's (i, j, k) in RAS+ → (D, H, W) = (k, j, i) in LPS. Raises Quarantined for a time series.

    The format names no frame of reference: its world is taken to be one, where the header has any geometry.
    """
    stored = volume.stored
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim > 3:
        raise Quarantined(Quarantine.WRONG_SHAPE, f"{stored.shape[-1]} volumes in one NIfTI file")
    if stored.ndim == 2:
        stored = stored[..., None]
    pixels = stored.transpose(2, 1, 0) * np.float64(volume.slope) + volume.intercept
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine_ras_mm
    width, height, depth = (float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    return DecodedImage(
        pixels_DHW=np.ascontiguousarray(pixels, dtype=np.float32),
        affine_lps_mm=affine,
        spacing_mm=(depth, height, width),
        modality="OT",
        units="arbitrary",
        frame="" if np.array_equal(volume.affine_ras_mm, np.eye(4)) else "nifti",
    )
