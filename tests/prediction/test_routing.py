"""Which series are looked at: every one is, or has a reason; and what a header does not say is not guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.dicom.arrival import Arrival
from fedimg.prediction.routing import routed, why_not

CT, MR, SC, SEG, SR = (f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("2", "4", "7", "66.4", "88.34"))


def arrival(number=1, **said):
    whole = {
        "study_uid": "1.2",
        "series_uid": "1.2.3",
        "sop_uid": f"1.2.3.{number}",
        "sop_class": CT,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "modality": "CT",
        "body_part": "CHEST",
        "rows": 64,
        "columns": 64,
        "frames": 1,
        "number": number,
        "position_mm": 5.0 * number,
        "spacing_between_mm": None,
        "patient_id": "P",
        "patient_name": "",
        "accession": "",
        "study_date": "",
        "description": "",
        "stat": False,
        "size": 1000,
        "sha256": "0" * 64,
    }
    return Arrival(**whole | said)


def stack(count=10, **said):
    return [arrival(k, **said) for k in range(1, count + 1)]


@pytest.mark.parametrize("name", ["outlines", "volumes"])
def test_a_whole_series_is_looked_at(models, name):
    found = routed(models(name), stack())
    assert (found.series, dict(found.others)) == (("1.2.3",), {})


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (stack(sop_class=SC), "not images as a modality acquires them"),
        (stack(sop_class=SEG), "not images as a modality acquires them"),
        (stack(sop_class=SR, rows=0, columns=0, frames=0), "not images as a modality acquires them"),
        (stack(rows=0), "not images as a modality acquires them"),
        ([*stack(5), arrival(6, sop_class=MR)], "images of different kinds"),
        ([*stack(5), arrival(6, modality="MR")], "images of different kinds"),
        (stack(modality="US"), "another modality than CT or CR or MR"),
        (stack(body_part=""), "no body part"),
        (stack(body_part="HEAD"), "another body part than CHEST"),
        ([*stack(5), arrival(6, body_part="HEAD")], "another body part than CHEST"),
    ],
)
def test_what_is_not_looked_at_says_why(models, series, words):
    for name in ("outlines", "volumes"):
        found = routed(models(name), series)
        assert found.series == ()
        assert words in found.others["1.2.3"]


@pytest.mark.parametrize(
    ("series", "words"),
    [
        (stack(1), "a single image"),
        ([*stack(4), *(arrival(k, position_mm=5.0 * k) for k in range(7, 9))], "a slice missing"),
        (stack(position_mm=None), "without a position"),
        (stack(position_mm=3.0), "at one position"),
        ([*stack(4), arrival(5, rows=32)], "different sizes"),
        ([*stack(4), arrival(5, frames=9)], "several volumes"),
    ],
)
def test_a_model_of_volumes_wants_a_stack(models, series, words):
    assert words in why_not(models("volumes"), series)
    assert why_not(models("outlines"), series) == ""


def test_one_multi_frame_file_is_a_stack(models):
    assert why_not(models("volumes"), [arrival(frames=30, position_mm=None)]) == ""


def test_too_few_images_are_counted_once_each(models):
    model = models("outlines")
    many = replace(model, metadata=replace(model.metadata, least_images=4))
    assert why_not(many, [*stack(3), *stack(3)]) == "3 of at least 4 images"
    assert why_not(many, stack(4)) == ""
    assert why_not(many, [arrival(frames=4)]) == ""


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_series_is_in_one_of_both_whatever_the_order(models, data):
    arrivals = [
        arrival(k, series_uid=f"1.{uid}", modality=modality, sop_class=kind, body_part=part)
        for uid in range(data.draw(st.integers(1, 4)))
        for modality, kind, part in [
            data.draw(
                st.tuples(
                    st.sampled_from(["CT", "US"]), st.sampled_from([CT, SC]), st.sampled_from(["CHEST", ""])
                )
            )
        ]
        for k in range(1, 4)
    ]
    one, other = (routed(models("outlines"), data.draw(st.permutations(arrivals))) for _ in range(2))
    assert set(one.series) == set(other.series)
    assert dict(one.others) == dict(other.others)
    assert set(one.series) | one.others.keys() == {a.series_uid for a in arrivals}
    assert not set(one.series) & one.others.keys()
    assert all(one.others.values())
