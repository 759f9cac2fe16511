"""Ordinary clinical files of four modalities, to plant identifiers in; every transfer syntax at hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.uid as uids
from PIL import Image, ImageDraw, ImageFont
from pydicom.encaps import generate_frames
from pydicom.pixels.encoders.base import get_encoder
from rawdicom import EXPLICIT, NATIVE, E, File, e, fragments

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
JPEG, JPEG_LOSSLESS = str(uids.JPEGBaseline8Bit), str(uids.JPEGLosslessSV1)
JPEG_LS, J2K, RLE = str(uids.JPEGLSLossless), str(uids.JPEG2000Lossless), str(uids.RLELossless)
HTJ2K = str(uids.HTJ2KLossless)
COMPRESSED = (JPEG, JPEG_LOSSLESS, JPEG_LS, J2K, HTJ2K, RLE)
SYNTAXES = (*NATIVE, *COMPRESSED)
# Of the wheel of pydicom: there in every installation.
SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
PATIENT, NUMBER = "THROCKMORE^ELSPETHA", "PIX-7741306"


@cache
def ct_pixels(size: int = 96, seed: int = 0) -> np.ndarray:
    """(H, W) uint16 of 12 bits: a body, two organs, noise; nothing that looks like letters."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = 1000 / (1 + np.exp(30 * (np.hypot(x / 0.85, y / 0.65) - 1)))
    organs = sum(
        90 * sign * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.06)
        for cx, cy, sign in rng.uniform(-0.4, 0.4, (4, 3))
    )
    noisy = 24 + body + organs * (body > 500) + rng.normal(0, 8, (size, size))
    values = noisy.clip(0, 4095).astype(np.uint16)
    values.setflags(write=False)  # shared between the tests
    return values


def octets(size: int = 96, seed: int = 0) -> np.ndarray:
    """The same in 8 bits."""
    return (ct_pixels(size, seed) / 1300 * 255).clip(0, 255).astype(np.uint8)


