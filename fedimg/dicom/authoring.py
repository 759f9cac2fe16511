"""Writing real DICOM files: the generated cohort, and pictures that become Secondary Captures.

IODs: PS3.3 A.2 (CR), A.3 (CT), A.4 (MR), A.6/A.7 (US), A.8 (SC). This module writes what it is
told, identifiers included: it stands on the hospital's side of the identity boundary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom.uid as uids
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from fedimg.dicom.elements import PrivateElement, derived_uid, encode_file, encoded
from fedimg.dicom.segmentation import (
    HEART,
    LESION,
    segmentation_label,
    segmentation_masks,
    write_segmentation,
)
from fedimg.errors import DataError

__all__ = [
    "HEART",
    "LESION",
    "PrivateElement",
    "TransferSyntax",
    "build_image",
    "derived_uid",
    "encode_image",
    "encoded",
    "segmentation_label",
    "segmentation_masks",
    "write_image",
    "write_segmentation",
]

TransferSyntax = Literal[
    "explicit_le", "implicit_le", "explicit_be", "deflated_le", "rle", "jpeg_ls", "jpeg_2000"
]

_SYNTAXES: Mapping[str, UID] = {
    "explicit_le": uids.ExplicitVRLittleEndian,
    "implicit_le": uids.ImplicitVRLittleEndian,
    "explicit_be": uids.ExplicitVRBigEndian,
    "deflated_le": uids.DeflatedExplicitVRLittleEndian,
    "rle": uids.RLELossless,
    "jpeg_ls": uids.JPEGLSLossless,
    "jpeg_2000": uids.JPEG2000Lossless,
}
# Named, because pydicom would try GDCM too, which ends the process on sizes that it does not take.
_PLUGINS: Mapping[str, str] = {
    uids.RLELossless: "pydicom",
    uids.JPEGLSLossless: "pyjpegls",
    uids.JPEG2000Lossless: "pylibjpeg",
}
# (single frame, multi-frame) storage classes; PS3.4 table B.5-1
_CLASSES: Mapping[str, tuple[UID, UID | None]] = {
    "CT": (uids.CTImageStorage, None),
    "MR": (uids.MRImageStorage, None),
    "CR": (uids.ComputedRadiographyImageStorage, None),
    "US": (uids.UltrasoundImageStorage, uids.UltrasoundMultiFrameImageStorage),
    "OT": (uids.SecondaryCaptureImageStorage, uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage),
}
# Type 1 and 2 attributes of the common modules (PS3.3 C.7): empty unless the caller knows better.
_COMMON: Mapping[str, Any] = {
    "PatientName": "",
    "PatientID": "",
    "PatientBirthDate": "",
    "PatientSex": "",
    "StudyDate": "",
    "StudyTime": "",
    "ReferringPhysicianName": "",
    "StudyID": "",
    "AccessionNumber": "",
    "SeriesNumber": "1",
    "InstanceNumber": "1",
    "Manufacturer": "",
}
_BY_MODALITY: Mapping[str, Mapping[str, Any]] = {
    "CT": {
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "AcquisitionNumber": "1",
        "KVP": "",
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
    },
    "MR": {
        "ImageType": ["ORIGINAL", "PRIMARY", "OTHER"],
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": "",
        "EchoTrainLength": "",
        "RepetitionTime": "",
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
    },
    "CR": {
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "BodyPartExamined": "",
        "ViewPosition": "",
        "PatientOrientation": "",
    },
    "US": {"ImageType": ["ORIGINAL", "PRIMARY"], "PatientOrientation": ""},
    "OT": {
        "ImageType": ["DERIVED", "SECONDARY"],
        "Laterality": "",
        "ConversionType": "WSD",
        "PatientOrientation": "",
    },
}


def _pixel_module(
    pixels: npt.NDArray[Any], attributes: Mapping[str, Any]
) -> tuple[dict[str, Any], npt.NDArray[Any]]:
    """Image Pixel module (PS3.3 C.7.6.3) and the pixels as (F, H, W, S)."""
    if pixels.dtype not in (np.uint8, np.uint16, np.int16):
        raise DataError("pixels of uint8, uint16 or int16", str(pixels.dtype), "convert them first")
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3 and pixels.dtype == np.uint8
    frames = pixels if colour else pixels[..., None]
    if frames.ndim == 3:
        frames = frames[None]
    if frames.ndim != 4 or not frames.size:
        raise DataError(
            "pixels of shape (H, W), (F, H, W), (H, W, 3) or (F, H, W, 3)", str(pixels.shape), "reshape them"
        )
    bits = pixels.dtype.itemsize * 8
    stored = int(attributes.get("BitsStored", bits))
    module: dict[str, Any] = {
        "SamplesPerPixel": frames.shape[3],
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "Rows": frames.shape[1],
        "Columns": frames.shape[2],
        "BitsAllocated": bits,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": int(pixels.dtype == np.int16),
    }
    if colour:
        module["PlanarConfiguration"] = 0
    if frames.shape[0] > 1:
        module["NumberOfFrames"] = str(frames.shape[0])
    return module, frames


def encode_image(
    *,
    modality: str,
    pixels: npt.NDArray[Any],
    attributes: Mapping[str, Any],
    transfer_syntax: TransferSyntax = "explicit_le",
    private: Sequence[PrivateElement] = (),
) -> bytes:
    """One image instance as the bytes of a DICOM file.

    Args:
        modality: "CT", "MR", "CR", "US" or "OT" (Secondary Capture); another one needs SOPClassUID.
        pixels: (H, W), (F, H, W) of uint8, uint16 or int16; (H, W, 3), (F, H, W, 3) of uint8 for RGB.
        attributes: DICOM keywords; a list of mappings is a sequence. They override every default.
            UIDs that are missing are made up.
        transfer_syntax: how pixels and data set are encoded; all of them lossless.
        private: (group, creator, element 0x00–0xFF, VR, value); of VR SQ a list of mappings.

    Raises DataError for an unknown keyword, a shape or type of pixels, or what the codec declines.
    """
    module, frames = _pixel_module(pixels, attributes)
    single, multiple = _CLASSES.get(modality, (None, None))
    sop_class = attributes.get("SOPClassUID", single if frames.shape[0] == 1 else multiple)
    if sop_class is None:
        raise DataError(
            "a storage class for this modality and number of frames", modality, "give SOPClassUID"
        )
    whole = {"SOPClassUID": sop_class, "Modality": modality, **_COMMON, **_BY_MODALITY.get(modality, {})}
    for level in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if level not in attributes:
            whole[level] = uids.generate_uid(prefix=None)
    whole |= module | dict(attributes)
    syntax = _SYNTAXES[transfer_syntax]
    return encode_file(whole, _pixel_data(frames, whole, syntax), syntax, private)


def _pixel_data(frames: npt.NDArray[Any], attributes: Mapping[str, Any], syntax: UID) -> bytes:
    if syntax.is_encapsulated:
        values = frames if frames.shape[3] > 1 else frames[..., 0]
        values = values if frames.shape[0] > 1 else values[0]
        options = {
            "rows": frames.shape[1],
            "columns": frames.shape[2],
            "number_of_frames": frames.shape[0],
            "samples_per_pixel": frames.shape[3],
            "bits_allocated": attributes["BitsAllocated"],
            "bits_stored": attributes["BitsStored"],
            "pixel_representation": attributes["PixelRepresentation"],
            "photometric_interpretation": attributes["PhotometricInterpretation"],
            "planar_configuration": 0,
        }
        try:
            encoded_frames = get_encoder(syntax).iter_encode(
                values, encoding_plugin=_PLUGINS[syntax], **options
            )
            return encapsulate(list(encoded_frames))
        except RuntimeError:
            found = f"{frames.shape[1]} × {frames.shape[2]} pixels"
            raise DataError(
                f"an image that {syntax.name} can hold", found, "use another transfer syntax"
            ) from None
    order: Literal[">", "<"] = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    return frames.astype(frames.dtype.newbyteorder(order), copy=False).tobytes()


def build_image(
    *,
    modality: str,
    pixels: npt.NDArray[Any],
    attributes: Mapping[str, Any],
    transfer_syntax: TransferSyntax = "explicit_le",
    private: Sequence[PrivateElement] = (),
) -> Dataset:
    """`encode_image`, read back by pydicom: a data set in memory with `file_meta`."""
    data = encode_image(
        modality=modality,
        pixels=pixels,
        attributes=attributes,
        transfer_syntax=transfer_syntax,
        private=private,
    )
    return dcmread(BytesIO(data))


def write_image(
    path: Path,
    *,
    modality: str,
    pixels: npt.NDArray[Any],
    attributes: Mapping[str, Any],
    transfer_syntax: TransferSyntax = "explicit_le",
    private: Sequence[PrivateElement] = (),
) -> None:
    """`encode_image`, written to `path`."""
    path.write_bytes(
        encode_image(
            modality=modality,
            pixels=pixels,
            attributes=attributes,
            transfer_syntax=transfer_syntax,
            private=private,
        )
    )
