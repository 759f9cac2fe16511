"""A clean NIfTI: the same numbers in the same places, and no other byte of the original."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedimg.dicom.foreign import clean_nifti
from fedimg.dicom.nifti import is_nifti, read_nifti
from fedimg.dicom.reader import ReadLimits
from fedimg.dicom.refusal import Quarantined
from fedimg.values import Quarantine

NAME = b"Feathersto"
AFFINE = np.array([[-2.0, 0.1, 0, 90], [0, 2.0, 0, -126], [0, 0, 3.0, -72], [0, 0, 0, 1]])
DTYPES = (np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, np.int64)


def planted(values, kind=nibabel.Nifti1Image, slope=None) -> nibabel.Nifti1Image:
    image = kind(values, AFFINE, dtype=values.dtype)
    header = image.header
    header["descrip"] = header["aux_file"] = NAME
    header["intent_name"] = NAME
    if "db_name" in header:
        header["db_name"] = NAME
    header["cal_max"], header["toffset"] = 77.5, 1.25
    header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", NAME * 3))
    if slope is not None:
        header.set_slope_inter(*slope)
    return image


def reason_of(data: bytes, **limits) -> Quarantine:
    with pytest.raises(Quarantined) as caught:
        read_nifti(data, ReadLimits(**limits))
    assert NAME.decode() not in str(caught.value)
    return caught.value.reason


@given(st.data())
def test_values_and_geometry_stay_and_everything_else_goes(tmp_path_factory, data):
    values = data.draw(
        hnp.arrays(data.draw(st.sampled_from(DTYPES)), (3, 4, 2), elements=st.integers(0, 100))
    )
    kind = data.draw(st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]))
    folder = tmp_path_factory.mktemp("nifti")
    before = folder / data.draw(st.sampled_from(["in.nii", "in.nii.gz"]))
    nibabel.save(planted(values, kind), before)
    clean_nifti(before, folder / "out.nii.gz")
    after = nibabel.load(folder / "out.nii.gz")
    original = nibabel.load(before)
    assert after.get_data_dtype() == original.get_data_dtype()
    assert (np.asarray(after.dataobj) == np.asarray(original.dataobj)).all()
    assert np.allclose(after.affine, original.affine, atol=1e-4)
    assert np.allclose(after.header.get_zooms(), original.header.get_zooms(), atol=1e-4)
    raw = gzip.decompress((folder / "out.nii.gz").read_bytes())
    assert NAME not in raw and len(raw) == 352 + values.nbytes
    for field in ("descrip", "aux_file", "intent_name", "db_name", "data_type", "cal_max", "toffset"):
        assert not after.header[field].item(), field
    assert not after.header.extensions


def test_the_planted_text_was_there(tmp_path):
    nibabel.save(planted(np.zeros((2, 2, 2), np.uint8)), tmp_path / "in.nii")
    assert (tmp_path / "in.nii").read_bytes().count(NAME) >= 6


def test_scaled_integers_keep_their_stored_values_and_their_scale(tmp_path):
    stored = np.arange(8, dtype="<i2").reshape(2, 2, 2)
    header = planted(stored).header
    header["scl_slope"], header["scl_inter"], header["vox_offset"], header["magic"] = 0.5, -3.0, 352, b"n+1"
    (tmp_path / "in.nii").write_bytes(header.binaryblock + b"\0" * 4 + stored.tobytes(order="F"))
    clean_nifti(tmp_path / "in.nii", tmp_path / "out.nii.gz")
    after = nibabel.load(tmp_path / "out.nii.gz")
    assert (after.dataobj.get_unscaled() == stored).all()
    assert (after.get_fdata() == stored * 0.5 - 3).all()


def test_big_endian_values_are_the_same_values(tmp_path):
    stored = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_shape(stored.shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "in.nii").write_bytes(header.binaryblock + b"\0" * 4 + stored.tobytes(order="F"))
    clean_nifti(tmp_path / "in.nii", tmp_path / "out.nii.gz")
    assert (np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj) == stored).all()


def test_cleaning_is_deterministic_and_leaves_its_own_output_as_it_is(tmp_path):
    nibabel.save(planted(np.ones((2, 3, 4), np.float32)), tmp_path / "in.nii.gz")
    for source, target in (("in.nii.gz", "a"), ("in.nii.gz", "b"), ("a", "c")):
        clean_nifti(tmp_path / source, tmp_path / target)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b == c
    assert a[4:8] == b"\0\0\0\0" and not a[3] & 0x08  # no time, no file name (RFC 1952)


def test_bombs_and_broken_files_are_refused(tmp_path):
    whole = planted(np.zeros((40, 40, 40), np.float32)).to_bytes()
    assert reason_of(whole, pixel_samples=63_999) is Quarantine.UNSAFE_STRUCTURE
    assert reason_of(gzip.compress(whole), file_bytes=10_000) is Quarantine.UNSAFE_STRUCTURE
    assert reason_of(whole[:-1]) is Quarantine.UNREADABLE
    assert reason_of(gzip.compress(whole)[:-9]) is Quarantine.UNREADABLE
    assert reason_of(b"\x1f\x8b" + b"x" * 40) is Quarantine.UNREADABLE
    assert reason_of(whole[:200]) is Quarantine.NOT_AN_IMAGE


@pytest.mark.parametrize("size_mm", [1e-7, 9e-4, 1.1e3, 1e9])
def test_a_voxel_that_no_scanner_has_is_refused(size_mm):
    affine = np.diag([size_mm, 1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), affine)
    image.header["descrip"] = NAME
    assert reason_of(image.to_bytes()) is Quarantine.WRONG_SHAPE


@pytest.mark.parametrize("unit", ["mm", "meter", "micron"])
def test_the_unit_of_the_header_is_applied_before_the_bounds(unit):
    """2 µm, 2 mm and 2 m: the last one is a wrong unit."""
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units(unit)
    if unit == "meter":
        assert reason_of(image.to_bytes()) is Quarantine.WRONG_SHAPE
        return
    affine = read_nifti(image.to_bytes(), ReadLimits()).affine_ras_mm
    assert affine[0, 0] == pytest.approx({"mm": 2.0, "micron": 2e-3}[unit])


def test_a_header_without_geometry_means_millimetres_along_the_axes():
    header = nibabel.Nifti1Header()
    header.set_data_shape((2, 2, 2))
    header["vox_offset"], header["magic"], header["pixdim"] = 352, b"n+1", 0
    header["sform_code"], header["srow_x"] = 1, (1, 0, 0, 0)  # the other two rows are zero
    raw = header.binaryblock + b"\0" * 4 + b"\0" * 32
    np.testing.assert_array_equal(read_nifti(raw, ReadLimits()).affine_ras_mm, np.eye(4))


@pytest.mark.parametrize("values", [np.zeros((2, 2, 2), np.complex64), np.zeros((2, 2, 2, 2, 2), np.uint8)])
def test_what_is_no_volume_is_refused(values):
    assert reason_of(nibabel.Nifti1Image(values, np.eye(4)).to_bytes()) is Quarantine.WRONG_SHAPE


@given(st.integers(4, 347), st.integers(0, 255))
def test_any_damage_of_the_header_is_read_or_refused(position, value):
    damaged = bytearray(planted(np.zeros((4, 4, 4), np.int16)).to_bytes())
    damaged[position] = value
    assert is_nifti(bytes(damaged))
    try:
        volume = read_nifti(bytes(damaged), ReadLimits())
    except Quarantined as refusal:
        reason = refusal.reason
        assert reason in Quarantine
    else:
        assert volume.stored.size and np.isfinite(volume.affine_ras_mm).all()


def test_a_missing_file_is_refused_without_its_name(tmp_path):
    with pytest.raises(Quarantined) as caught:
        clean_nifti(tmp_path / NAME.decode(), tmp_path / "out")
    assert NAME.decode() not in str(caught.value)
