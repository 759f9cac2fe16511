"""The objects of a call: without an error for `dciodvfy`, read back as they were meant, and the same if made again."""

from __future__ import annotations

import io
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from PIL import Image

from fedimg.dicom.segmentation import segmentation_masks
from fedimg.prediction.predicting import attended, predict
from fedimg.prediction.writing import write_outputs, write_picture
from tests.prediction.conftest import SAGITTAL, dciodvfy, write_series

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BALL_MM = (31.0, -5.0, 12.0)


def findings(path):
    """Errors and warnings of the program."""
    ran = subprocess.run([dciodvfy(), str(path)], capture_output=True, check=False, timeout=60)
    lines = (ran.stderr + ran.stdout).decode("latin-1").splitlines()
    assert lines[-1].startswith(("Comprehensive3DSR", "Segmentation", "SCImage")), lines  # it knew the object
    return [line for line in lines if line.startswith(("Error", "Warning"))]


SERIES = {
    "CT": {"modality": "CT"},
    "CT, sagittal": {"modality": "CT", "orientation": SAGITTAL},
    "MR": {"modality": "MR"},
    "CR": {"modality": "CR", "slices": 1},
    "CR, bare": {"modality": "CR", "slices": 1, "PatientOrientation": "", "ImagerPixelSpacing": ""},
}


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("name", ["outlines", "scores", "boxes"])
def test_dciodvfy_finds_nothing(models, tmp_path, series, name):
    ball = (14.0, -5.0, 0.0) if "sagittal" in series else (31.0, -5.0, 0.0)
    files = write_series(tmp_path / "s", ball_mm=ball, **SERIES[series])
    analysis = predict(models(name), files)
    assert analysis.prediction.called
    written = write_outputs(analysis, tmp_path, at=AT)
    assert written.why_not == ()
    assert (written.outline is not None) == (name == "outlines")
    assert len(written.dicom) == (3 if name == "outlines" else 2)
    assert {path.suffixes[-2]: findings(path) for path in written.dicom} == {
        path.suffixes[-2]: [] for path in written.dicom
    }


@pytest.fixture
def written(models, ball, tmp_path):
    analysis = predict(models("outlines"), ball)
    folder = tmp_path / "out"
    folder.mkdir()
    return analysis, write_outputs(analysis, folder, at=AT)


def test_the_report_says_what_was_found_and_that_nobody_has_seen_it(written):
    analysis, paths = written
    report = hd.sr.srread(str(paths.report))
    said = analysis.prediction.found[0]
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"  # Comprehensive 3D SR
    assert (report.VerificationFlag, report.PreliminaryFlag, report.CompletionFlag) == (
        "UNVERIFIED",
        "PRELIMINARY",
        "COMPLETE",
    )
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    first = pydicom.dcmread(analysis.originals[0].path)
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber", "StudyDate"):
        assert report[keyword].value == first[keyword].value
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert (group.finding_type.value, group.finding_type.meaning) == ("27925004", "Nodule")
    assert group.finding_sites[0].topographical_modifier is None
    assert group.finding_sites[0].value.meaning == "Lung"
    assert group.tracking_identifier == f"Nodule: {said.where}"
    by_name = {one.name.meaning: one for one in group.get_measurements()}
    certainty, size = by_name["Certainty of Finding"], by_name["Long Axis"]
    assert (certainty.value, certainty.unit.value) == (round(100 * said.score, 2), "%")
    assert (size.value, size.unit.value) == (round(said.size_mm, 1), "mm")
    outline = pydicom.dcmread(paths.outline)
    assert group.referenced_segment[0].referenced_sop_instance_uid == outline.SOPInstanceUID
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert evidence == {one.sop_uid for one in analysis.originals} | {outline.SOPInstanceUID}
    text = report.to_json()
    assert f"bundle sha256 {analysis.prediction.model_digest}" in text
    assert "called from a probability of 50.00 % on" in text
    assert "NOT FOR DIAGNOSTIC USE" in text
    assert "Left" in text  # the site's laterality, by geometry


