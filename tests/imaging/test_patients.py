from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.imaging.config import ImagingConfig, IntensityConfig
from fedimg.imaging.patients import build_dataset, dataset_from_arrays, split
from fedimg.values import Volume

KEY = b"s" * 32
patients = st.lists(st.integers(0, 40).map(lambda n: f"key-{n}"), max_size=60)


def volumes_of(keys):
    return [
        Volume(np.full((1, 1, 2, 3), i, np.float32), (1.0, 1.0, 1.0), key, i % 3)
        for i, key in enumerate(keys)
    ]


EMPTY = ImagingConfig(image_size=(2, 3))


@given(patients)
def test_a_dataset_keeps_every_image_with_its_patient_and_label(keys):
    dataset = build_dataset(volumes_of(keys), EMPTY)
    assert dataset.images.shape == (len(keys), 1, 2, 3)
    assert dataset.patient_keys == tuple(sorted(set(keys)))
    assert dataset.first_image[0] == 0
    assert dataset.first_image[-1] == len(keys)
    for u, key in enumerate(dataset.patient_keys):
        own = [int(dataset.images[i, 0, 0, 0]) for i in dataset.images_of(u)]
        assert own == [i for i, k in enumerate(keys) if k == key]  # in the order given
        assert [int(dataset.labels[i]) for i in dataset.images_of(u)] == [i % 3 for i in own]


@given(patients, st.floats(0, 1))
def test_a_split_cuts_through_no_patient_and_loses_none(keys, fraction):
    dataset = build_dataset(volumes_of(keys), EMPTY)
    train, validation = split(dataset, fraction, KEY)
    assert not set(train.patient_keys) & set(validation.patient_keys)
    assert sorted(train.patient_keys + validation.patient_keys) == list(dataset.patient_keys)
    values = sorted(torch.cat([train.images[:, 0, 0, 0], validation.images[:, 0, 0, 0]]).tolist())
    assert values == list(range(len(keys)))


@given(patients, st.sets(st.integers(0, 40)), st.floats(0, 1))
def test_one_patient_more_or_less_moves_nobody_else(keys, removed, fraction):
    dataset = build_dataset(volumes_of(keys), EMPTY)
    fewer = build_dataset(volumes_of([k for k in keys if int(k[4:]) not in removed]), EMPTY)
    held, held_fewer = (set(split(d, fraction, KEY)[1].patient_keys) for d in (dataset, fewer))
    assert held_fewer == held & set(fewer.patient_keys)


def test_the_share_is_met_and_depends_on_the_key():
    dataset = build_dataset(volumes_of([f"key-{i}" for i in range(4000)]), EMPTY)
    held = {key: set(split(dataset, 0.2, key)[1].patient_keys) for key in (KEY, b"t" * 32)}
    for chosen in held.values():
        # Binomial(4000, 0.2): mean 800, s.d. 25.3; five of them miss once in 1.7 million.
        assert abs(len(chosen) - 800) < 5 * 25.3
    # Independent keys agree on 0.2² of the patients: mean 160, s.d. 12.4.
    assert abs(len(held[KEY] & held[b"t" * 32]) - 160) < 5 * 12.4


def test_ends_of_the_split_and_a_fraction_that_is_none():
    dataset = build_dataset(volumes_of(["a", "b"]))
    assert split(dataset, 0.0, KEY)[1].number_of_patients == 0
    assert split(dataset, 1.0, KEY)[0].number_of_patients == 0
    with pytest.raises(DataError, match=r"a validation fraction in \[0, 1\]; found 1.5"):
        split(dataset, 1.5, KEY)


def test_volumes_keep_their_depth_and_an_empty_site_its_shape():
    deep = Volume(np.zeros((1, 4, 2, 3), np.float32), (1.0, 1.0, 1.0), "a", 0)
    assert build_dataset([deep]).images.shape == (1, 1, 4, 2, 3)
    nobody = build_dataset([], ImagingConfig(dimensions=3, image_size=(4, 2, 3)))
    assert nobody.images.shape == (0, 1, 4, 2, 3)
    assert nobody.number_of_patients == 0
    with pytest.raises(DataError, match="at least one example, or the shape of one"):
        build_dataset([])


def test_shapes_must_agree():
    odd = Volume(np.zeros((1, 1, 3, 3), np.float32), (1.0, 1.0, 1.0), "b", 0)
    with pytest.raises(DataError, match=r"examples of one shape; found \(1, 3, 3\) beside \(1, 2, 3\)"):
        build_dataset([*volumes_of(["a"]), odd])


ARRAYS = ImagingConfig(image_size=(4, 4), intensity=IntensityConfig(mean=0.5, std=0.25))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_arrays_become_datasets_by_the_public_constants_alone(seed, count):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    labels, keys = rng.integers(0, 2, count), [f"k{n}" for n in rng.integers(0, 5, count)]
    dataset = dataset_from_arrays(images, labels, keys, ARRAYS)
    order = sorted(range(count), key=lambda i: keys[i])
    expected = (images[order].astype(np.float64) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(dataset.images.numpy(), expected, atol=1e-5)
    assert dataset.labels.tolist() == [labels[i] for i in order]
    assert dataset.patient_keys == tuple(sorted(set(keys)))
    # Leaving the others out moves no value of the first image: no statistic of the set is used.
    alone = dataset_from_arrays(images[:1], labels[:1], keys[:1], ARRAYS)
    np.testing.assert_array_equal(alone.images[0], dataset.images[order.index(0)])


def test_colour_arrays_become_luminance_and_sizes_are_fitted():
    colour = np.zeros((1, 3, 8, 8), np.uint8)
    colour[:, 0] = 255
    plain = ImagingConfig(image_size=(4, 4), intensity=IntensityConfig(mean=0.0, std=1.0))
    red = dataset_from_arrays(colour, np.array([0]), ["a"], plain).images
    np.testing.assert_allclose(red.numpy(), np.full((1, 1, 4, 4), 0.299), atol=1e-6)  # ITU-R BT.601
    kept = dataset_from_arrays(colour, np.array([0]), ["a"], replace(plain, channels=3)).images
    assert kept[0, :, 0, 0].tolist() == [1.0, 0.0, 0.0]
    ramp = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    small = dataset_from_arrays(ramp, np.array([0]), ["a"], plain).images[0, 0].numpy()
    np.testing.assert_allclose(small, ramp.reshape(4, 2, 4, 2).mean(axis=(1, 3)) / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 1, 4, 4, 4), np.uint8), [0, 1], r"\(N, 1 or 3, 2 axes\)"),
        (np.zeros((2, 2, 4, 4), np.uint8), [0, 1], r"found images \(2, 2, 4, 4\)"),
        (np.zeros((2, 1, 4, 4), np.uint8), [0], "1 labels, 2 names"),
        (np.full((2, 1, 4, 4), np.nan, np.float32), [0, 1], "NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, labels, message):
    with pytest.raises(DataError, match=message):
        dataset_from_arrays(images, np.array(labels), ["a", "b"], ARRAYS)