def written(
    pixels: np.ndarray, text: str, at: tuple[int, int], height: int, value: int, angle: int = 0
) -> np.ndarray:
    """Pixels (H, W) with a line of text of about `height` pixels drawn in `value`, turned by `angle`."""
    font = ImageFont.load_default(height * 1.35)
    left, top, right, bottom = (int(v) for v in font.getbbox(text))
    stencil = Image.new("1", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(stencil).text((1 - left, 1 - top), text, font=font, fill=1)
    mask = np.array(stencil.rotate(angle, expand=True))
    out = pixels.copy()
    y, x = at
    window = out[y : y + mask.shape[0], x : x + mask.shape[1]]
    window[mask[: window.shape[0], : window.shape[1]]] = value
    return out


def image_elements(pixels: np.ndarray, bits: int | None = None, **other: Any) -> tuple[E, ...]:
    """The Image Pixel module, native little-endian; (H, W), (F, H, W) or (…, 3) of uint8."""
    colour = pixels.shape[-1] == 3
    frames = pixels.ndim - 2 - colour
    rows, columns = pixels.shape[frames : frames + 2]
    allocated = pixels.dtype.itemsize * 8
    stored = bits or allocated
    numbers = {
        "SamplesPerPixel": 3 if colour else 1,
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": allocated,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    found = [e(keyword, (number,), "US") for keyword, number in numbers.items()]
    found.append(e("PhotometricInterpretation", "RGB" if colour else "MONOCHROME2"))
    if colour:
        found.append(e("PlanarConfiguration", (0,)))
    if frames:
        found.append(e("NumberOfFrames", str(pixels.shape[0])))
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    found.append(e("PixelData", data, "OW" if allocated > 8 else "OB"))
    return (*found, *(e(keyword, value) for keyword, value in other.items()))


def _common(sop_class: str, modality: str, **other: Any) -> dict[int, E]:
    values = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": "1.2.826.0.1.3680043.77.31.5",
        "StudyInstanceUID": "1.2.826.0.1.3680043.77.31.1",
        "SeriesInstanceUID": "1.2.826.0.1.3680043.77.31.2",
        "Modality": modality,
        "ImageType": "ORIGINAL\\PRIMARY\\AXIAL" if modality == "CT" else "ORIGINAL\\PRIMARY",
        "PatientName": PATIENT,
        "PatientID": NUMBER,
        "PatientBirthDate": "19540302",
        "PatientSex": "F",
        "StudyDate": "20190417",
        "StudyTime": "101500",
        "AccessionNumber": "ACC-5520931",
        "ReferringPhysicianName": "BRAMBLECOTE^OTTILIE",
        "StudyID": "1",
        "SeriesNumber": "1",
        "InstanceNumber": "1",
        "Manufacturer": "",
        "SpecificCharacterSet": "ISO_IR 192",
        **other,
    }
    found = [e(keyword, value) for keyword, value in values.items()]
    return {element.tag: element for element in found}


def ct(pixels: np.ndarray | None = None, **other: Any) -> File:
    geometry = {
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.77.31.3",
        "ImagePositionPatient": "-170\\-170\\12.5",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "PixelSpacing": "0.7\\0.7",
        "SliceThickness": "5",
        "PositionReferenceIndicator": "",
        "AcquisitionNumber": "1",
        "KVP": "120",
        "RescaleIntercept": "-1024",
        "RescaleSlope": "1",
        "PatientPosition": "HFS",
        "BodyPartExamined": "CHEST",
    }
    values = ct_pixels() if pixels is None else pixels
    module = image_elements(values, 12 if values.dtype.itemsize > 1 else None)
    return File(_common(uids.CTImageStorage, "CT", **(geometry | other))).having(*module)


def mr(pixels: np.ndarray | None = None, **other: Any) -> File:
    scan = {
        "ImageType": "ORIGINAL\\PRIMARY\\OTHER",
        "ScanningSequence": "SE",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "2D",
        "EchoTime": "20",
        "EchoTrainLength": "1",
        "RepetitionTime": "500",
        "FrameOfReferenceUID": "1.2.826.0.1.3680043.77.31.3",
        "PositionReferenceIndicator": "",
        "ImagePositionPatient": "-170\\-170\\12.5",
        "ImageOrientationPatient": "1\\0\\0\\0\\1\\0",
        "PixelSpacing": "0.7\\0.7",
        "SliceThickness": "5",
        "PatientPosition": "HFS",
        "BodyPartExamined": "KNEE",
    }
    values = ct_pixels(seed=1) if pixels is None else pixels
    module = image_elements(values, 12 if values.dtype.itemsize > 1 else None)
    return File(_common(uids.MRImageStorage, "MR", **(scan | other))).having(*module)


def cr(pixels: np.ndarray | None = None, **other: Any) -> File:
    view = {"BodyPartExamined": "CHEST", "ViewPosition": "AP", "PatientOrientation": "L\\F"}
    values = ct_pixels(128, seed=2) if pixels is None else pixels
    module = image_elements(values, 12 if values.dtype.itemsize > 1 else None)
    return File(_common(uids.ComputedRadiographyImageStorage, "CR", **(view | other))).having(*module)


def us(
    pixels: np.ndarray | None = None, region: tuple[int, int, int, int] | None = None, **other: Any
) -> File:
    """With one region; by default all of the image but a banner of a sixth of its height."""
    values = np.repeat(octets(seed=3)[..., None], 3, axis=2) if pixels is None else pixels
    frames = values.ndim > 2 + (values.shape[-1] == 3)
    rows, columns = values.shape[frames : frames + 2]
    x0, y0, x1, y1 = region or (0, rows // 6, columns - 1, rows - 1)
    item = [
        e("RegionSpatialFormat", (1,)),
        e("RegionDataType", (1,)),
        e("RegionFlags", (0,)),
        e("RegionLocationMinX0", (x0,)),
        e("RegionLocationMinY0", (y0,)),
        e("RegionLocationMaxX1", (x1,)),
        e("RegionLocationMaxY1", (y1,)),
        e("PhysicalUnitsXDirection", (3,)),
        e("PhysicalUnitsYDirection", (3,)),
        e("PhysicalDeltaX", (0.03,)),
        e("PhysicalDeltaY", (0.03,)),
    ]
    sop_class = uids.UltrasoundMultiFrameImageStorage if frames else uids.UltrasoundImageStorage
    if frames:
        other = {"FrameTime": "40", "FrameIncrementPointer": (0x00181063,)} | other
    file = File(_common(sop_class, "US", **({"PatientOrientation": ""} | other)))
    return file.having(*image_elements(values), E(0x00186011, "SQ", [item]))


def in_syntax(file: File, syntax: str) -> File:
    """The same file with its native pixels as another transfer syntax has them.

    JPEG baseline takes 8 bits, HTJ2K the one real image there is: pixels are replaced accordingly.
    """
    if syntax in NATIVE:
        return replace(file, syntax=syntax) if syntax != NATIVE[2] else _big(file)
    values = _stored(file)
    if syntax == HTJ2K:
        return _high_throughput(file)
    if syntax == JPEG:
        grey = values if values.dtype == np.uint8 else (values / max(values.max(), 1) * 255).astype(np.uint8)
        file = file.having(*image_elements(grey))
        buffer = BytesIO()
        Image.fromarray(grey).save(buffer, "JPEG", quality=95, subsampling=0)
        frames = [buffer.getvalue()]
        if grey.shape[-1] == 3:
            file = file.having(e("PhotometricInterpretation", "YBR_FULL"))
    elif syntax == JPEG_LOSSLESS:
        frames = [_lossless_jpeg(file)]
    else:
        frames = _encoded(file, values, syntax)
    return replace(
        file.having(E(0x7FE00010, "OB", fragments(frames), undefined=True)), syntax=EXPLICIT, stated=syntax
    )


def _stored(file: File) -> np.ndarray:
    dataset = pydicom.dcmread(BytesIO(replace(file, syntax=EXPLICIT).to_bytes()))
    return dataset.pixel_array


def _big(file: File) -> File:
    element = file.elements[0x7FE00010]
    width = 2 if element.vr == "OW" and file.elements[0x00280100].value == (16,) else 1
    data = np.frombuffer(element.value, f"<u{width}").byteswap().tobytes()
    return replace(file.having(replace(element, value=data)), syntax=NATIVE[2])


def _encoded(file: File, values: np.ndarray, syntax: str) -> list[bytes]:
    plugin = {JPEG_LS: "pyjpegls", J2K: "pylibjpeg", RLE: "pydicom"}[syntax]
    numbers = {
        name: file.elements[tag].value[0]
        for name, tag in {
            "rows": 0x00280010,
            "columns": 0x00280011,
            "samples_per_pixel": 0x00280002,
            "bits_allocated": 0x00280100,
            "bits_stored": 0x00280101,
            "pixel_representation": 0x00280103,
        }.items()
    }
    frames = int(file.elements[0x00280008].value) if 0x00280008 in file.elements else 1
    photometric = file.elements[0x00280004].value
    options = numbers | {"number_of_frames": frames, "photometric_interpretation": photometric}
    options["planar_configuration"] = 0
    return list(get_encoder(syntax).iter_encode(values, encoding_plugin=plugin, **options))


def _lossless_jpeg(file: File) -> bytes:
    """By GDCM, which alone has it. Imported late: its own zlib takes the place of Python's if it comes first."""
    import gdcm

    folder = _scratch()
    source, target = folder / "source.dcm", folder / "target.dcm"
    source.write_bytes(replace(file, syntax=EXPLICIT).to_bytes())
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return next(generate_frames(pydicom.dcmread(target).PixelData, number_of_frames=1))


@cache
def _scratch() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp())


def _high_throughput(file: File) -> File:
    """A real HTJ2K frame (no encoder is at hand) in an ultrasound's or a radiograph's place."""
    path = SHARED / "pydicom-data" / "HTJ2KLossless_08_RGB.dcm"
    if not path.exists():
        import pytest

        pytest.skip(f"needs {path.name} of pydicom-data, which is not here")
    real = pydicom.dcmread(path)
    frame = next(generate_frames(real.PixelData, number_of_frames=1))
    blank = np.zeros((real.Rows, real.Columns, 3), np.uint8)
    kept = us(blank, (200, 200, 420, 380)).elements
    mine = {t: x for t, x in file.elements.items() if t not in kept or t >> 16 in (0x0008, 0x0010)}
    mine |= {t: kept[t] for t in (0x00080016, 0x00080060, 0x00080008)}
    merged = replace(file, elements={**kept, **mine})
    pixels = E(0x7FE00010, "OB", fragments([frame]), undefined=True)
    photometric = e("PhotometricInterpretation", str(real.PhotometricInterpretation))
    return replace(merged.having(pixels, photometric), syntax=EXPLICIT, stated=HTJ2K)
