"""What a hand-written network finds in a series whose ball is known: called or not, and where, in patient millimetres."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_studies import LUNG, NODULE

from fedimg.errors import DataError
from fedimg.imaging.cleaning import Rejected
from fedimg.prediction import attention
from fedimg.prediction.attention import Begun
from fedimg.prediction.predicting import ATTENTION, SCORE_ALONE, attended, predict
from fedimg.prediction.results import NotFinite, prediction_of
from tests.prediction.conftest import AXIAL, CORONAL, SAGITTAL, write_series

BALL_MM = (31.0, -5.0, 12.0)


@pytest.mark.parametrize("orientation", [AXIAL, CORONAL, SAGITTAL], ids=["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("name", ["outlines", "volumes"])
def test_an_outlined_ball_lies_where_it_was_put(models, tmp_path, name, orientation):
    where = (14.0, -5.0, 12.0)  # within each stack's 48 mm
    files = write_series(tmp_path / "s", orientation=orientation, ball_mm=where)
    found = predict(models(name), files)
    (one,) = found.prediction.found
    assert found.prediction.called
    assert (one.finding, one.code, one.site) == ("ball", NODULE, LUNG)
    # a slice is 4 mm, a prepared pixel 2.7: the centre is known to within one of them
    assert one.centre_mm == pytest.approx(where, abs=4.0)
    # a volume of 12 axial slices out of 64 rows has voxels of 10.7 mm
    coarse = name == "volumes" and orientation != AXIAL
    assert one.size_mm == pytest.approx(18.0, abs=10.7 if coarse else 4.0)
    assert "left side" in one.where
    assert found.mask_DHW.shape == (12, 64, 64)
    volume = found.mask_DHW.sum() * 2.0 * 2.0 * 4.0
    assert volume == pytest.approx(4 / 3 * math.pi * 9.0**3, rel=0.4)


def test_where_is_said_as_a_viewer_counts(models, ball):
    found = predict(models("outlines"), ball)
    (one,) = found.prediction.found
    # z = 12 of −22 … 22: the tenth slice is at 14, the ninth at 10, and both show it
    assert one.where in (f"left side, upper third, middle third, slice {k} of 12" for k in (9, 10))
    shown = found.originals[found.planes[found.shown][0]]
    assert one.image == shown.sop_uid
    assert f"slice {shown.number} of" in one.where
    assert found.mask_DHW[found.shown].sum() == found.mask_DHW.sum(axis=(1, 2)).max()


@pytest.mark.parametrize(
    ("ball_mm", "words"),
    [
        ((-31.0, -5.0, 12.0), "right side, upper third"),
        ((0.0, -30.0, 0.0), "midline, middle third, front third"),
        ((20.0, 30.0, -18.0), "left side, lower third, back third"),
    ],
)
def test_sides_and_thirds_follow_from_geometry(models, tmp_path, ball_mm, words):
    files = write_series(tmp_path / "s", ball_mm=ball_mm)
    assert predict(models("outlines"), files).prediction.found[0].where.startswith(words)


def test_feet_first_or_mirrored_files_have_the_same_sides(models, tmp_path):
    """Rows that run to the patient's right: the picture is mirrored, the patient is not."""
    files = write_series(tmp_path / "s", orientation=((-1.0, 0, 0), (0, 1.0, 0)), ball_mm=BALL_MM)
    (one,) = predict(models("outlines"), files).prediction.found
    assert one.where.startswith("left side, upper third")
    assert one.centre_mm == pytest.approx(BALL_MM, abs=4.0)


def test_nothing_is_found_where_nothing_is(models, nothing):
    for name in ("outlines", "scores", "volumes", "volume scores", "boxes"):
        said = predict(models(name), nothing).prediction
        assert (said.called, said.found) == (False, ()), name
        assert said.score < said.threshold


def test_a_box_has_a_place_and_the_size_that_was_learnt(models, ball):
    found = predict(models("boxes"), ball)
    (one,) = found.prediction.found
    assert one.centre_mm == pytest.approx(BALL_MM, abs=6.0)
    # eight prepared voxels of 64/48 pixels of 2 mm
    assert one.size_mm == pytest.approx(8 * 64 / 48 * 2.0, rel=1e-6)
    box = found.box
    assert (box.bottom - box.top) * 2.0 == pytest.approx(one.size_mm, rel=1e-6)
    middle = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
    assert middle == pytest.approx((-5 / 2 + 31.5, 31 / 2 + 31.5), abs=3.0)
    assert found.mask_DHW is None


