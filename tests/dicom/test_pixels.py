"""Stored values become units: against a formula, pydicom's own transforms, gdcm and nibabel."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import gdcm
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut

from fedimg.dicom import authoring, pixels
from fedimg.dicom.authoring import build_image, write_image
from fedimg.dicom.pixels import decode, decode_dataset
from fedimg.dicom.reader import ReadLimits, read_dataset
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

LUMA = (0.299, 0.587, 0.114)


def reason_of(path: Path, **limits) -> Quarantine:
    with pytest.raises(Quarantined) as caught:
        decode(path, ReadLimits(**limits))
    return caught.value.reason


DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "dicom" / "pydicom-data"


def own(name: str) -> Path:
    path = DATA / name if (DATA / name).exists() else get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"needs {name} in ../shared/data/dicom/pydicom-data, which is not here")
    return Path(str(path))


@given(st.data())
def test_units_are_slope_times_stored_plus_intercept(data):
    dtype, bits = data.draw(
        st.sampled_from([(np.uint8, 8), (np.uint16, 12), (np.uint16, 16), (np.int16, 16)])
    )
    least = -(1 << 15) if dtype is np.int16 else 0
    values = st.integers(least, least + (1 << bits) - 1)
    stored = data.draw(hnp.arrays(dtype, (2, 3, 4), elements=values))
    slope, intercept = data.draw(st.sampled_from([(1, 0), (1, -1024), (0.5, 3.25), (-2, 7)]))
    interpretation = data.draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"]))
    attributes = {
        "BitsStored": bits,
        "HighBit": bits - 1,
        "RescaleSlope": str(slope),
        "RescaleIntercept": str(intercept),
        "PhotometricInterpretation": interpretation,
        "WindowCenter": ["40", "50"],
        "WindowWidth": ["400", "500"],
    }
    image = decode_dataset(build_image(modality="US", pixels=stored, attributes=attributes))
    turned = (
        (1 << bits) - 1 + 2 * least - stored.astype(np.int64) if interpretation == "MONOCHROME1" else stored
    )
    assert np.allclose(image.pixels_DHW, turned * float(slope) + intercept, atol=0.01)
    assert image.pixels_DHW.dtype == np.float32 and image.pixels_DHW.flags.c_contiguous
    ends = np.array([least, least + (1 << bits) - 1]) * float(slope) + intercept
    assert image.window == ((ends.sum() - 40 if interpretation == "MONOCHROME1" else 40), 400)


def test_hounsfield_units_are_never_turned_round():
    attributes = {"PhotometricInterpretation": "MONOCHROME1", "RescaleIntercept": "-1000"}
    image = decode_dataset(
        build_image(modality="CT", pixels=np.full((2, 2), 40, np.uint16), attributes=attributes)
    )
    assert (image.pixels_DHW == -960).all() and image.units == "HU"


def test_every_grey_image_agrees_with_pydicoms_modality_transform():
    folder = Path(str(get_testdata_file("CT_small.dcm"))).parent
    compared = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            image = decode(path)
        except Quarantined:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
            if dataset.get("PhotometricInterpretation") != "MONOCHROME2":
                continue
            if "PerFrameFunctionalGroupsSequence" in dataset or path.stem.startswith("JPEG2000-"):
                continue
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            expected = apply_modality_lut(dataset.pixel_array, dataset)
        assert np.allclose(image.pixels_DHW, expected.reshape(image.pixels_DHW.shape), rtol=1e-6), path.name
        compared += 1
    assert compared >= 20


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_jp2klossless.dcm",
        "JPEGLSNearLossless_16.dcm",
        "MR_small_RLE.dcm",
        "emri_small_jpeg_2k_lossless.dcm",
    ],
)
def test_decoded_streams_agree_with_gdcm(name):
    path = own(name)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    buffer = reader.GetImage().GetBuffer()
    raw = buffer if isinstance(buffer, bytes) else buffer.encode("utf-8", "surrogateescape")
    frames, _ = pixels.stored_frames(read_dataset(path))
    assert (np.frombuffer(raw, frames.dtype) == frames.ravel()).all()


@pytest.mark.parametrize("syntax", sorted(authoring._SYNTAXES))
def test_every_syntax_decodes_to_the_same_image(tmp_path, syntax):
    stored = (np.arange(48 * 40).reshape(48, 40) % 4096).astype(np.uint16)
    write_image(
        tmp_path / "a.dcm",
        modality="CR",
        pixels=stored,
        attributes={"BitsStored": 12, "HighBit": 11},
        transfer_syntax=syntax,
    )
    assert (decode(tmp_path / "a.dcm").pixels_DHW[0] == stored).all()


@pytest.mark.parametrize(
    "name", ["HTJ2KLossless_08_RGB.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "examples_ybr_color.dcm"]
)
def test_other_syntaxes_are_decoded(name):
    image = decode(own(name))
    assert image.pixels_DHW.std() > 1


def test_luminance_of_full_range_ybr_is_its_own_y():
    rgb = np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)
    ybr = pydicom.pixels.convert_color_space(rgb, "RGB", "YBR_FULL")
    dataset = build_image(modality="OT", pixels=ybr, attributes={"PhotometricInterpretation": "YBR_FULL"})
    found = decode_dataset(dataset).pixels_DHW[0]
    # Through RGB and back: pydicom rounds to whole numbers and clips what lies outside of RGB.
    assert np.abs(found - ybr[..., 0]).mean() < 1
    assert np.abs(found - rgb @ np.array(LUMA)).max() < 4


@pytest.mark.parametrize(("compressed", "plain"), [("US1_J2KR.dcm", "US1_UNCR.dcm")])
def test_a_compressed_file_and_its_original_are_the_same_image(compressed, plain):
    assert np.abs(decode(own(compressed)).pixels_DHW - decode(own(plain)).pixels_DHW).max() <= 1.5


@pytest.mark.parametrize("planar", [0, 1])
def test_rgb_becomes_luminance_in_either_plane_order(planar):
    colours = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    dataset = build_image(modality="OT", pixels=colours, attributes={"PlanarConfiguration": planar})
    if planar:
        dataset.PixelData = np.ascontiguousarray(colours.transpose(2, 0, 1)).tobytes()
    assert np.allclose(decode_dataset(dataset).pixels_DHW[0], colours @ np.array(LUMA), atol=1e-3)


def test_a_palette_is_looked_up():
    table = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        attributes[f"{colour}PaletteColorLookupTableData"] = entries.astype("<u2").tobytes()
    image = decode_dataset(build_image(modality="OT", pixels=stored, attributes=attributes))
    expected = (np.array(LUMA) @ (table / 257)).reshape(16, 16)
    assert np.allclose(image.pixels_DHW[0], expected, atol=0.01)


def test_frames_have_slopes_and_places_of_their_own():
    stored = np.ones((3, 4, 4), np.uint16)
    groups = [
        {
            "PixelValueTransformationSequence": [
                {"RescaleSlope": str(k + 1), "RescaleIntercept": "0", "RescaleType": "US"}
            ],
            "PlanePositionSequence": [{"ImagePositionPatient": ["0", "0", str(10 - k)]}],
        }
        for k in range(3)
    ]
    attributes = {"PerFrameFunctionalGroupsSequence": groups}
    image = decode_dataset(build_image(modality="US", pixels=stored, attributes=attributes))
    assert image.pixels_DHW[:, 0, 0].tolist() == [3, 2, 1]  # from the lowest place upwards
    assert image.affine_lps_mm[:3, 3].tolist() == [0, 0, 8]


@pytest.mark.parametrize("value", ["nan", "inf", "one"])
def test_a_slope_that_is_no_number_is_refused(tmp_path, value):
    attributes = {"RescaleSlope": value, "RescaleIntercept": "0"}
    write_image(tmp_path / "a.dcm", modality="CT", pixels=np.ones((4, 4), np.uint16), attributes=attributes)
    assert reason_of(tmp_path / "a.dcm") is Quarantine.PIXELS_NOT_FINITE


def test_float_pixels_are_read_and_nan_is_refused(tmp_path):
    dataset = build_image(modality="MR", pixels=np.ones((4, 4), np.uint16), attributes={})
    values = np.linspace(-1, 1, 16, dtype=np.float32)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    for last, accepted in ((1.0, True), (np.nan, False), (np.inf, False)):
        values[-1] = last
        dataset.FloatPixelData = values.tobytes()
        (tmp_path / "a.dcm").write_bytes(authoring.encoded(dataset))
        if accepted:
            assert (decode(tmp_path / "a.dcm").pixels_DHW.ravel() == values).all()
        else:
            assert reason_of(tmp_path / "a.dcm") is Quarantine.PIXELS_NOT_FINITE


@pytest.mark.parametrize("syntax", ["jpeg_ls", "jpeg_2000"])
def test_a_frame_that_states_another_size_is_never_decoded(tmp_path, syntax):
    stored = np.zeros((64, 64), np.uint8)
    write_image(tmp_path / "a.dcm", modality="OT", pixels=stored, attributes={}, transfer_syntax=syntax)
    dataset = read_dataset(tmp_path / "a.dcm")
    dataset.Rows = 32
    (tmp_path / "a.dcm").write_bytes(authoring.encoded(dataset))
    with pytest.raises(Quarantined, match=r"a frame of \(64, 64, 1\) in an image of \(32, 64, 1\)"):
        decode(tmp_path / "a.dcm")


def test_frames_beyond_the_stated_number_are_refused():
    dataset = build_image(modality="US", pixels=np.zeros((3, 4, 4), np.uint8), attributes={})
    dataset.NumberOfFrames = 2
    with pytest.raises(Quarantined, match="48 values where 32 are stated"):
        decode_dataset(dataset)


@given(st.integers(0, 2000), st.integers(0, 255))
def test_a_damaged_stream_is_decoded_or_refused(position, value):
    dataset = build_image(
        modality="OT", pixels=np.zeros((40, 40), np.uint8), attributes={}, transfer_syntax="jpeg_ls"
    )
    damaged = bytearray(dataset.PixelData)
    damaged[position % len(damaged)] = value
    dataset.PixelData = bytes(damaged)
    try:
        image = decode_dataset(dataset)
    except Quarantined as refusal:
        reason = refusal.reason
        assert reason in (Quarantine.PIXELS_UNDECODABLE, Quarantine.UNSAFE_STRUCTURE)
    else:
        assert image.pixels_DHW.shape == (1, 40, 40)


def test_a_report_is_no_image():
    assert reason_of(own("reportsi.dcm")) is Quarantine.NOT_AN_IMAGE


def test_pixels_that_no_plugin_here_decodes_are_refused_by_name(tmp_path):
    with pytest.raises(Quarantined) as caught:
        decode(own("JPEG-lossy.dcm"))
    assert caught.value.reason is Quarantine.PIXELS_UNDECODABLE
    assert "a JPEG Extended (Process 2 and 4) stream that does not decode" in str(caught.value)


@given(st.data())
def test_nifti_agrees_with_nibabel_in_lps(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("nifti") / data.draw(st.sampled_from(["a.nii", "a.nii.gz"]))
    dtype = data.draw(st.sampled_from([np.uint8, np.int16, np.float32, np.float64]))
    shape = data.draw(st.sampled_from([(4, 3, 2), (4, 3), (4, 3, 2, 1)]))
    values = data.draw(hnp.arrays(dtype, shape, elements=st.integers(0, 100)))
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])
    kind = data.draw(st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]))
    written = kind(values, affine)
    written.header.set_xyzt_units(data.draw(st.sampled_from(["mm", "micron", "unknown"])))
    nibabel.save(written, path)
    image = decode(path)
    scale = 1e-3 if written.header.get_xyzt_units()[0] == "micron" else 1.0
    assert image.spacing_mm == pytest.approx((3 * scale, 2 * scale, 1.5 * scale))
    expected = nibabel.load(path).get_fdata().reshape(4, 3, -1)
    assert (image.pixels_DHW == expected.transpose(2, 1, 0).astype(np.float32)).all()
    right_anterior_superior = affine @ [3, 2, 0, 1] * scale
    assert image.affine_lps_mm[:3] @ [3, 2, 0, 1] == pytest.approx(
        right_anterior_superior[:3] * [-1, -1, 1], abs=1e-6
    )


def test_a_nifti_time_series_is_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    assert reason_of(tmp_path / "a.nii") is Quarantine.WRONG_SHAPE


def test_a_file_that_is_neither_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(b"Dear colleague"))
    assert reason_of(tmp_path / "a") is Quarantine.NOT_AN_IMAGE
    assert reason_of(tmp_path / "missing") is Quarantine.UNREADABLE
