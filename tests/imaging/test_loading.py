import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.config import ImagingConfig
from fedimg.imaging.loading import load_dataset
from fedimg.values import Quarantine

CONFIG = ImagingConfig(image_size=(16, 16))
FIXTURES = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)


@pytest.fixture
def site(tmp_path, decoded, noise, record):
    """Records of three patients, one blank file, one that does not decode; counts the decodings."""
    images = {f"{n:02d}": decoded(noise((16, 16), seed=n)) for n in range(6)}
    images["04"] = decoded(np.zeros((16, 16)))
    images["05"] = Quarantine.PIXELS_UNDECODABLE
    images["06"] = images["00"]  # the same picture again, under another file
    owners = {"00": "p2", "01": "p1", "02": "p2", "03": "p3", "04": "p1", "05": "p3", "06": "p2"}
    records = [record(owners[n], int(n) % 2, n, instance=f"i{n}") for n in images]
    opened = []

    def decode(item):
        opened.append(item.sha256)
        return images[item.sha256]

    return records, decode, opened, lambda: VolumeCache(tmp_path / "cache", b"k" * 32)


def test_good_files_become_the_data_set_and_bad_ones_are_counted(site):
    records, decode, _, cache = site
    loaded = load_dataset(records, decode, cache(), CONFIG)
    assert loaded.dataset.patient_keys == ("p1", "p2", "p3")
    assert np.diff(loaded.dataset.first_image).tolist() == [1, 2, 1]
    assert loaded.held_back == {
        Quarantine.PIXELS_BLANK: 1,
        Quarantine.PIXELS_UNDECODABLE: 1,
        Quarantine.DUPLICATE: 1,
    }


def test_a_released_file_is_decoded_once(site):
    records, decode, opened, cache = site
    first = load_dataset(records, decode, cache(), CONFIG)
    opened.clear()
    second = load_dataset(records, decode, cache(), CONFIG)
    assert opened == ["05"]  # what failed to decode is tried again, the blank one is remembered
    assert first.held_back == second.held_back
    np.testing.assert_array_equal(first.dataset.images, second.dataset.images)
    np.testing.assert_array_equal(first.dataset.labels, second.dataset.labels)


def test_a_corrected_label_needs_no_new_cache(site, record):
    records, decode, opened, cache = site
    load_dataset(records, decode, cache(), CONFIG)
    opened.clear()
    corrected = [record(r.patient_key, 1, r.sha256, instance=r.instance_key) for r in records]
    assert set(load_dataset(corrected, decode, cache(), CONFIG).dataset.labels.tolist()) == {1}
    assert opened == ["05"]


@FIXTURES
@given(order=st.permutations(range(7)))
def test_the_order_of_records_does_not_matter(site, order):
    records, decode, _, cache = site
    reference = load_dataset(records, decode, cache(), CONFIG).dataset
    shuffled = load_dataset([records[i] for i in order], decode, cache(), CONFIG).dataset
    np.testing.assert_array_equal(reference.images, shuffled.images)
    np.testing.assert_array_equal(reference.labels, shuffled.labels)


@FIXTURES
@given(left_out=st.sets(st.sampled_from(["p1", "p2", "p3"])))
def test_what_one_patient_contributes_does_not_depend_on_the_others(site, left_out):
    records, decode, _, cache = site
    whole = load_dataset(records, decode, cache(), CONFIG).dataset
    part = load_dataset(
        [r for r in records if r.patient_key not in left_out], decode, cache(), CONFIG
    ).dataset
    for u, key in enumerate(part.patient_keys):
        there = whole.images_of(whole.patient_keys.index(key))
        np.testing.assert_array_equal(part.images[part.images_of(u)], whole.images[there])


def test_an_empty_site_is_a_data_set_of_nobody(site):
    _, decode, _, cache = site
    loaded = load_dataset([], decode, cache(), CONFIG)
    assert loaded.dataset.images.shape == (0, 1, 16, 16)
    assert not loaded.held_back


def test_series_become_volumes_with_the_highest_label_of_their_slices(tmp_path, decoded, noise, record):
    config = ImagingConfig(dimensions=3, unit="series", image_size=(4, 16, 16))

    def decode(item):
        affine = np.eye(4)
        affine[2, 3] = 3.0 * int(item.sha256[1])
        return decoded(noise((16, 16), seed=int(item.sha256, 16)), affine=affine)

    # Instance keys are digests: their order says nothing about position.
    records = [
        record("p1", int(d == 2), f"{s}{d}", f"series-{s}", f"i{(7 * d + s) % 5}")
        for s in (1, 2)
        for d in range(4)
    ]
    records += [record("p2", 0, f"3{d}", "series-3", f"j{d}") for d in (0, 1, 5)]  # slices missing
    cache = VolumeCache(tmp_path / "cache", b"k" * 32)
    loaded = load_dataset(records, decode, cache, config)
    assert loaded.dataset.images.shape == (2, 1, 4, 16, 16)
    assert loaded.dataset.labels.tolist() == [1, 1]
    assert loaded.dataset.patient_keys == ("p1",)
    assert loaded.held_back == {Quarantine.WRONG_SHAPE: 1}
