"""The head rule: by words, else by geometry, closed where nothing is known; and the policies."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from fedimg.crypto.keys import SiteKey
from fedimg.dicom import head
from fedimg.dicom.deidentify import DeidConfig, Deidentifier
from fedimg.dicom.encoder import Element, text
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError
from fedimg.values import Quarantine
from tests.dicom.test_structure import image

KEY = SiteKey.from_bytes(b"k" * 32)


def signs(
    modality: str = "CT",
    *,
    part: str = "",
    spacing: str = "0.8\\0.8",
    side: int = 512,
    meaning: str = "",
    thickness: str = "",
    frames: int = 1,
    **raw: str,
) -> tuple[str, ...]:
    kept = {
        0x00080060: text(0x00080060, "CS", modality),
        0x00280010: Element(0x00280010, "US", side.to_bytes(2, "little")),
        0x00280011: Element(0x00280011, "US", side.to_bytes(2, "little")),
        0x00280008: text(0x00280008, "IS", str(frames)),
    }
    if spacing:
        kept[0x00280030] = text(0x00280030, "DS", spacing)
    if thickness:
        kept[0x00180050] = text(0x00180050, "DS", thickness)
    if part:
        kept[0x00180015] = text(0x00180015, "CS", part)
    if meaning:
        kept[0x00082218] = Element(0x00082218, "SQ", [[text(0x00080104, "LO", meaning)]])
    dataset = Dataset()
    for keyword, value in raw.items():
        setattr(dataset, keyword, value)
    return head.signs(dataset, kept)


@pytest.mark.parametrize(
    "part", ["HEAD", "BRAIN", "NECK", "HEADNECK", "CSPINE", "WHOLEBODY", "ORBIT", "IAC", "SKULL"]
)
def test_body_parts_of_the_head_are_flagged(part):
    assert signs(part=part) == ("anatomy",)


@pytest.mark.parametrize("part", ["CHEST", "ABDOMEN", "KNEE", "PELVIS", "LUNG", "HEART", "LSPINE"])
def test_other_places_are_not_even_in_a_small_field(part):
    assert signs(part=part, spacing="0.45\\0.45") == ()


def test_codes_and_removed_descriptions_count():
    assert signs(meaning="Head and neck") == ("anatomy",)
    assert signs(part="CHEST", StudyDescription="CT Schädel nativ") == ("description",)
    assert signs(part="CHEST", SeriesDescription="t1_mprage_brain_sag") == ("description",)
    assert signs(part="CHEST", ProtocolName="THORAX") == ()


@pytest.mark.parametrize("words", ["CLEAR", "HEADING", "EARLY PHASE", "BRAINERD", "FACET"])
def test_words_within_words_do_not(words):
    assert signs(part="CHEST", StudyDescription=words) == ()


def test_without_anatomy_the_size_decides():
    assert signs(spacing="0.45\\0.45") == ("geometry",)  # 230 mm: a head
    assert signs(spacing="0.8\\0.8") == ()  # 410 mm: a trunk
    assert signs(spacing="0.1\\0.1") == ()  # 51 mm: a part of something
    assert signs(spacing="") == ("geometry",)  # unknown: closed
    assert signs(spacing="x\\y") == ("geometry",)
    assert signs("PT", spacing="4\\4", side=168) == ("geometry",)  # whole bodies, nearly always
    assert signs(spacing="0.9\\0.9", thickness="3", frames=400) == ("geometry",)  # 1.2 m long
    assert signs("US", part="HEAD") == ()


def test_policies():
    dataset = image(BodyPartExamined="HEAD")
    kept = Deidentifier(KEY, "p").deidentify(dataset).evidence.pixels.head
    assert (kept.signs, kept.policy) == (("anatomy",), "allow-local")
    with pytest.raises(Quarantined) as refusal:
        Deidentifier(KEY, "p", DeidConfig(head="quarantine")).deidentify(dataset)
    assert refusal.value.reason is Quarantine.RECOGNISABLE_FACE
    assert head.policy_of("train", None) == "allow-local"
    assert head.policy_of("ps315-basic", None) == head.policy_of("ps315-research", None) == "quarantine"
    assert head.policy_of("ps315-basic", "allow-local") == "allow-local"


def test_removing_faces_is_refused_and_not_pretended():
    with pytest.raises(ConfigError, match="deface") as refusal:
        Deidentifier(KEY, "p", DeidConfig(head="deface"))
    assert "choose quarantine, or allow-local" in str(refusal.value)


def test_no_release_claims_that_faces_were_removed():
    for policy in ("allow-local", None):
        release = Deidentifier(KEY, "p", DeidConfig(head=policy)).deidentify(image(BodyPartExamined="HEAD"))
        assert b"113102" not in release.data