@pytest.mark.parametrize("name", ["scores", "volume scores"])
def test_a_classifier_points_and_says_that_it_outlines_nothing(models, ball, name):
    found = predict(models(name), ball)
    (one,) = found.prediction.found
    assert one.where.startswith(f"{ATTENTION}left side, upper third")
    assert (one.size_mm, one.centre_mm, found.mask_DHW) == (None, None, None)
    heat = found.attention_HW
    assert heat.shape == found.picture_HW.shape == (64, 64)
    assert heat.min() >= 0 and heat.max() <= 1
    h, w = np.argwhere(heat == heat.max()).mean(axis=0)
    cell = 64 / (6 if name == "scores" else 3)
    assert abs(h - (31.5 - 2.5)) <= cell and abs(w - (31.5 + 15.5)) <= cell


@pytest.mark.parametrize("name", ["scores", "volume scores"])
def test_what_is_said_at_once_and_what_is_said_later_are_what_is_said_together(models, ball, name):
    whole = predict(models(name), ball)
    first = predict(models(name), ball, attention=False)
    (one,) = first.prediction.found
    assert first.attention_HW is None
    assert (one.score, one.size_mm) == (whole.prediction.found[0].score, None)
    if name == "scores":
        number = first.originals[first.planes[first.shown][0]].number
        assert one.where == f"{SCORE_ALONE}, highest in slice {number} of 12"
    else:
        assert one.where == SCORE_ALONE
    stored = json.loads(json.dumps(asdict(first.prediction)))
    later = attended(models(name), ball[::-1], prediction_of(stored), first.owed, first.inputs)
    assert later.prediction.found == whole.prediction.found
    assert later.prediction == replace(first.prediction, found=whole.prediction.found)
    assert np.array_equal(later.attention_HW, whole.attention_HW)
    assert (later.shown, later.inputs, later.owed) == (whole.shown, whole.inputs, None)


@pytest.mark.parametrize("name", ["outlines", "boxes"])
def test_what_knows_its_place_owes_nothing(models, ball, name):
    found = predict(models(name), ball, attention=False)
    assert found.prediction.called
    assert found.owed is None
    assert found.prediction.found == predict(models(name), ball).prediction.found


def test_what_is_not_called_owes_nothing(models, nothing):
    assert predict(models("scores"), nothing, attention=False).owed is None


def test_attention_of_other_images_than_were_looked_at_is_refused(models, ball):
    first = predict(models("scores"), ball, attention=False)
    with pytest.raises(DataError, match="others by now"):
        attended(models("scores"), ball[1:], first.prediction, first.owed, first.inputs)
    with pytest.raises(DataError, match="others by now"):
        attended(models("scores"), ball, first.prediction, 12, first.inputs)


def test_attention_gives_way_and_goes_on_where_it_was(models, ball, monkeypatch):
    monkeypatch.setattr(attention, "_VOXELS_AT_ONCE", 5 * 48 * 48)
    model, asked = models("scores"), []
    first = predict(model, ball, attention=False)
    whole = attended(model, ball, first.prediction, first.owed, first.inputs)
    begun, steps = Begun(), iter([True, True, False])
    assert (
        attended(model, ball, first.prediction, first.owed, first.inputs, begun, lambda: next(steps)) is None
    )
    assert len(begun.scores) == 10
    counted = replace(model, backend=Counting(model.backend, asked))
    rest = attended(counted, ball, first.prediction, first.owed, first.inputs, begun)
    assert sum(asked) == 37 - 10
    assert np.array_equal(rest.attention_HW, whole.attention_HW)


class Counting:
    """A backend that notes how many images it was asked about."""

    def __init__(self, backend, asked):
        self.backend, self.asked = backend, asked

    def call(self, images):
        self.asked.append(len(images))
        return self.backend.call(images)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_what_is_no_finite_number_is_a_failure_and_no_result(models, ball, broken):
    model = models("scores")

    def call(images):
        logits, features = model.backend.call(images)
        return logits, torch.full_like(features, broken)

    with pytest.raises(NotFinite):
        predict(replace(model, backend=replace(model.backend, call=call)), ball)

    def other(images):
        logits, features = model.backend.call(images)
        return torch.full_like(logits, broken), features

    with pytest.raises(NotFinite):
        predict(replace(model, backend=replace(model.backend, call=other)), ball)


