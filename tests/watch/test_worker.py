"""A worker's answers: the result without a picture, the picture after it, and what it says of a model that fails."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace

import pytest
import torch
from known_studies import exported, make_bundle, write_study

from fedimg.crypto.keys import SigningKey
from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.loading import load
from sites.watch import worker
from sites.watch.worker_process import Models, NotReady, Unfit, Worker
from tests.prediction.conftest import Scores

KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    imaging = ImagingConfig(image_size=(48, 48))
    graph = exported(Scores(), imaging.shape)
    return make_bundle(tmp_path_factory.mktemp("bundle") / "score", KEY, graph, "classification", imaging)


@pytest.fixture(scope="module")
def model(bundle):
    return load(bundle, [KEY.public_bytes])


@pytest.fixture
def asked(tmp_path, model):
    files = write_study(tmp_path / "in", "sick", ball=True)
    return {
        "job": 7,
        "model": model.digest,
        "files": [str(path) for path in files],
        "out": str(tmp_path / "o"),
    }


def owing(asked, said):
    return asked | {"owed": said["owed"] | {"of": json.loads(json.dumps(said["prediction"]))}}


def test_a_picture_is_no_part_of_the_result_and_comes_when_it_is_asked_for(model, asked):
    said = worker._answer(model, asked, worker._Map())
    assert set(said["outputs"]) == {"sr"}
    assert said["prediction"]["called"]
    later = worker._answer(model, owing(asked, said), worker._Map())
    assert set(later["outputs"]) == {"sc", "preview"}
    (before,), (after,) = said["prediction"]["found"], later["found"]
    assert after["where"].startswith("attention, not an outline: left side")
    assert {name for name in before if before[name] != after[name]} <= {"where", "image"}


def test_a_map_that_was_left_goes_on_where_it_was(model, asked, monkeypatch):
    monkeypatch.setattr("fedimg.prediction.attention._VOXELS_AT_ONCE", 1)
    said, last, steps = worker._answer(model, asked, worker._Map()), worker._Map(), []

    def call(images):
        steps.append(len(images))
        if len(steps) == 5:
            last.leave()
        return model.backend.call(images)

    counted = replace(model, backend=replace(model.backend, call=call))
    assert worker._answer(counted, owing(asked, said), last) == {"gave_way": True}
    assert set(worker._answer(counted, owing(asked, said), last)["outputs"]) == {"sc", "preview"}
    assert len(steps) == 37
    worker._answer(counted, owing(asked, said) | {"job": 8}, last)
    assert len(steps) == 2 * 37, "of another study nothing is known"


def test_a_model_that_gives_no_numbers_is_said_so(model, asked):
    def call(images):
        logits, features = model.backend.call(images)
        return torch.full_like(logits, math.nan), features

    broken = replace(model, backend=replace(model.backend, call=call))
    assert worker._answer(broken, asked, worker._Map()) == {"not_finite": True}


def test_other_images_and_no_room_are_told_apart(model, asked, monkeypatch):
    said = worker._answer(model, asked, worker._Map())
    fewer = owing(asked, said) | {"files": asked["files"][1:]}
    assert worker._answer(model, fewer, worker._Map()) == {"refused": "others by now"}

    def full(*_):
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(worker, "write_picture", full)
    assert worker._answer(model, owing(asked, said), worker._Map()) == {"no_room": True}


def test_a_process_answers_and_gives_way_when_it_is_told_to(bundle, model, asked):
    process = Worker(Models((bundle,), (KEY.public_bytes,)))
    try:
        said = process.ask(asked, 60.0)
        assert said["prediction"]["called"]
        later = process.ask(owing(asked, said), 60.0, lambda: True)
        assert "gave_way" in later or "found" in later  # so small a map may be ready before anybody looks
        assert "found" in process.ask(owing(asked, said), 60.0, lambda: False)
    finally:
        process.end()


def test_a_bundle_that_is_unfit_is_named_and_one_that_is_slow_is_not(bundle, tmp_path, monkeypatch):
    foreign = SigningKey.from_bytes(b"x" * 32)
    with pytest.raises(Unfit) as refused:
        Worker(Models((bundle,), (foreign.public_bytes,)))
    assert refused.value.folder == bundle
    monkeypatch.setattr("sites.watch.worker_process._READY_S", 0.01)
    with pytest.raises(NotReady):
        Worker(Models((bundle,), (KEY.public_bytes,)))
