"""Several kinds of label in one row an image: what is missing is NaN, and what lacks everything is held back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.imaging import loading
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.labels import of_group
from fedimg.models import ModelConfig, build_model
from fedimg.site_data import as_learnt
from fedimg.values import NO_CLASS, Quarantine, SiteDataset
from tests.imaging.conftest import make_decoded, make_record

CONFIG = ImagingConfig(image_size=(16, 16))
KINDS = ("class", "number", "voxels")


def loaded(folder, records, decoded, kinds=KINDS, config=CONFIG):
    cache = VolumeCache(folder / "cache", bytes(32))
    return loading.load_dataset(records, lambda r: decoded[r.sha256], cache, config, labels=kinds)


def record(name, label, value=None):
    return replace(make_record(f"p-{name}", label, name, instance=name), value=value)


@pytest.fixture
def images(noise):
    """By name: some with an outline (`drawn…`), others without."""

    def make(*names):
        found = {}
        for place, name in enumerate(names):
            drawn = np.zeros((1, 16, 16), np.uint8)
            drawn[0, 2:5, 3:9] = 1
            labels = drawn if name.startswith("drawn") else None
            found[name] = make_decoded(noise((16, 16), place), labels_DHW=labels)
        return found

    return make


def test_an_image_keeps_what_is_said_of_it_and_without_anything_is_held_back(tmp_path, images):
    decoded = images("drawn", "drawn-only", "class", "negative", "number", "nothing")
    records = [
        record("drawn", 1, 2.5),
        record("drawn-only", NO_CLASS),
        record("class", 1),
        record("negative", 0),
        record("number", NO_CLASS, 7.0),
        record("nothing", NO_CLASS),
    ]
    found = loaded(tmp_path, records, decoded)
    assert found.held_back == {Quarantine.NO_LABEL: 1}
    rows = dict(zip(found.dataset.patient_keys, found.dataset.labels.numpy(), strict=True))
    assert rows.keys() == {f"p-{r.sha256}" for r in records[:-1]}
    classes = {name: row[0] for name, row in rows.items()}
    assert np.array_equal(
        [classes[f"p-{n}"] for n in ("drawn", "drawn-only", "class", "negative", "number")],
        [1, np.nan, 1, 0, np.nan],
        equal_nan=True,
    )
    assert rows["p-drawn"][1] == 2.5
    assert rows["p-number"][1] == 7.0
    assert np.isnan([rows[f"p-{n}"][1] for n in ("drawn-only", "class", "negative")]).all()
    assert rows["p-drawn"][2:].sum() == rows["p-drawn-only"][2:].sum() == 18
    assert not rows["p-negative"][2:].any()  # its class says that there is nothing to draw
    assert np.isnan([rows["p-class"][2:], rows["p-number"][2:]]).all()
    # and what several tasks left in the cache serves no task of voxels alone: there it is held back
    alone = loaded(tmp_path, records, decoded, "voxels")
    assert alone.held_back == {Quarantine.NO_LABEL: 3}
    assert not np.isnan(alone.dataset.labels.numpy()).any()
    assert loaded(tmp_path, records, decoded, "class").held_back == {Quarantine.NO_LABEL: 3}
    assert loaded(tmp_path, records, decoded, "number").held_back == {Quarantine.NO_LABEL: 4}


def test_nobody_has_rows_of_the_same_length(tmp_path):
    assert loaded(tmp_path, [], {}).dataset.labels.shape == (0, 2 + 16 * 16)


@pytest.mark.parametrize(
    ("labels", "kinds", "expected"),
    [
        ((0, 0), KINDS, 0),
        ((0, 1, NO_CLASS), KINDS, 1),  # one positive slice makes the series positive
        ((0, NO_CLASS), KINDS, NO_CLASS),
        ((NO_CLASS,), KINDS, NO_CLASS),
        ((1, 4), ("findings", "number"), 5),
        ((1, NO_CLASS), ("findings", "number"), NO_CLASS),
    ],
)
def test_a_series_has_what_its_slices_say(labels, kinds, expected):
    group = [record(f"{k}", label, 1.0 if k else None) for k, label in enumerate(labels)]
    found = of_group(group, kinds)
    assert (found.label, found.value) == (expected, None)
    if NO_CLASS in labels:
        with pytest.raises(Rejected):
            of_group(group, "class")


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 3.0, np.nan]), min_size=1, max_size=8), st.integers(0, 9))
def test_rows_become_what_each_task_takes_with_what_is_missing_left_missing(findings, seed):
    config = ModelConfig("cnn", task="several", heads=("regression", "multilabel"), target_range=(10.0, 20.0), image_size=(16, 16), width=4)  # fmt: skip
    network, n = build_model(config, 0), len(findings)
    numbers = np.random.default_rng(seed).choice([5.0, 15.0, 99.0, np.nan], n)
    raw = torch.from_numpy(np.stack([numbers, findings], axis=1))
    data = SiteDataset(torch.zeros(n, 1, 16, 16), raw, tuple(f"{k}" for k in range(n)), np.arange(n + 1))
    found = as_learnt(data, network).labels
    assert found.dtype == torch.float32
    shares = {5.0: 0.0, 15.0: 0.5, 99.0: 1.0}
    bits = {0.0: (0.0, 0.0), 1.0: (1.0, 0.0), 3.0: (1.0, 1.0)}
    expected = [
        (shares.get(a, np.nan), *bits.get(b, (np.nan, np.nan)))
        for a, b in zip(numbers, findings, strict=True)
    ]
    assert np.array_equal(found.numpy(), np.array(expected, np.float32), equal_nan=True)
    with pytest.raises(DataError, match="for several"):
        as_learnt(replace(data, labels=raw[:, 0]), network)
