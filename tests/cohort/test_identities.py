"""What is listed as planted is in the bytes, and the public set has nothing of the kind."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fedimg.cohort import identities
from fedimg.cohort.identities import Planted, person

KINDS = {"name", "id", "date", "address", "phone", "institution", "text", "uid", "pixels"}


def test_every_listed_value_is_in_the_bytes(hospitals):
    for folder in hospitals:
        broken = set(folder.broken)
        for patient in folder.planted["patients"]:
            masks = {row["mask"] for row in folder.rows if row["path"] in patient["files"] and row["mask"]}
            files = [path for path in patient["files"] if path not in broken] + sorted(masks)
            data = b"".join((folder.root / path).read_bytes() for path in files)
            for entry in patient["planted"] if not broken & set(patient["files"]) else []:
                if entry["kind"] != "pixels":
                    assert entry["value"].encode() in data, entry


def test_every_kind_is_planted_in_header_private_tags_and_around(hospitals):
    entries = [e for folder in hospitals for p in folder.planted["patients"] for e in p["planted"]]
    assert {e["kind"] for e in entries} >= KINDS
    places = {place for e in entries for place in e["places"]}
    assert {
        "PatientName",
        "StudyDescription",
        "preamble",
        "PixelData",
        "SourceApplicationEntityTitle",
    } <= places
    assert any(place.count("/") == 2 for place in places)
    assert any("private SQ" in place for place in places)


def test_every_file_names_its_patient_somewhere_beyond_the_usual_places(hospitals):
    """Guards the ground truth itself: PHI stands in free text and in depth, not in PatientName alone."""
    for folder in hospitals:
        for row in folder.whole:
            dataset = folder.dataset(row)
            family = dataset.PatientName.family_name
            assert family in dataset.StudyDescription
            request = dataset.RequestAttributesSequence[0]
            assert family in request.RequestedProcedureCodeSequence[0].CodeMeaning
            old = dataset.OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
            assert family in str(old.PatientName)
            private = dataset.private_block(0x29, identities.SERVICE_CREATOR)[0x10].value
            assert family in (
                private.decode() if isinstance(private, bytes) else private
            )  # implicit VR: bytes


def test_banners_show_the_listed_text(hospitals):
    shown = 0
    for folder in hospitals:
        for row in folder.whole:
            if row["modality"] != "US":
                continue
            (text,) = [
                e["value"]
                for p in folder.planted["patients"]
                if row["path"] in p["files"]
                for e in p["planted"]
                if e["kind"] == "pixels"
            ]
            picture = Image.new("1", (128, 16))
            ImageDraw.Draw(picture).text((2, 2), text, fill=1, font=ImageFont.load_default_imagefont())
            pixels = folder.dataset(row).pixel_array
            first = pixels if pixels.ndim == 2 else pixels[0]
            assert ((first[:16] == 255) == np.asarray(picture)).all()
            shown += 1
    assert shown > 10


def test_the_public_set_names_nobody(folders):
    public = folders["public"]
    assert not any(patient["planted"] for patient in public.planted["patients"])
    names = {*identities._FAMILY, *identities._GIVEN, *identities._INSTITUTIONS}
    pattern = re.compile(b"|".join(re.escape(name.encode()) for name in names))
    for path in public.root.rglob("*.dcm"):
        assert not pattern.search(path.read_bytes())
    hospital = next(iter(f for s, f in folders.items() if s != "public"))
    assert pattern.search((hospital.root / hospital.whole[0]["path"]).read_bytes())


@pytest.mark.parametrize("hospital", range(7))
def test_patient_numbers_are_unique_within_a_hospital(hospital):
    people = [person(np.random.default_rng([hospital, n]), hospital, n) for n in range(500)]
    assert len({p.patient_id for p in people}) == 500
    assert len({p.old_id for p in people}) == 500
    assert all(p.patient_id.strip() and len(p.patient_id) <= 64 for p in people)


def test_what_is_noted_is_listed_once_with_all_its_places():
    planted = Planted()
    assert planted.note("name", "Doe", "B") == "Doe"
    planted.note("name", "Doe", "A")
    planted.note("name", "", "C")
    assert planted.listing() == [{"kind": "name", "value": "Doe", "places": ["A", "B"]}]
