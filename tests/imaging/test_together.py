"""Several modalities of one body on one grid, and what happens where one is missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from fedimg.imaging.cache import VolumeCache
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.config import AugmentationConfig, ImagingConfig
from fedimg.imaging.loading import load_dataset
from fedimg.imaging.together import prepare_together, voxel_map, windowed
from fedimg.values import Quarantine

VOLUMES = ImagingConfig(dimensions=3, unit="patient", together=("CT", "MR"), image_size=(6, 16, 16))
SLICES = ImagingConfig(unit="patient", together=("CT", "MR"), image_size=(16, 16))
FIXTURES = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None
)


def affine(spacing_mm, origin, turn=0.0):
    """(w, h, d) → mm: turned about the axis of the slices, with spacing (D, H, W)."""
    d, h, w = spacing_mm
    cosine, sine = np.cos(turn), np.sin(turn)
    found = np.eye(4)
    found[:3, 0], found[:3, 1] = [w * cosine, w * sine, 0], [-h * sine, h * cosine, 0]
    found[:3, 2], found[:3, 3] = [0, 0, d], origin
    return found


def ball(shape, matrix, centre_mm, radius_mm=4.0):
    """A smooth ball about a point of the patient, on any grid: 100 · exp(−r²/2ρ²)."""
    d, h, w = np.meshgrid(*map(np.arange, shape), indexing="ij")
    points = np.stack([w, h, d, np.ones(shape)], axis=-1) @ matrix.T
    squared = ((points[..., :3] - centre_mm) ** 2).sum(axis=-1)
    return (100 * np.exp(-squared / (2 * radius_mm**2))).astype(np.float32)


def centre_of(block):
    """Centre of brightness (d, h, w), in voxels, of a (D, H, W) block above black."""
    weight = block - block.min()
    weight = np.where(weight > 0.2 * weight.max(), weight, 0)
    return np.array([(weight * axis).sum() / weight.sum() for axis in np.indices(block.shape)])


@pytest.fixture
def seen(decoded):
    """A ball at `centre_mm` as one modality sees it on a grid of its own."""

    def make(shape, matrix, centre_mm, **changes):
        spacing = tuple(np.linalg.norm(matrix[:3, :3], axis=0)[::-1])
        changes = {"frame": "one", "window": (50.0, 100.0)} | changes
        return decoded(ball(shape, matrix, centre_mm), spacing, matrix, **changes)

    return make


@given(
    spacing=st.tuples(*[st.floats(1.5, 3.0)] * 3),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    turn=st.floats(-0.5, 0.5),
    point=st.tuples(*[st.floats(-4, 4)] * 3),
)
@FIXTURES
def test_in_one_frame_of_reference_a_point_is_in_the_same_voxel_of_both(seen, spacing, shift, turn, point):
    config = replace(VOLUMES, image_size=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0))
    ground = affine((2, 2, 2), (-23, -23, -23))
    size = np.array([24, 24, 24]) * 2 / np.array(spacing) + 10
    other = affine(spacing, (0, 0, 0), turn)
    shape = tuple(int(n) for n in size)
    # its middle lies `shift` from the first one's, and it is turned
    other[:3, 3] = np.array(shift) - (other[:3, :3] @ [(n - 1) / 2 for n in reversed(shape)])
    made = prepare_together(
        [
            windowed([seen((24, 24, 24), ground, point)], config),
            windowed([seen(shape, other, point)], config),
        ],
        config,
    )
    expected = (np.array(point) + 23)[::-1] / 2
    # half a tenth of a voxel for the coarser grid's linear interpolation
    assert np.abs(centre_of(made.image_CDHW[0]) - expected).max() < 0.1
    assert np.abs(centre_of(made.image_CDHW[1]) - expected).max() < 0.15


def test_a_known_shift_of_the_affine_moves_a_point_by_so_many_voxels(seen):
    """The same pixels under an affine 4 mm further along W lie 2 voxels of 2 mm further."""
    config = replace(VOLUMES, image_size=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0))
    ground = affine((2, 2, 2), (-23, -23, -23))
    first = seen((24, 24, 24), ground, (0, 0, 0))
    moved = replace(first, affine_lps_mm=affine((2, 2, 2), (-19, -23, -23)))
    made = prepare_together([windowed([first], config), windowed([moved], config)], config).image_CDHW
    np.testing.assert_allclose(made[1][..., 2:], made[0][..., :-2], atol=1e-5)
    assert np.abs(centre_of(made[1]) - centre_of(made[0]) - [0, 0, 2]).max() < 0.05


def test_without_a_common_frame_centres_meet_by_each_ones_own_spacing(seen):
    config = replace(VOLUMES, image_size=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0))
    ground, other = affine((2, 2, 2), (-23, -23, -23)), affine((4, 4, 4), (500, 70, -900))
    first = seen((24, 24, 24), ground, (4, 0, 0))
    # centre of the other's grid: origin + 4 mm · 5.5
    second = seen((12, 12, 12), other, (500 + 22 + 4, 70 + 22, -900 + 22), frame="two")
    made = prepare_together([windowed([first], config), windowed([second], config)], config).image_CDHW
    assert np.abs(centre_of(made[1]) - centre_of(made[0])).max() < 0.15
    # by its header alone it would lie half a metre away, and nothing of it in the grid
    there = replace(second, frame="one")
    gone = prepare_together([windowed([first], config), windowed([there], config)], config).image_CDHW
    assert not gone[1].any() and not gone[3].any() and gone[2].all()


@given(st.integers(0, 2**32 - 1))
@FIXTURES
def test_the_map_of_voxels_is_the_one_of_single_points(seed):
    """An independent way: to millimetres and back, point by point."""
    rng = np.random.default_rng(seed)
    first, second = (
        affine(tuple(rng.uniform(0.5, 5, 3)), rng.uniform(-100, 100, 3), rng.uniform(-3, 3)) for _ in "ab"
    )
    pixels = np.zeros((3, 8, 8), np.float32)

    class Image:
        pixels_DHW, frame = pixels, "one"

    ground, source = Image(), Image()
    ground.affine_lps_mm, source.affine_lps_mm = first, second
    voxel = np.array([*rng.integers(0, 8, 3), 1.0])
    mm = first @ voxel
    np.testing.assert_allclose(second @ (voxel_map(source, ground) @ voxel), mm, atol=1e-6)


@pytest.mark.parametrize("config", [SLICES, VOLUMES])
def test_a_missing_modality_is_zeros_and_presence_zero_and_nothing_else_moves(config, decoded, noise):
    ct = windowed([decoded(noise((6, 16, 16), 1), (2, 1, 1), frame="a", modality="CT")], config)
    mr = windowed([decoded(noise((6, 16, 16), 2), (2, 1, 1), frame="a", modality="MR")], config)
    both, alone = prepare_together([ct, mr], config), prepare_together([ct, None], config)
    expected = both.image_CDHW.copy()
    expected[1] = expected[3] = 0
    np.testing.assert_array_equal(alone.image_CDHW, expected)
    assert both.image_CDHW[2:].all() and both.image_CDHW.shape[0] == config.planes.image == 4
    with pytest.raises(Rejected, match=r"none of imaging\.together"):
        prepare_together([None, None], config)


def test_labels_of_voxels_lie_over_the_ground_whichever_modality_they_are_drawn_on(seen):
    config = replace(VOLUMES, image_size=(24, 24, 24), spacing_mm=(2.0, 2.0, 2.0))
    ground, other = affine((2, 2, 2), (-23, -23, -23)), affine((2, 2, 2), (-19, -23, -23))
    first, second = seen((24, 24, 24), ground, (0, 0, 0)), seen((24, 24, 24), other, (0, 0, 0))
    drawn = np.zeros((24, 24, 24), np.uint8)
    drawn[12, 12, 10] = 1  # at x = −19 + 2 · 10 = 1 mm: voxel 12 of the ground
    made = prepare_together(
        [windowed([first], config), windowed([replace(second, labels_DHW=drawn)], config)], config
    )
    assert np.argwhere(made.labels_DHW).tolist() == [[12, 12, 12]]


# -------------------------------------------------------------------------------------- data sets


@pytest.fixture
def site(tmp_path, decoded, noise, record):
    """p1 has both, p2 a CT, p3 an MR that is blank and a CT, p4 a radiograph, p5 an MR that never decodes."""
    kinds = {"1": "CT", "2": "MR", "3": "CT", "4": "MR", "5": "CT", "6": "CR", "7": "MR"}
    owners = {"1": "p1", "2": "p1", "3": "p2", "4": "p3", "5": "p3", "6": "p4", "7": "p5"}
    images = {n: decoded(noise((16, 16), int(n)), frame="f", modality=kind) for n, kind in kinds.items()}
    images["4"] = decoded(np.zeros((16, 16)), frame="f", modality="MR")
    images["7"] = Quarantine.PIXELS_UNDECODABLE
    records = [
        replace(record(owners[n], int(n in "13"), n, f"s{n}", f"i{n}"), modality=kinds[n]) for n in kinds
    ]
    opened = []

    def decode(item):
        opened.append(item.sha256)
        return images[item.sha256]

    return records, decode, opened, lambda: VolumeCache(tmp_path / "cache", b"k" * 32)


def test_patients_become_examples_of_one_shape_and_who_has_none_is_left_out(site):
    records, decode, _, cache = site
    loaded = load_dataset(records, decode, cache(), SLICES)
    found = loaded.dataset
    assert found.patient_keys == ("p1", "p2", "p3")
    assert found.images.shape == (3, 4, 16, 16)
    assert found.images[:, 2:, 0, 0].tolist() == [[1, 1], [1, 0], [1, 0]]
    assert found.labels.tolist() == [1, 1, 0]
    # p3's MR, p5 as a whole, and p4's radiograph
    assert loaded.held_back == {
        Quarantine.WRONG_SHAPE: 1,
        Quarantine.PIXELS_UNDECODABLE: 1,
        Quarantine.OBJECT_TYPE: 1,
    }


def test_an_example_may_be_a_study_instead_of_a_patient(site):
    records, decode, _, cache = site
    apart = [replace(r, study_key=f"study-{r.modality}") for r in records]
    loaded = load_dataset(apart, decode, cache(), replace(SLICES, unit="study")).dataset
    assert loaded.patient_keys == ("p1", "p2", "p3")
    assert sorted(loaded.images[:2, 2:, 0, 0].tolist()) == [[0, 1], [1, 0]]  # p1's two studies


def test_a_site_without_any_of_them_is_a_data_set_of_nobody(site):
    records, decode, _, cache = site
    loaded = load_dataset([r for r in records if r.modality == "CR"], decode, cache(), SLICES)
    assert loaded.dataset.images.shape == (0, 4, 16, 16) and loaded.dataset.patient_keys == ()


def drawn_site(site, *, ct, mr, kind="class"):
    """p1 alone, positive, with what is drawn on its CT ("1") and its MR ("2"): an array, or None."""
    records, decode, _, cache = site
    over = {"1": ct, "2": mr}
    own = [
        replace(r, label=1, target="" if over[r.sha256] is None else f"{r.sha256}{kind}")
        for r in records
        if r.sha256 in over
    ]
    return own, lambda r: replace(decode(r), labels_DHW=over[r.sha256]), cache


def spot(value, *, at=4):
    found = np.zeros((1, 16, 16), np.uint8)
    found[0, at : at + 3, at : at + 3] = value
    return found


def test_a_modality_that_nobody_drew_on_is_there_all_the_same(site):
    """A positive patient who lost one only because the other is drawn on would tell the label by its presence."""
    own, decode, cache = drawn_site(site, ct=spot(1), mr=None)
    loaded = load_dataset(own, decode, cache(), SLICES, labels="voxels")
    assert loaded.dataset.images[0, 2:, 0, 0].tolist() == [1, 1]
    assert int(loaded.dataset.labels.sum()) == 9 and not loaded.held_back


def test_a_finding_that_nobody_drew_holds_its_patient_back_whatever_the_cache_remembers(site):
    own, decode, cache = drawn_site(site, ct=None, mr=None)
    several = load_dataset(own, decode, cache(), SLICES, labels=("class", "voxels")).dataset
    assert several.labels[0, 0] == 1 and bool(torch.isnan(several.labels[0, 1:]).all())
    for _ in range(2):
        alone = load_dataset(own, decode, cache(), SLICES, labels="voxels")
        assert alone.dataset.number_of_patients == 0
        assert alone.held_back == {Quarantine.NO_LABEL: 1}


def test_the_drawn_on_modality_may_be_the_one_that_cannot_be_used(site, decoded):
    own, decode, cache = drawn_site(site, ct=spot(1), mr=None)
    blank = decoded(np.zeros((16, 16)), frame="f", modality="CT", labels_DHW=spot(1))
    broken = lambda r: blank if r.sha256 == "1" else decode(r)  # noqa: E731
    loaded = load_dataset(own, broken, cache(), SLICES, labels="voxels")
    assert loaded.dataset.number_of_patients == 0
    assert loaded.held_back[Quarantine.NO_LABEL] == 1


def test_boxes_on_two_modalities_are_not_taken_for_one_finding(site):
    own, decode, cache = drawn_site(site, ct=spot(255), mr=spot(255, at=11), kind="boxes")
    loaded = load_dataset(own, decode, cache(), SLICES, labels="places")
    assert loaded.dataset.number_of_patients == 0
    assert loaded.held_back == {Quarantine.WRONG_SHAPE: 1}
    one, decode, cache = drawn_site(site, ct=None, mr=spot(255, at=11), kind="box")
    loaded = load_dataset(one, decode, cache(), SLICES, labels="places")
    assert np.argwhere(loaded.dataset.labels[0].numpy()).min() == 11


def test_one_file_with_the_number_is_enough_for_all_modalities(site):
    records, decode, _, cache = site
    numbered = [replace(r, value=7.5 if r.sha256 == "2" else None) for r in records]
    loaded = load_dataset(numbered, decode, cache(), SLICES, labels="number")
    assert loaded.dataset.labels.tolist() == [7.5] and loaded.dataset.images[0, 2:, 0, 0].tolist() == [1, 1]


@FIXTURES
@given(left_out=st.sets(st.sampled_from(["p1", "p2", "p3", "p4"])), order=st.permutations(range(7)))
def test_an_example_depends_on_its_own_patients_files_alone(site, left_out, order):
    records, decode, _, cache = site
    whole = load_dataset(records, decode, cache(), SLICES).dataset
    some = [records[i] for i in order if records[i].patient_key not in left_out]
    part = load_dataset(some, decode, cache(), SLICES).dataset
    assert set(part.patient_keys) == set(whole.patient_keys) - left_out
    for u, key in enumerate(part.patient_keys):
        np.testing.assert_array_equal(part.images[u], whole.images[whole.patient_keys.index(key)])


def test_what_is_known_to_be_blank_is_remembered_and_what_may_come_back_is_not(site, decoded, noise):
    records, decode, opened, cache = site
    load_dataset(records, decode, cache(), SLICES)
    opened.clear()
    load_dataset(records, decode, cache(), SLICES)
    assert opened == ["7"]
    # an MR whose codec was missing: its patient's example is made anew once it is there
    faults = {"2"}

    def decode_with_faults(item):
        return Quarantine.PIXELS_UNDECODABLE if item.sha256 in faults else decode(item)

    fresh = VolumeCache(cache()._folder / "other", b"k" * 32)
    before = load_dataset(records, decode_with_faults, fresh, SLICES).dataset
    assert before.images[0, 3, 0, 0] == 0
    faults.clear()
    after = load_dataset(records, decode_with_faults, fresh, SLICES).dataset
    np.testing.assert_array_equal(after.images, load_dataset(records, decode, cache(), SLICES).dataset.images)


def test_of_several_series_the_longest_counts_and_the_next_where_it_cannot_be_used(
    tmp_path, decoded, noise, record
):
    def place(z):
        return affine((3, 1, 1), (0, 0, 3.0 * z))

    images = {f"long{z}": decoded(noise((16, 16), z), affine=place(z), modality="CT") for z in range(3)}
    images["scout"] = decoded(noise((16, 16), 9), modality="CT")
    records = [
        replace(record("p", 0, name, "s-long" if name != "scout" else "s-a", name), modality="CT")
        for name in images
    ]
    config = replace(VOLUMES, image_size=(3, 16, 16))

    def load():
        cache = VolumeCache(tmp_path / "cache", b"k" * 32)
        return load_dataset(records, lambda r: images[r.sha256], cache, config).dataset.images[0, 0]

    assert len({float(plane.mean()) for plane in load()}) == 3
    images["long1"] = decoded(noise((9, 9), 1), affine=place(1), modality="CT")  # of another size: no stack
    records = [r for r in records if r.sha256 != "long0"]
    scout = load()  # one slice, as often as the volume is deep
    assert torch.equal(scout[0], scout[1]) and torch.equal(scout[1], scout[2])


def test_a_library_that_fails_on_one_file_costs_that_modality_only(site):
    records, decode, _, cache = site

    def failing(item):
        if item.sha256 == "2":
            raise ZeroDivisionError
        return decode(item)

    found = load_dataset(records, failing, cache(), SLICES).dataset
    assert found.patient_keys == ("p1", "p2", "p3")
    assert found.images[0, 2:, 0, 0].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": "series", "dimensions": 3, "image_size": (4, 8, 8)}, "study or patient"),
        ({"together": ("CT", "CT")}, "different names"),
        ({"together": ("ct",)}, "capitals"),
        ({"together": ("__import__",)}, "capitals"),
        ({"together": tuple(f"M{k}" for k in range(9))}, "up to 8"),
        ({"together": ()}, "imaging.unit"),
        ({"frames_per_file": 2}, "frames_per_file"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(SLICES, **changes)
    with pytest.raises(ConfigError, match="modality_dropout"):
        ImagingConfig(augmentation=AugmentationConfig(modality_dropout=0.5))
