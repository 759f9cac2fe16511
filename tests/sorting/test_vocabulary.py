"""Words of four languages, and that the standard's own terms mean what the table says."""

import json
import re
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.sorting.vocabulary import lexicon, listed, tokens_of

TABLE = json.loads(
    resources.files("fedimg.sorting").joinpath("tables", "vocabulary.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("CT THORAX", "chest"),
        ("Röntgen Thorax p.a. und seitlich", "chest"),
        ("Rx thorax de face", "chest"),
        ("Radiografía de tórax", "chest"),
        ("Schädel CT nativ", "head"),
        ("SCHÄDEL", "head"),
        ("IRM cérébrale", "head"),
        ("TAC de cráneo", "head"),
        ("MRT LWS", "spine"),
        ("XR C Spine Comp Min 4 Views", "spine"),
        ("Rachis lombaire", "spine"),
        ("Ecografía abdominal", "abdomen"),
        ("US Abdomen", "abdomen"),
        ("Échographie du rein gauche", "abdomen"),
        ("Mamografía bilateral", "breast"),
        ("ECOTOMOGRAFIA CODO IZQUIERDO", "elbow"),
        ("CT chest abdomen pelvis w contrast", "trunk"),
        ("CT Thorax Abdomen Becken", "trunk"),
        ("CT Abdomen and Pelvis", "abdomen_pelvis"),
        ("coronary CT of the chest", "heart"),
        ("brain and neck", "head_neck"),
        ("Fuß rechts", "foot"),
        ("FUSS RECHTS", "foot"),
        ("Knie links", "knee"),
        ("pie izquierdo", "foot"),
        ("whole body bone scan", "whole_body"),
    ],
)
def test_a_text_says_its_body_part(text, part):
    assert lexicon("body_part").hear(text).value == part


@pytest.mark.parametrize(
    "text", ["", "e+1", "frame rate 30", "Test", "MAIN SERIES", "his hers sein", "AP", "lumberjack"]
)
def test_a_text_that_says_nothing_is_not_guessed_at(text):
    assert lexicon("body_part").hear(text) == (None, False)


@pytest.mark.parametrize("text", ["head and knee", "CT Thorax, Knie", "HAND / FOOT"])
def test_two_answers_are_none(text):
    assert lexicon("body_part").hear(text) == (None, True)


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("Thorax p.a.", "pa"),
        ("CHEST AP PORTABLE", "ap"),
        ("seitlich", "lateral"),
        ("profil", "lateral"),
        ("MLO", "mlo"),
    ],
)
def test_projections(text, view):
    assert lexicon("projection").hear(text).value == view


def test_every_body_part_of_the_standards_common_regions_that_has_a_word_has_the_right_one():
    """CID 4031 of PS3.16 as pydicom carries it, against names chosen by hand."""
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts

    meanings = [next(iter(concepts["SCT"][name].values()))[0] for name in cid_concepts[4031]["SCT"]]
    known = {meaning: lexicon("body_part").hear(meaning).value for meaning in meanings}
    assert known["Head"] == known["Skull"] == known["Mastoid bone"] == "head"
    assert known["Chest"] == known["Rib"] == known["Clavicle"] == "chest"
    assert known["Lumbar spine"] == known["Sacrum"] == "spine"
    assert known["Neck, Chest, Abdomen and Pelvis"] == known["Chest, Abdomen and Pelvis"] == "trunk"
    assert {"Ureter", "Neck and Chest"} <= {meaning for meaning, part in known.items() if part is None}
    assert sum(part is not None for part in known.values()) >= 100  # of 114


def test_a_phrase_belongs_to_one_answer_only():
    for question in ("body_part", "projection", "plane", "modality"):
        for language in ("en", "de", "fr", "es"):
            said = {}
            for value, entry in TABLE[question].items():
                for phrase in entry[language]:
                    key = tokens_of(phrase)
                    if (
                        question != "modality"
                    ):  # an echocardiogram is ultrasound, and MRCP an MR: one word each
                        assert said.setdefault(key, value) == value, (question, language, phrase)


def test_values_are_names_of_folders():
    for question in ("body_part", "projection", "plane", "modality"):
        assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_]*", value) for value in TABLE[question])
    assert set(listed("within")) <= set(TABLE["body_part"])


@given(st.text(max_size=80))
def test_nothing_of_a_text_comes_out(text):
    for question in ("body_part", "projection", "plane", "modality"):
        heard = lexicon(question).hear(text)
        assert heard.value is None or heard.value in TABLE[question]
        assert not (heard.ambiguous and heard.value is not None)


@given(
    st.sampled_from(["CT THORAX", "Schädel", "tórax", "Knie"]),
    st.sampled_from(["-", "_", "^", " / ", ".", "  "]),
)
def test_case_accents_and_punctuation_do_not_matter(text, between):
    import unicodedata

    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    forms = {text, text.upper(), text.lower(), plain, text.replace(" ", between), between + text + between}
    assert len({lexicon("body_part").hear(form).value for form in forms}) == 1
