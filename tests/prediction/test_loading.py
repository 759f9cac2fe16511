"""A bundle is opened by its signature, and works only where it gives the released logits and is of a kind that can."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace

import pytest
import torch

from fedimg.bundle import Output, open_sealed
from fedimg.bundle.running import network_of, released_network
from fedimg.errors import DataError
from fedimg.imaging.config import PIPELINE_VERSION, ImagingConfig
from fedimg.prediction import backends
from fedimg.prediction.loading import load
from fedimg.prediction.said_imaging import imaging_of
from tests.prediction.conftest import FLAT, KEY, Scores, make_bundle


def said(config):
    return json.loads(json.dumps(asdict(config))) | {"pipeline_version": PIPELINE_VERSION}


def test_a_model_gives_the_bundles_logits(bundles, models):
    _, logits = network_of(open_sealed(bundles("scores"), [KEY.public_bytes]))
    model = models("scores")
    images = torch.randn(70, *model.metadata.image_shape)  # more than one batch
    found, features = model.run(images)
    assert torch.allclose(found, logits(images), atol=1e-5)
    assert features.shape == (70, 2)
    assert model.digest == open_sealed(bundles("scores"), [KEY.public_bytes]).digest
    assert models("outlines").run(images)[1] is None


def test_no_byte_is_read_of_a_bundle_that_nobody_trusted_signed(bundles, tmp_path):
    with pytest.raises(DataError, match="trusted here"):
        load(bundles("scores"), [bytes(32)])
    shutil.copytree(bundles("scores"), tmp_path / "b")
    (tmp_path / "b/models/model.pt2").write_bytes(b"")
    with pytest.raises(DataError, match="as it was signed"):
        load(tmp_path / "b", [KEY.public_bytes])


@pytest.mark.parametrize(
    "config",
    [
        FLAT,
        ImagingConfig(
            dimensions=3, unit="series", image_size=(4, 8, 8), spacing_mm=(3.0, 1.5, 1.5), channels=3
        ),
        ImagingConfig(image_size=(9, 7), frames_per_file=4, fit="stretch", features={"age": (0.0, 100.0)}),
    ],
)
def test_preprocessing_comes_back_whole(config):
    assert imaging_of(said(config)) == config


def changed(key, value):
    found = said(FLAT)
    section, _, leaf = key.rpartition(".")
    (found[section] if section else found)[leaf] = value
    return found


@pytest.mark.parametrize(
    "found",
    [
        changed("pipeline_version", PIPELINE_VERSION + 1),
        changed("another", 1),
        changed("intensity.another", 1),
        changed("image_size", [48]),
        changed("image_size", "ab"),
        changed("intensity", None),
        changed("intensity.hu_window", [40, 0]),
        changed("dimensions", "2"),
        {key: value for key, value in said(FLAT).items() if key != "fit"},
        {},
    ],
)
def test_preprocessing_that_is_not_whole_is_refused(found):
    with pytest.raises(DataError):
        imaging_of(found)


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        ("regression", {"outputs": (Output("regression", 0, 2, (2,), (0.0, 1.0)),)}, "numbers only"),
        ("classification", {"classes": ("a", "b", "ball")}, "a name for each class"),
        ("classification", {"image_shape": (1, 48, 47)}, "images of shape"),
    ],
)
def test_a_model_that_cannot_look_at_a_series_is_refused(tmp_path, task, changes, words):
    folder = make_bundle(tmp_path / "b", KEY, Scores(), task, FLAT, **changes)
    with pytest.raises(DataError, match=words):
        load(folder, [KEY.public_bytes])


def test_several_modalities_are_refused(tmp_path):
    together = ImagingConfig(together=("CT", "MR"), unit="study", image_size=(48, 48))
    folder = make_bundle(tmp_path / "b", KEY, Scores(), "classification", together)
    with pytest.raises(DataError, match="several modalities"):
        load(folder, [KEY.public_bytes])


@pytest.fixture
def released(bundles):
    return released_network(open_sealed(bundles("scores"), [KEY.public_bytes]))


def test_a_backend_with_other_logits_is_never_chosen(released, monkeypatch):
    """However fast it is."""

    def other(images):
        with torch.no_grad():
            return released.module(images) + 2e-3, None

    assert backends._measured("other", other, released) is None
    close = backends._measured("close", lambda images: (released.wanted + 5e-4, None), released)
    assert close.name == "close"
    plain = backends._with_features
    monkeypatch.setattr(
        backends, "_with_features", lambda module, layout: plain(module, None) if layout is None else other
    )
    assert backends.chosen(released).name == "graph"


def test_the_faster_of_those_that_agree_is_chosen(released, monkeypatch):
    plain = backends._with_features

    def ways(module, layout):
        call = plain(module, layout)
        return call if layout is not None else lambda images: (time.sleep(0.02), call(images))[1]

    monkeypatch.setattr(backends, "_with_features", ways)
    assert backends.chosen(released).name == "graph, channels last"


def test_a_graph_that_cannot_be_copied_is_run_as_it_is(released):
    whole = replace(released, module=Scores())
    found = backends.chosen(replace(whole, wanted=Scores()(released.images).detach()))
    logits, features = found.call(released.images)
    assert torch.equal(logits, Scores()(released.images))
    assert features is None
