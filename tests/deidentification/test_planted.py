"""Over 150 identifiers in over 150 places of one file: none is left, and the scanner that says so can see.

FEDIMG_PLANT_SEED chooses another set of values.
"""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from hospital import take
from images import COMPRESSED, SYNTAXES, cr, ct, in_syntax, mr, us
from planting import Plant, dictionary, everywhere, ultrasound_with_banner
from rawdicom import EXPLICIT, IMPLICIT, NATIVE
from scanner import Secret, left_behind, spellings

SEED = int(os.environ.get("FEDIMG_PLANT_SEED", "1"))
MODALITIES = {"CT": ct, "MR": mr, "CR": cr, "US": us}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: pydicom.uid.UID(uid).name)
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_scanner_finds_every_planted_value_in_the_input(modality, syntax):
    plant = Plant(SEED)
    data = everywhere(MODALITIES[modality](), plant, syntax).to_bytes()
    assert len(plant.secrets) >= 240
    assert len({text for secret in plant.secrets.values() for text in spellings(secret)}) >= 240
    assert left_behind(data, plant.secrets) == list(plant.secrets)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: pydicom.uid.UID(uid).name)
def test_nothing_of_over_240_identifiers_is_left_in_a_ct(tmp_path, profile, syntax):
    plant = Plant(SEED)
    taken = take(tmp_path, everywhere(ct(), plant, syntax), profile=profile)
    assert len(taken.released) == 1, taken.reasons
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize(
    "syntax", [IMPLICIT, COMPRESSED[2], COMPRESSED[3]], ids=["implicit", "jpeg-ls", "j2k"]
)
@pytest.mark.parametrize("modality", ["MR", "CR", "US"])
def test_nothing_of_over_240_identifiers_is_left_in_other_modalities(tmp_path, profile, modality, syntax):
    plant = Plant(SEED + 1)
    taken = take(tmp_path, everywhere(MODALITIES[modality](), plant, syntax), profile=profile)
    assert len(taken.released) == 1, taken.reasons
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize("syntax", NATIVE[:2], ids=["explicit", "implicit"])
def test_nothing_is_left_of_a_value_in_every_textual_attribute_of_the_dictionary(tmp_path, profile, syntax):
    plant = Plant(SEED + 2)
    file = dictionary(ct(), plant, syntax)
    assert len(plant.secrets) > 3000
    assert left_behind(file.to_bytes(), plant.secrets) == list(plant.secrets)
    taken = take(tmp_path, file, profile=profile)
    assert len(taken.released) == 1, taken.reasons
    assert taken.leaks(plant.secrets) == []


def test_text_written_as_pixel_values_outside_the_regions_is_gone(tmp_path, profile):
    plant = Plant(SEED + 3)
    file = ultrasound_with_banner(plant)
    assert left_behind(file.to_bytes(), plant.secrets) == list(plant.secrets)
    taken = take(tmp_path, file, profile=profile)
    assert len(taken.released) == 1, taken.reasons
    assert taken.leaks(plant.secrets) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dataset, secret: dataset.add_new(0x00081030, "LO", f"seen by {secret.value}"),
        lambda dataset, secret: dataset.add_new(
            0x00204000, "LT", secret.value.encode("utf-16-le").decode("latin-1")
        ),
        lambda dataset, secret: dataset.add_new(0x00091001, "UN", secret.value.upper().encode()),
        lambda dataset, secret: setattr(dataset, "preamble", secret.value.encode().ljust(128, b"\0")[:128]),
        lambda dataset, secret: setattr(dataset.file_meta, "ImplementationVersionName", secret.value[:16]),
        lambda dataset, secret: setattr(
            dataset, "PixelData", dataset.PixelData[:200] + secret.value.encode() + dataset.PixelData[200:]
        ),
    ],
    ids=["description", "utf-16", "private", "preamble", "meta", "pixels"],
)
def test_the_scanner_finds_a_single_value_put_back_into_a_clean_release(tmp_path, spoil):
    plant = Plant(SEED)
    taken = take(tmp_path, everywhere(ct(), plant, EXPLICIT), recompress="none")
    dataset = taken.dataset
    dataset.preamble = bytes(128)
    spoil(dataset, Secret(plant.secrets["PatientName"].value[:16]))
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=False)
    assert left_behind(buffer.getvalue(), plant.secrets) == ["PatientName"]


def test_the_scanner_finds_a_date_in_each_spelling_and_no_other_date():
    base = ct()
    planted = {"date": Secret("20170309", "date")}
    for text in ("20170309", "2017-03-09", "09.03.2017", "03/09/2017", "9 Mar 2017", "Mar 9, 2017"):
        file = replace(base, trailing=text.encode())
        assert left_behind(file.to_bytes(), planted) == ["date"], text
    assert left_behind(replace(base, trailing=b"2017-03-10").to_bytes(), planted) == []


def test_the_scanner_refuses_values_that_chance_would_meet():
    with pytest.raises(ValueError, match="too short"):
        left_behind(ct().to_bytes(), {"initials": Secret("AB")})


def test_another_seed_plants_other_values():
    one, two = Plant(1), Plant(2)
    for plant in (one, two):
        everywhere(in_syntax(ct(), EXPLICIT), plant)
    assert one.secrets.keys() == two.secrets.keys()
    assert all(one.secrets[place] != two.secrets[place] for place in one.secrets)
