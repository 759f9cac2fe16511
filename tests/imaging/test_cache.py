import os
import shutil
import stat

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.preprocessing import Prepared, Rejected
from fedimg.values import Quarantine

KEY = b"k" * 32


def prepared(seed=0, count=2):
    rng = np.random.default_rng(seed)
    return [
        Prepared(rng.normal(size=(1, 1, 6, 5)).astype(np.float32), (1.0, 0.1 * k, 3.3)) for k in range(count)
    ]


def forbidden():
    raise AssertionError("the entry was to be read, not made")


def same(first, second):
    return len(first) == len(second) and all(
        a.image_CDHW.tobytes() == b.image_CDHW.tobytes()
        and a.image_CDHW.shape == b.image_CDHW.shape
        and a.spacing_mm == b.spacing_mm
        for a, b in zip(first, second, strict=True)
    )


def entries(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=4, max_dims=4, max_side=5)))
def test_bits_come_back_as_they_went_in(tmp_path, array):
    # Infinities, NaN payloads and negative zeros too: lossless means bits, not values.
    made = [Prepared(array, (0.1, 1 / 3, 1e9))]
    cache = VolumeCache(tmp_path / "c", KEY)
    digest = array.tobytes().hex() + str(array.shape)
    assert same(cache.get_or_make(digest, "config", lambda: made), made)
    assert same(cache.get_or_make(digest, "config", forbidden), made)


def test_content_and_configuration_both_name_an_entry(tmp_path):
    cache = VolumeCache(tmp_path / "c", KEY)
    for seed, (content, config) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("ax", "")]):
        assert same(cache.get_or_make(content, config, lambda s=seed: prepared(s)), prepared(seed))
    assert (cache.counts.made, cache.counts.hits) == (4, 0)
    again = VolumeCache(tmp_path / "c", KEY)
    assert same(again.get_or_make("b", "x", forbidden), prepared(2))
    assert (again.counts.made, again.counts.hits) == (0, 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_entry_is_made_again(tmp_path, data):
    folder = tmp_path / "c"
    shutil.rmtree(folder, ignore_errors=True)
    VolumeCache(folder, KEY).get_or_make("a", "x", prepared)
    (entry,) = entries(folder)
    whole = bytearray(entry.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        whole[place] ^= data.draw(st.integers(1, 255))
    else:
        del whole[place:]
    entry.write_bytes(bytes(whole))
    cache = VolumeCache(folder, KEY)
    assert same(cache.get_or_make("a", "x", prepared), prepared())
    assert (cache.counts.damaged, cache.counts.made) == (1, 1)
    assert same(cache.get_or_make("a", "x", forbidden), prepared())


def test_pixels_cannot_be_brought_in_without_the_sites_key(tmp_path):
    stranger = VolumeCache(tmp_path / "stranger", b"s" * 32)
    stranger.get_or_make("a", "x", lambda: prepared(666))
    cache = VolumeCache(tmp_path / "c", KEY)
    cache.get_or_make("a", "x", prepared)
    cache.get_or_make("b", "x", lambda: prepared(1))
    first, second = sorted(entries(tmp_path / "c"))
    (foreign,) = entries(tmp_path / "stranger")
    names = {p.relative_to(tmp_path / "c") for p in (first, second)}
    assert foreign.relative_to(tmp_path / "stranger") not in names  # names are keyed
    shutil.copy(foreign, first)
    shutil.copy(first, second)
    fresh = VolumeCache(tmp_path / "c", KEY)
    assert same(fresh.get_or_make("a", "x", prepared), prepared())
    assert same(fresh.get_or_make("b", "x", lambda: prepared(1)), prepared(1))
    assert fresh.counts.damaged == 2
    # An authentic entry under another authentic entry's name is refused as well.
    shutil.copy(first, second)
    again = VolumeCache(tmp_path / "c", KEY)
    results = [again.get_or_make(c, "x", lambda s=s: prepared(s)) for c, s in (("a", 0), ("b", 1))]
    assert same(results[0], prepared(0))
    assert same(results[1], prepared(1))
    assert again.counts.damaged == 1


def test_lasting_refusals_are_remembered_and_passing_ones_are_not(tmp_path):
    cache = VolumeCache(tmp_path / "c", KEY)

    def refuse(reason):
        def make():
            raise Rejected(reason, "a side of 5 px, least 8")

        return make

    with pytest.raises(Rejected) as first:
        cache.get_or_make("a", "x", refuse(Quarantine.WRONG_SHAPE))
    with pytest.raises(Rejected) as second:
        cache.get_or_make("a", "x", forbidden)
    assert str(first.value) == str(second.value)
    with pytest.raises(Rejected):
        cache.get_or_make("b", "x", refuse(Quarantine.PIXELS_UNDECODABLE))
    assert same(cache.get_or_make("b", "x", prepared), prepared())


def test_a_full_disk_costs_speed_not_the_result(tmp_path, monkeypatch):
    cache = VolumeCache(tmp_path / "c", KEY)
    real_open = os.open

    def full(path, flags, *args, **kwargs):
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", full)
    for _ in range(2):
        assert same(cache.get_or_make("a", "x", prepared), prepared())
    assert (cache.counts.unwritten, cache.counts.made) == (2, 2)
    assert entries(tmp_path / "c") == []


def test_only_the_owner_can_look_in(tmp_path):
    VolumeCache(tmp_path / "c", KEY).get_or_make("a", "x", prepared)
    (entry,) = entries(tmp_path / "c")
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    for folder in (entry.parent, tmp_path / "c"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_real_images_shrink_and_the_ratio_is_what_the_disk_says(tmp_path, decoded, disc):
    from fedimg.imaging.config import ImagingConfig
    from fedimg.imaging.preprocessing import prepare

    eight_bit = np.round(disc((64, 64), (1, 1), 40.0) + np.random.default_rng(0).normal(20, 4, (64, 64)))
    made = prepare(decoded(eight_bit, window=(64.0, 128.0)), ImagingConfig())
    cache = VolumeCache(tmp_path / "c", KEY)
    cache.get_or_make("a", "x", lambda: made)
    (entry,) = entries(tmp_path / "c")
    overhead = 4 + 32 + 8 + 4  # magic, code, two lengths
    assert cache.counts.stored_bytes == entry.stat().st_size - overhead
    assert cache.counts.raw_bytes >= 64 * 64 * 4
    assert cache.counts.ratio >= 3  # 128 grey levels in 32 bits: at least a third of the bytes
