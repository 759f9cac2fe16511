"""Text hidden in numbers is found; measurements, look-up tables and the standard's own palettes are not taken for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_palette_files

from fedimg.dicom.spelled import reads_as_text, table_reads_as_text

FAMILIES = ("Throckmorton", "Quirrell", "Miller", "Nguyen", "Kowalska", "Andersson", "MacLeod", "Oberhauser")
GIVEN = ("Annabeth", "Jan", "Thi Mai", "Marta", "Ingrid", "Iain", "Josef", "O.")
NAMES = st.builds("{}^{}".format, st.sampled_from(FAMILIES), st.sampled_from(GIVEN))


def padded(data: bytes, unit: int, filler: bytes = b" ") -> bytes:
    return data + filler * (-len(data) % unit)


@given(NAMES, st.sampled_from(["US", "SS", "UL", "SL", "AT", "FD", "UV"]), st.sampled_from([b" ", b"\0"]))
def test_a_name_in_numbers_is_found(name, vr, filler):
    assert reads_as_text(padded(name.encode(), 8, filler), vr)
    assert reads_as_text(padded(name.encode("utf-16-le"), 8, filler), vr)


@pytest.mark.parametrize("name", ["THROCKMORTON^ANNABETH", "Throckmorton^Annabeth", "Miller Jan"])
def test_a_name_in_single_floats_is_found(name):
    assert reads_as_text(padded(name.encode(), 4), "FL")


@given(
    st.lists(st.floats(1e-6, 1e6, width=64) | st.floats(-1e6, -1e-6, width=64) | st.just(0.0), max_size=40)
)
def test_measurements_are_no_text(values):
    assert not reads_as_text(np.array(values, "<f8").tobytes(), "FD")


@given(st.lists(st.integers(0, 12_000), max_size=40))
def test_counts_are_no_text(values):
    assert not reads_as_text(np.array(values, "<u2").tobytes(), "US")


def test_every_number_of_a_matrix_or_spacing_is_no_text():
    rng = np.random.default_rng(0)
    sizes = 10.0 ** rng.uniform(-3, 4, 200_000) * rng.choice([-1, 1], 200_000)
    assert not reads_as_text(sizes.astype("<f8").tobytes(), "FD")
    assert not reads_as_text(sizes.astype("<f4").tobytes(), "FL")


def curves(entries: int, top: int):
    at = np.linspace(0, 1, entries)
    for shape in (
        at,
        at**2.2,
        at ** (1 / 2.2),
        1 / (1 + np.exp(-10 * (at - 0.5))),
        np.log1p(50 * at) / np.log(51),
    ):
        yield np.round(shape / shape.max() * top)
        yield np.round((1 - shape / shape.max()) * top)


@pytest.mark.parametrize("entries", [16, 256, 1024, 4096, 65536])
@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_look_up_tables_are_no_text(entries, top):
    for curve in curves(entries, top):
        assert not table_reads_as_text(curve.astype("<u2").tobytes(), 16)
        if top == 255:
            assert not table_reads_as_text(curve.astype("u1").tobytes(), 8)


def test_the_standards_palettes_are_no_text():
    files = get_palette_files("*.dcm")
    seen = 0
    for path in files:
        palette = pydicom.dcmread(path, force=True)
        if "RedPaletteColorLookupTableData" not in palette:
            continue  # segmented, which is made plain first
        seen += 1
        for colour in ("Red", "Green", "Blue"):
            bits = palette[f"{colour}PaletteColorLookupTableDescriptor"].value[2]
            raw = palette[f"{colour}PaletteColorLookupTableData"].value
            assert not table_reads_as_text(raw, bits), path
            if bits == 8:
                wide = np.frombuffer(raw, "u1").astype("<u2")
                assert not table_reads_as_text((wide * 257).tobytes(), 16), path
                assert not table_reads_as_text((wide << 8).tobytes(), 16), path
    assert seen >= 4


@given(NAMES, st.integers(0, 200), st.sampled_from([8, 16]))
def test_a_name_in_a_ramp_is_found(name, at, bits):
    """As long as a table of that many entries is not all that climbs: the name makes it go up and down."""
    width = bits // 8
    ramp = bytearray(np.linspace(0, (1 << bits) - 1, 256).astype(f"<u{width}").tobytes())
    letters = padded(name.encode(), width)
    ramp[at * width : at * width + len(letters)] = letters
    assert table_reads_as_text(bytes(ramp), bits)
    wide = name.encode("utf-16-le")
    table = bytearray(np.linspace(0, 65535, 256).astype("<u2").tobytes())
    table[at * 2 : at * 2 + len(wide)] = wide
    assert table_reads_as_text(bytes(table), 16)


def test_a_scanners_palette_is_no_text():
    """Colours that jump about, a third of them letters."""
    path = Path(__file__).parents[3] / "shared" / "data" / "dicom" / "dcm4che" / "jpeg-ls-Palette.dcm"
    if not path.exists():
        pytest.skip("needs ../shared/data/dicom/dcm4che, which is not here")
    image = pydicom.dcmread(path)
    for colour in ("Red", "Green", "Blue"):
        assert not table_reads_as_text(image[f"{colour}PaletteColorLookupTableData"].value, 16)
