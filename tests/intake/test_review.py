"""The way out of quarantine: what a reviewer may override, what nobody may, and the receipt of it."""

from __future__ import annotations

import json
import stat
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fedimg.dicom import receipts
from fedimg.errors import ConfigError, DataError
from fedimg.intake import FolderInputs, run_intake
from fedimg.intake.proof import prove
from fedimg.intake.review import REASONS, Review, discard, held_back
from fedimg.values import Quarantine


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "looked at"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def filled(source, slice_of, out, config):
    """0: released. 1: said to show text, which nobody finds. 2: its place spells an old patient number, which 0 names."""
    slice_of(0, OtherPatientIDs="778899")
    slice_of(1, BurnedInAnnotation="YES")
    slice_of(2, SliceLocation="778899")
    slice_of(3, PatientID="")
    run_intake(FolderInputs(source), out, config)
    assert {held.position: held.reason for held in held_back(out)} == {
        1: "burned_in_text",
        2: "residual_identifier",
        3: "no_patient_id",
    }
    return out


@pytest.fixture
def review(filled, source, config):
    return Review(filled, FolderInputs(source), config)


def released(folder) -> int:
    return sum(1 for path in folder.released.rglob("*") if path.is_file())


@pytest.mark.parametrize(("position", "reason"), [(1, "no-text"), (2, "coincidence")])
def test_a_false_alarm_is_released_after_a_look(filled, review, private, position, reason):
    with pytest.raises(ConfigError, match="a preview of this input that was looked at"):
        review.release(position, reason, "A. Reviewer")
    review.preview(position, private / "a.png")
    outcome = review.release(position, reason, "A. Reviewer")
    assert (filled.released / str(outcome.output)).is_file()
    *_, last = receipts.read(filled.receipts, filled.signing_key.public_bytes)
    assert (last.position, last.decision, last.sha256) == (position, "released", outcome.sha256)
    assert {name: last.review[name] for name in ("action", "reviewer", "reason")} == {
        "action": "release",
        "reviewer": "A. Reviewer",
        "reason": reason,
    }
    assert last.review["finding"] in ("burned_in_text", "residual_identifier")
    assert last.gate["hits"] == (1 if position == 2 else 0)
    assert prove(filled.root).released == released(filled) == 2
    assert position not in {held.position for held in held_back(filled)}
    assert not list((filled.quarantine / "previews").iterdir())


def test_a_released_review_stands_in_later_runs(filled, review, private, source, config):
    review.preview(1, private / "a.png")
    review.release(1, "no-text", "R2")
    before = filled.receipts.read_bytes()
    result = run_intake(FolderInputs(source), filled, config)
    assert (result.released, result.resumed) == (2, 2)
    assert filled.receipts.read_bytes() == before


def test_what_is_no_false_alarm_is_never_released(filled, review, private):
    review.preview(3, private / "a.png")
    with pytest.raises(ConfigError, match="a finding that may be a false alarm"):
        review.release(3, "no-text", "R2")
    assert released(filled) == 1


def test_only_the_finding_that_was_looked_at_is_overridden(source, slice_of, out, config, private):
    """Text in the pixels is one thing; the patient's number in the header is another."""
    slice_of(0, OtherPatientIDs="778899")
    slice_of(1, BurnedInAnnotation="YES", SliceLocation="778899")
    run_intake(FolderInputs(source), out, config)
    review = Review(out, FolderInputs(source), config)
    review.preview(1, private / "a.png")
    with pytest.raises(DataError, match="found residual_identifier"):
        review.release(1, "no-text", "R2")
    assert released(out) == 1
    assert prove(out.root).receipts == 2
    assert not list(out.quarantine.glob("*.part"))


def test_a_structure_that_breaks_the_profile_is_not_overridden(review, private, monkeypatch):
    from fedimg.dicom import gate

    monkeypatch.setattr(gate, "structure_fault", lambda *_: "an attribute that the profile does not name")
    review.preview(2, private / "a.png")
    with pytest.raises(DataError, match="found unsafe_structure"):
        review.release(2, "coincidence", "R2")


def test_the_preview_is_confidential_and_shows_the_input(filled, review, private, tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="a folder of mode 0700"):
        review.preview(1, tmp_path / "open" / "a.png")
    notes = review.preview(2, private / "a.png")
    assert [word["word"] for word in notes["words"]] == ["778899"]
    assert stat.S_IMODE((private / "a.png").stat().st_mode) == 0o600
    shown = np.asarray(Image.open(BytesIO((private / "a.png").read_bytes())))
    assert shown.shape == (32, 32)
    assert shown.std() > 20
    (noted,) = (filled.quarantine / "previews").iterdir()
    assert stat.S_IMODE(noted.stat().st_mode) == 0o600
    assert json.loads(noted.read_bytes())["words"] == notes["words"]


def test_the_input_is_found_by_its_link_after_it_moved_in_the_order(review, source, slice_of, private):
    (source / "A first").write_text("x")  # all positions move by one
    assert review.preview(1, private / "a.png")["held_by"] == "burned_in_text"
    (source / "Quirrell Annabeth" / "001.dcm").write_bytes(b"changed")
    with pytest.raises(DataError, match="the input of run position 1; found another one, or none"):
        review.preview(1, private / "b.png")


def test_discarding_is_noted_and_changes_nothing_else(filled, config):
    discard(filled, config, 3, "R2")
    (noted,) = [held for held in held_back(filled) if held.reviewed]
    assert (noted.position, noted.reviewed["action"], noted.reviewed["reviewer"]) == (3, "discard", "R2")
    assert prove(filled.root).released == 1


@pytest.mark.parametrize(
    ("position", "reason", "reviewer", "expected"),
    [
        (1, "because", "R2", "a reason among"),
        (1, "no-text", "", "the reviewer's name"),
        (1, "no-text", "x" * 65, "the reviewer's name"),
        (9, "no-text", "R2", "an input in quarantine at position 9"),
        (0, "no-text", "R2", "an input in quarantine at position 0"),
    ],
)
def test_what_a_review_needs_is_said(review, private, position, reason, reviewer, expected):
    if position == 1:
        review.preview(1, private / "a.png")
    with pytest.raises((ConfigError, DataError), match=expected):
        review.release(position, reason, reviewer)
    assert {"no-text", "technical-text", "coincidence"} == set(REASONS)


def test_quarantine_reasons_that_may_be_overridden_are_two():
    from fedimg.intake.review import OVERRIDABLE

    assert {Quarantine.BURNED_IN_TEXT, Quarantine.RESIDUAL_IDENTIFIER} == OVERRIDABLE
