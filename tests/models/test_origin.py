"""What a file of weights says of itself is told whole or not at all, whatever stands in it."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from fedimg.models.origin import Origin, read

TENSORS = {"a": torch.arange(3.0)}
STATED = Origin("", "generated", "supervised", "generated hospitals", "ab" * 32, "0.1.0", "cd" * 32, 7)


def of(metadata):
    return read(save(TENSORS, metadata), safetensors=True)


def test_what_is_written_is_read_again_with_the_digest_of_the_bytes():
    data = save(TENSORS, STATED.metadata())
    found = read(data, safetensors=True)
    assert found.file == hashlib.sha256(data).hexdigest()
    assert Origin(**{**found.as_json(), "file": ""}) == STATED
    assert "pre-trained on generated images" in found.sentence()
    assert "declared public" in of(changed(data="declared_public")).sentence()


def test_a_file_without_metadata_or_of_another_kind_is_of_unknown_origin():
    for data, safe in (
        (save(TENSORS), True),
        (save(TENSORS, STATED.metadata()), False),
        (b"", True),
        (b"\xff" * 9, True),
    ):
        found = read(data, safetensors=safe)
        assert found == Origin(hashlib.sha256(data).hexdigest())
        assert "may have been trained on patients" in found.sentence()


def changed(**fields):
    content = json.loads(STATED.metadata()["fedimg"]) | fields
    return {"fedimg": json.dumps({name: value for name, value in content.items() if value is not ...})}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "fedimg-pretrained-2"),
        ("data", "patients"),
        ("data", "unknown"),
        ("data", ["generated"]),
        ("method", "magic"),
        ("method", {}),
        ("source", ""),
        ("source", None),
        ("source", "x" * 201),
        ("source", "two\nlines"),
        ("source", "\x1b[31m"),
        ("source", 3),
        ("source_digest", "AB" * 32),
        ("source_digest", "../../etc/passwd"),
        ("source_digest", "ab" * 32 + "\n"),
        ("architecture", "ab" * 31),
        ("fedimg", "0" * 1000),
        ("seed", -1),
        ("seed", True),
        ("seed", 1.0),
        ("seed", "7"),
        ("seed", 10**10),
        ("file", "ab" * 32),
        ("more", "x"),
        ("source", "x" * 10**6),
    ],
)
def test_one_field_that_does_not_fit_makes_all_of_it_unknown(field, value):
    found = of(changed(**{field: value}))
    assert found.data == "unknown"
    assert {v for name, v in found.as_json().items() if name not in ("file", "data")} == {None}
    assert of(changed()).data == "generated"


@pytest.mark.parametrize("field", json.loads(STATED.metadata()["fedimg"]))
def test_a_missing_field_makes_it_unknown(field):
    assert of(changed(**{field: ...})).data == "unknown"


@pytest.mark.parametrize("text", ["", "{", "[]", "NaN", "[" * 4000, "3", '"x"', "null"])
def test_a_text_that_is_no_object_is_unknown(text):
    assert of({"fedimg": text}).data == "unknown"
    assert of({"format": "pt", "fedimg": text}).data == "unknown"


@given(st.binary(max_size=200))
def test_any_bytes_have_an_origin(data):
    assert read(data, safetensors=True).data == "unknown"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    )
)
def test_any_header_has_an_origin(value):
    stated = json.loads(STATED.metadata()["fedimg"])
    for metadata in (
        value,
        {"fedimg": value},
        {"fedimg": json.dumps(value)},
        {"fedimg": json.dumps(stated | {"method": value})},
    ):
        header = json.dumps({"__metadata__": metadata}).encode()
        assert read(len(header).to_bytes(8, "little") + header, safetensors=True).data == "unknown"


def test_a_header_as_deep_as_it_can_be_is_unknown():
    header = b'{"__metadata__":' + b"[" * 100_000
    assert read(len(header).to_bytes(8, "little") + header, safetensors=True).data == "unknown"
