"""The survey: identifiers of a subject's other files, samples of a series, in a file that does not stay."""

from __future__ import annotations

import stat

import pytest

from fedimg.dicom import receipts
from fedimg.intake import FolderInputs, run_intake
from fedimg.intake.index import MOST_SAMPLES, NAME, SubjectHints
from fedimg.intake.survey import survey
from fedimg.values import Quarantine, SourceItem


@pytest.fixture
def quarantine(tmp_path):
    folder = tmp_path / "quarantine"
    folder.mkdir(mode=0o700)
    return folder


def test_what_one_file_says_is_searched_for_in_its_subjects_others(source, slice_of, quarantine):
    slice_of(0, PatientName="QUIRRELL^ANNABETH")
    slice_of(1, PatientName="MARCHBANKS^ANNABETH", OtherPatientIDs="OLD778899")
    slice_of(2, PatientID="SOMEBODY9", PatientName="DIGGORY^AMOS")
    hints = SubjectHints(survey(FolderInputs(source), quarantine))
    for position in (0, 1):
        found = hints.needles(position)
        assert {b"quirrell", b"marchbanks", b"old778899", b"mrn5550123", b"1950-06-07"} <= found
        assert b"diggory" not in found
    assert b"quirrell" not in hints.needles(2)
    assert hints.needles(0) is hints.needles(1)


def test_another_files_name_in_a_release_holds_it_back(source, slice_of, out, config):
    # A device's number is nobody's, until another file of the subject calls it a patient number.
    slice_of(0, SliceLocation="778899")
    slice_of(1, OtherPatientIDs="778899")
    slice_of(2)
    result = run_intake(FolderInputs(source), out, config)
    assert dict(result.positions) == {Quarantine.RESIDUAL_IDENTIFIER: (0,)}
    counts = [r.gate for r in receipts.read(out.receipts, out.signing_key.public_bytes) if r.gate]
    assert all(gate["of_subject"] > 0 and gate["hits"] == 0 for gate in counts)


def test_numbers_are_one_subject_however_they_are_spelled(source, slice_of, quarantine):
    slice_of(0, PatientID="mrn5550123 ", PatientName="QUIRRELL^A")
    slice_of(1, PatientID="MRN5550123", PatientName="MARCHBANKS^A")
    hints = SubjectHints(survey(FolderInputs(source), quarantine))
    assert b"quirrell" in hints.needles(1)


def test_a_number_beside_the_file_goes_before_the_headers(slice_of, quarantine):
    items = [
        SourceItem(slice_of(0, PatientName="QUIRRELL^A"), "dicom", patient_id="7"),
        SourceItem(slice_of(1, PatientName="MARCHBANKS^A"), "dicom"),
    ]
    hints = SubjectHints(survey(items, quarantine))
    assert b"quirrell" not in hints.needles(1)


def test_samples_are_spread_over_a_series_and_repeat(source, slice_of, quarantine, tmp_path):
    for seed in range(60):
        slice_of(seed, SeriesInstanceUID="1.2.3.4")
    slice_of(60, SeriesInstanceUID="1.2.3.5")
    hints = SubjectHints(survey(FolderInputs(source), quarantine))
    assert hints.series(0) == hints.series(59) != hints.series(60)
    samples = hints.samples(hints.series(0))
    numbers = sorted(int(path.stem) for path in samples)
    assert len(numbers) == MOST_SAMPLES
    assert numbers[0] < 15 and numbers[-1] > 44
    (tmp_path / "again").mkdir()
    again = SubjectHints(survey(FolderInputs(source), tmp_path / "again"))
    assert again.samples(again.series(0)) == samples


def test_a_survey_goes_on_where_it_was_killed_and_begins_anew_for_other_inputs(source, slice_of, quarantine):
    for seed in range(4):
        slice_of(seed)
    seen = []
    survey(list(FolderInputs(source))[:2], quarantine, seen.append)
    survey(FolderInputs(source), quarantine, seen.append)
    assert seen == [2, 4]
    survey(FolderInputs(source), quarantine, seen.append)
    assert seen == [2, 4]  # all known
    slice_of(1, PatientName="MARCHBANKS^ANNABETH")
    hints = SubjectHints(survey(FolderInputs(source), quarantine, seen.append))
    assert seen == [2, 4, 4]
    assert b"marchbanks" in hints.needles(0)
    survey(list(FolderInputs(source))[:3], quarantine, seen.append)
    assert seen[-1] == 3


def test_a_damaged_index_is_made_anew(source, slice_of, quarantine):
    slice_of(0)
    (quarantine / NAME).write_bytes(b"no database at all" * 400)
    assert b"quirrell" in SubjectHints(survey(FolderInputs(source), quarantine)).needles(0)


def test_the_index_is_ours_alone_and_does_not_stay(source, slice_of, out, config, quarantine):
    slice_of(0)
    path = survey(FolderInputs(source), quarantine)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    run_intake(FolderInputs(source), out, config)
    assert list(out.quarantine.iterdir()) == []