def test_a_box_is_a_region_of_the_image_that_shows_it(models, ball, tmp_path):
    analysis = predict(models("boxes"), ball)
    report = hd.sr.srread(str(write_outputs(analysis, tmp_path, at=AT).report))
    (group,) = report.content.get_planar_roi_measurement_groups()
    corners, box = group.roi.value, analysis.box
    assert corners.min(axis=0) == pytest.approx((box.left, box.top), abs=1e-3)
    assert corners.max(axis=0) == pytest.approx((box.right, box.bottom), abs=1e-3)
    source = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
    assert source.ReferencedSOPInstanceUID == analysis.prediction.found[0].image


def test_the_picture_of_a_call_follows_its_report_and_changes_nothing_of_it(models, ball, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    at_once = write_outputs(predict(models("scores"), ball), whole, at=AT)
    first = predict(models("scores"), ball, attention=False)
    report = write_outputs(first, parts, at=AT)
    assert (report.picture, report.preview, report.why_not) == (None, None, ())
    assert [path.name for path in parts.iterdir()] == [report.report.name]
    (group,) = hd.sr.srread(str(report.report)).content.get_image_measurement_groups()
    said = report.report.read_bytes()
    assert group.tracking_identifier == f"Nodule: {first.prediction.found[0].where}"
    later = attended(models("scores"), ball, first.prediction, first.owed, first.inputs)
    picture = write_picture(later, parts, at=AT)
    assert report.report.read_bytes() == said
    assert picture.picture.read_bytes() == at_once.picture.read_bytes()
    assert picture.preview.read_bytes() == at_once.preview.read_bytes()


def test_attention_is_an_image_and_no_region(models, ball, tmp_path):
    analysis = predict(models("scores"), ball)
    report = hd.sr.srread(str(write_outputs(analysis, tmp_path, at=AT).report))
    assert not report.content.get_planar_roi_measurement_groups()
    assert not report.content.get_volumetric_roi_measurement_groups()
    (group,) = report.content.get_image_measurement_groups()
    assert group.tracking_identifier.startswith("Nodule: attention, not an outline")
    assert {one.name.meaning for one in group.get_measurements()} == {"Certainty of Finding"}
    assert "Laterality" not in report.to_json()


def test_the_outline_is_the_mask(written):
    analysis, paths = written
    masks = segmentation_masks(paths.outline)
    for (number, _), plane in zip(analysis.planes, analysis.mask_DHW, strict=True):
        uid = analysis.originals[number].sop_uid
        assert (masks[uid] == plane).all() if plane.any() else uid not in masks
    outline = hd.seg.segread(str(paths.outline))
    described = outline.get_segment_description(1)
    assert described.algorithm_type.value == "AUTOMATIC"
    assert described.segmented_property_type.meaning == "Nodule"
    assert described.algorithm_identification.parameters == {"bundle": analysis.prediction.model_digest}
    source = pydicom.dcmread(analysis.originals[0].path)
    assert outline.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_the_picture_has_its_words_and_the_preview_is_the_same(written):
    analysis, paths = written
    picture = pydicom.dcmread(paths.picture)
    pixels = picture.pixel_array
    preview = Image.open(io.BytesIO(paths.preview.read_bytes()))
    assert not preview.info
    assert (np.asarray(preview) == pixels).all()
    assert picture.BurnedInAnnotation == "YES"  # the image did not say that it has none
    assert picture.SourceImageSequence[0].ReferencedSOPInstanceUID == analysis.prediction.found[0].image
    yellow = (pixels == (255, 210, 0)).all(axis=2)
    _, columns = np.nonzero(yellow)
    # 6 × 64 pixels are shown; the ball is right of the middle
    assert 384 * 0.6 < columns.mean() < 384 * 0.9
    white = (pixels == 255).all(axis=2)
    picture_rows = np.flatnonzero((pixels[..., 0] != pixels[..., 2]).any(axis=1))
    assert white[: picture_rows.min()].sum() > 200 and white[picture_rows.max() :].sum() > 200


def test_burned_in_annotation_is_no_only_where_the_image_says_so(models, tmp_path):
    files = write_series(tmp_path / "s", ball_mm=BALL_MM, BurnedInAnnotation="NO")
    paths = write_outputs(predict(models("outlines"), files), tmp_path, at=AT)
    assert pydicom.dcmread(paths.picture).BurnedInAnnotation == "NO"


def test_the_same_again_is_the_same_object_and_another_input_another(models, ball, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "c").mkdir()
    one = write_outputs(predict(models("outlines"), ball), tmp_path / "a", at=AT)
    again = write_outputs(predict(models("outlines"), ball[::-1]), tmp_path / "b", at=AT)
    for first, second in zip(one.dicom, again.dicom, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()
    write_outputs(predict(models("outlines"), ball), tmp_path / "a", at=AT)
    assert len(list((tmp_path / "a").iterdir())) == 4
    fewer = write_outputs(predict(models("outlines"), ball[1:]), tmp_path / "c", at=AT)
    other = write_outputs(predict(models("boxes"), ball), tmp_path / "c", at=AT)
    uids = [pydicom.dcmread(path).SOPInstanceUID for done in (one, fewer, other) for path in done.dicom]
    assert len(set(uids)) == len(uids) == 8
    series = {pydicom.dcmread(path).SeriesInstanceUID for done in (one, fewer) for path in done.dicom}
    assert len(series) == 3  # what supersedes lies beside what it supersedes


def test_nothing_is_written_of_what_was_not_called(models, nothing, tmp_path):
    analysis = predict(models("outlines"), nothing)
    folder = tmp_path / "out"
    folder.mkdir()
    assert write_outputs(analysis, folder).dicom == ()
    assert list(folder.iterdir()) == []
    looked = write_outputs(predict(models("outlines"), nothing, always_where=True), folder, always=True)
    assert looked.report is None
    assert looked.picture is not None


def test_files_are_private_and_their_names_say_nothing(written):
    _, paths = written
    for path in (*paths.dicom, paths.preview):
        assert path.stat().st_mode & 0o777 == 0o600
        assert re.fullmatch(r"[0-9a-f]{20}\.(sr\.dcm|seg\.dcm|sc\.dcm|png)", path.name)


def test_a_write_that_is_cut_short_leaves_no_half_object(models, ball, tmp_path, monkeypatch):
    analysis = predict(models("outlines"), ball)
    plain, names = Path.replace, []

    def replace_some(self, target):
        names.append(Path(target).name)
        if target.name.endswith(".sr.dcm"):
            raise OSError(28, "No space left on device")
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", replace_some)
    with pytest.raises(OSError, match="No space"):
        write_outputs(analysis, tmp_path / "ct", at=AT)
    monkeypatch.undo()
    left = {path.name for path in (tmp_path / "ct").iterdir()} - {path.name for path in ball}
    assert left == set(names) - {names[-1]}
    for path in (tmp_path / "ct").glob("*.seg.dcm"):
        pydicom.dcmread(path)
    whole = write_outputs(analysis, tmp_path / "ct", at=AT)
    assert whole.report is not None


def test_a_name_that_no_attribute_takes_is_cut(models, ball, tmp_path):
    analysis = predict(models("outlines"), ball)
    odd = replace(analysis, prediction=replace(analysis.prediction, model_name="a\\b" * 60))
    paths = write_outputs(odd, tmp_path, at=AT)
    assert paths.why_not == ()
    assert findings(paths.report) == findings(paths.outline) == findings(paths.picture) == []


def test_images_that_allow_no_outline_still_have_a_report(models, ball, tmp_path):
    analysis = predict(models("outlines"), ball)
    for original in analysis.originals:
        del original.header["PixelSpacing"]
    paths = write_outputs(analysis, tmp_path, at=AT)
    assert paths.outline is None
    (why,) = paths.why_not
    assert why.startswith("no outline: a header that it cannot follow")
    assert paths.report is not None
    assert findings(paths.report) == []
