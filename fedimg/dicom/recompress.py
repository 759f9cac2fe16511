"""Lossless recompression of the released tree, proven by decoding back.

JPEG-LS (ISO/IEC 14495-1, PS3.5 A.4.3); RLE (PS3.5 annex G) where an IOD allows nothing else.
"""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from fedimg.dicom.refusal import contained

Method = Literal["jpeg-ls", "none"]

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_INTERPRETATIONS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL")


def lossless(dataset: Dataset, method: Method) -> Dataset:
    """The same image in fewer bytes, or `dataset` itself where that is not possible.

    Args:
        dataset: with `file_meta`; never changed.
        method: "jpeg-ls" or "none".

    Guarantee: the returned data set decodes to exactly the same stored values, bit for bit (seen
    by decoding it), and its PixelData is shorter; every other element is the same object. Already
    compressed, big-endian, float and 1- or 32-bit pixels, and whatever the codec cannot hold or
    does not give back exactly, stay as they are. Bits above BitsStored are no part of the image
    (PS3.5 8.1.1) and are not kept.
    """
    if method == "none" or not _supported(dataset):
        return dataset
    packed = _encoded(dataset, JPEGLSLossless, "pyjpegls")
    return packed if packed is not None and len(packed.PixelData) < len(dataset.PixelData) else dataset


def run_lengths(dataset: Dataset) -> Dataset:
    """The same image by colour planes in run lengths, or `dataset` itself where that is not possible.

    What `lossless` guarantees holds here too, but that the pixel data may be longer. The caller sets
    PlanarConfiguration to 1, as it is of every image in RLE (PS3.5 8.2.2).
    """
    if not _supported(dataset):
        return dataset
    packed = _encoded(dataset, RLELossless, "gdcm")
    return dataset if packed is None else packed


def _encoded(dataset: Dataset, syntax: UID, plugin: str) -> Dataset | None:
    """None where the codec takes the image not, or does not give it back bit for bit."""
    with contained():
        try:
            before = _stored_values(dataset)
            frames = list(
                get_encoder(syntax).iter_encode(before, encoding_plugin=plugin, **_options(dataset))
            )
        except (ValueError, RuntimeError, AttributeError, TypeError):
            return None  # sizes or values that the codec does not take: left uncompressed, nothing lost
        packed = _with_pixel_data(dataset, encapsulate(frames), syntax)
        try:
            after = _stored_values(packed)
        except (ValueError, RuntimeError, AttributeError):
            return None
    same = before.dtype == after.dtype and before.shape == after.shape and np.array_equal(before, after)
    return packed if same else None


def ratio(before: Dataset, after: Dataset) -> float:
    """Bytes of PixelData before ÷ after (1.0 where `lossless` changed nothing)."""
    return len(before.PixelData) / len(after.PixelData)


def _supported(dataset: Dataset) -> bool:
    syntax = getattr(dataset, "file_meta", Dataset()).get("TransferSyntaxUID")
    if syntax not in _NATIVE or "PixelData" not in dataset:
        return False
    samples = dataset.get("SamplesPerPixel", 1)
    return bool(
        dataset.get("BitsAllocated") in (8, 16)
        and 2 <= (dataset.get("BitsStored") or 0) <= dataset.BitsAllocated
        and dataset.get("HighBit") == dataset.BitsStored - 1
        and dataset.get("PhotometricInterpretation") in _INTERPRETATIONS
        and (samples == 1 or (samples == 3 and dataset.get("PlanarConfiguration") == 0))
        and 0 < (dataset.get("Rows") or 0) < 1 << 16
        and 0 < (dataset.get("Columns") or 0) < 1 << 16
    )


def _options(dataset: Dataset) -> dict[str, Any]:
    options = {
        "rows": dataset.Rows,
        "columns": dataset.Columns,
        "number_of_frames": int(dataset.get("NumberOfFrames") or 1),
        "samples_per_pixel": dataset.get("SamplesPerPixel", 1),
        "bits_allocated": dataset.BitsAllocated,
        "bits_stored": dataset.BitsStored,
        "pixel_representation": dataset.get("PixelRepresentation", 0),
        "photometric_interpretation": dataset.PhotometricInterpretation,
    }
    if options["samples_per_pixel"] > 1:
        options["planar_configuration"] = 0
    return options


def _stored_values(dataset: Dataset) -> np.ndarray[Any, Any]:
    """Decoded values as stored: sign applied, no colour or modality transform."""
    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = {JPEGLSLossless: "pyjpegls", RLELossless: "pydicom"}.get(syntax, "")
    return get_decoder(syntax).as_array(dataset, raw=True, decoding_plugin=plugin)[0]


def _with_pixel_data(dataset: Dataset, packed: bytes, syntax: UID) -> Dataset:
    smaller = Dataset()
    smaller.update({element.tag: element for element in dataset.values()})
    implicit, little = dataset.original_encoding
    smaller.set_original_encoding(implicit, little, dataset.original_character_set)
    smaller.file_meta = copy.deepcopy(dataset.file_meta)
    smaller.file_meta.TransferSyntaxUID = syntax
    smaller.add_new(0x7FE00010, "OB", packed)
    smaller["PixelData"].is_undefined_length = True
    return smaller