def test_a_prediction_of_another_form_is_refused(models, ball):
    said = asdict(predict(models("outlines"), ball).prediction)
    assert prediction_of(said).found[0].code == NODULE
    for changed in (said | {"found": None}, said | {"further": 1}, {}):
        with pytest.raises(DataError, match="another form"):
            prediction_of(changed)


def test_a_score_that_rests_on_nothing_has_no_place(models, nothing):
    found = predict(models("volume scores"), nothing, always_where=True)
    assert found.prediction.found == ()
    model = replace(models("scores"), metadata=replace(models("scores").metadata, threshold=0.0))
    flat = predict(model, nothing[:1])
    assert flat.prediction.called


def test_temperature_is_in_the_score(models, ball):
    model = models("scores")
    hot = replace(model, metadata=replace(model.metadata, temperature=3.0))
    cool, warm = (predict(one, ball).prediction.score for one in (model, hot))
    logit = [math.log(p / (1 - p)) for p in (cool, warm)]
    assert logit[0] * 1.5 == pytest.approx(logit[1] * 3.0, rel=1e-9)


def test_without_a_promised_threshold_nothing_is_called(models, ball):
    said = predict(models("findings"), ball).prediction
    assert said.score == said.scores["ball"] > 0.9
    assert said.scores["other"] == pytest.approx(1 / (1 + math.e))
    assert (said.threshold, said.called, said.found) == (None, False, ())
    outlined = predict(models("voxels"), ball, always_where=True)
    assert outlined.mask_DHW.any()
    assert not outlined.prediction.called
    assert predict(models("voxels"), ball).mask_DHW is None


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_names_and_order_of_files_mean_nothing(models, ball, tmp_path, data):
    model = models("outlines")
    first = predict(model, ball)
    folder = tmp_path / "again"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    again = []
    for k, path in enumerate(data.draw(st.permutations(ball))):
        again.append(folder / f"{k}.dcm")
        shutil.copy(path, again[-1])
    second = predict(model, again)
    assert second.inputs == first.inputs
    assert second.prediction.scores == first.prediction.scores
    assert second.prediction.found == first.prediction.found
    assert (second.mask_DHW == first.mask_DHW).all()


def test_a_slice_that_cannot_be_read_is_left_out_of_images_and_ends_a_volume(models, ball):
    ball[0].write_bytes(ball[0].read_bytes()[:-100])
    said = predict(models("outlines"), ball).prediction
    assert said.called
    assert said.measures["ops.left_out"] == 1
    with pytest.raises(DataError, match="ends within an element"):
        predict(models("volumes"), ball)


def test_a_missing_slice_is_no_volume(models, ball):
    with pytest.raises(Rejected, match="slice missing"):
        predict(models("volumes"), [*ball[:5], *ball[6:]])
    assert predict(models("outlines"), [*ball[:5], *ball[6:]]).prediction.called


def test_what_is_no_series_is_refused(models, ball, nothing, tmp_path):
    with pytest.raises(DataError, match="files of a series"):
        predict(models("outlines"), [])
    with pytest.raises(DataError, match="several"):
        predict(models("outlines"), [*ball, *nothing])
    (tmp_path / "text").write_text("no image")
    with pytest.raises(DataError, match="not DICOM"):
        predict(models("outlines"), [tmp_path / "text"])
    other = tmp_path / "other.dcm"
    data = bytearray(ball[0].read_bytes())
    data[-1] ^= 1
    other.write_bytes(data)
    with pytest.raises(DataError, match="one file of each instance"):
        predict(models("outlines"), [*ball, other])


def test_a_projection_has_sides_by_its_header_and_no_place_in_space(models, tmp_path):
    (file,) = write_series(tmp_path / "cr", modality="CR", slices=1, ball_mm=(31.0, -30.0, 0.0))
    (one,) = predict(models("outlines"), [file]).prediction.found
    assert one.where == "left side, upper third"
    assert one.centre_mm is None
    assert one.size_mm == pytest.approx(18.0, abs=4.0)
    (bare,) = write_series(
        tmp_path / "bare",
        modality="CR",
        slices=1,
        ball_mm=(31.0, -30.0, 0.0),
        PatientOrientation="",
        ImagerPixelSpacing="",
    )
    (one,) = predict(models("outlines"), [bare]).prediction.found
    assert one.where == "top third of the picture, right third of the picture"
    assert one.size_mm is None
