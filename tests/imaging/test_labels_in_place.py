"""An image and what is drawn over it stay together, whatever is drawn from the entropy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedimg.imaging.augmentation import AugmentationDraws, augment_copies, draw, move
from fedimg.imaging.config import AugmentationConfig
from fedimg.imaging.findings import heat_map
from fedimg.imaging.labels_in_place import copies, move_findings

ALL = AugmentationConfig(
    copies=2, rotation_degrees=30, shift_fraction=0.1, flip=True, gain=0.2, bias=0.1, noise_std=0.05
)
MOVES = AugmentationConfig(copies=2, rotation_degrees=30, shift_fraction=0.1, flip=True)
unit = st.floats(0, 1, width=32, exclude_max=True)
uniforms = st.lists(unit, min_size=6, max_size=6)


def neutral(count, **columns):
    """Draws that change nothing (½) but for some columns: angle, across, down, mirror."""
    uniform = torch.full((count, 6), 0.5)
    for name, value in columns.items():
        uniform[:, ["angle", "across", "down", "mirror"].index(name)] = value
    return uniform


def blob(shape, centre, radius):
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij")
    distance = sum((axis - at) ** 2 for axis, at in zip(axes[-2:], centre, strict=True)).sqrt()
    return (radius - distance)[None, None]


@settings(max_examples=60, deadline=None)
@given(uniforms, st.floats(8, 24), st.floats(8, 16), st.floats(2, 5), st.booleans())
def test_the_label_of_an_image_moves_to_where_the_image_goes(row, y, x, radius, deep):
    """A map that falls by 1 a voxel from a blob's centre: moved and cut at 0 it is the moved blob, up to its edge.

    A nearest neighbour is at most √½ voxels off; linear interpolation of a cone errs by less than ½ but at its tip.
    """
    shape = (3, 32, 24) if deep else (32, 24)
    image = blob(shape, (y, x), radius)
    uniform = torch.tensor([row])
    config = AugmentationConfig(rotation_degrees=30, shift_fraction=0.1, flip=True)
    moved = move(image, config, uniform)[0, 0]
    labels = copies((image[:, 0] > 0).long(), len(shape), config, uniform)[0]
    sure = moved.abs() > 1.3
    assert labels.dtype == torch.int64
    assert torch.equal(labels[sure] > 0, moved[sure] > 0)
    still = (image[0, 0] > 0).long()
    if (moved > 1.3).any() and (still[moved > 1.3] == 0).any():  # labels left behind would be seen
        assert not torch.equal(labels, still)


@settings(max_examples=30, deadline=None)
@given(uniforms)
def test_classes_stay_classes(row):
    labels = torch.tensor([0, 3, 127, 7])[torch.randint(0, 4, (1, 20, 20))]
    moved = copies(labels, 2, MOVES, torch.tensor([row, row]))
    assert set(moved.unique().tolist()) <= {0, 3, 127, 7}


def test_brightness_and_noise_touch_no_label():
    labels = torch.randint(0, 3, (2, 12, 12))
    config = AugmentationConfig(copies=2, gain=0.5, bias=0.5, noise_std=1.0)
    assert torch.equal(copies(labels, 2, config, torch.rand(4, 6)), labels.repeat_interleave(2, dim=0))
    heat = torch.rand(2, 3, 12, 12)
    assert torch.equal(copies(heat, 2, config, torch.rand(4, 6)), heat.repeat_interleave(2, dim=0))


@pytest.mark.parametrize("labels", [torch.tensor([1, 0]), torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])])
def test_labels_of_images_stay(labels):
    assert torch.equal(copies(labels, 2, MOVES, torch.rand(4, 6)), labels.repeat_interleave(2, dim=0))


def boxes_to_labels(shape, boxes):
    labels = np.zeros(shape, np.int64)
    for number, box in enumerate(boxes):
        labels[tuple(slice(a, b) for a, b in box)] = 128 + number
    return labels


@st.composite
def drawn_boxes(draw):
    """Boxes of an image of 24 × 20, or a volume, that do not overlap: one a cell of a coarse grid."""
    deep = draw(st.booleans())
    cells = draw(st.sets(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=5))
    boxes = []
    for row, column in sorted(cells):
        tall, wide = draw(st.integers(1, 7)), draw(st.integers(1, 5))
        box = ((8 * row, 8 * row + tall), (6 * column, 6 * column + wide))
        boxes.append((((1, 3), *box)) if deep else box)
    return ((4, 24, 20) if deep else (24, 20)), boxes


@settings(max_examples=80, deadline=None)
@given(drawn_boxes(), st.integers(-5, 5), st.integers(-6, 6), st.booleans())
def test_findings_that_are_shifted_and_mirrored_are_the_map_of_the_shifted_boxes(drawn, across, down, mirror):
    """By another way: boxes moved in whole voxels, cut at the edge, and drawn by `heat_map`."""
    shape, boxes = drawn
    height, width = shape[-2:]
    config = AugmentationConfig(shift_fraction=0.5, flip=True)
    uniform = neutral(1, across=0.5 + across / width, down=0.5 + down / height, mirror=0.0 if mirror else 0.9)
    found = move_findings(torch.from_numpy(heat_map(boxes_to_labels(shape, boxes)))[None], config, uniform)
    moved = []
    for *depth, rows, columns in boxes:
        top, bottom = (edge + down for edge in rows)
        left, right = (
            edge + across for edge in ((width - columns[1], width - columns[0]) if mirror else columns)
        )
        if 0 <= (top + bottom) / 2 <= height and 0 <= (left + right) / 2 <= width:
            moved.append((*depth, (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))))
    expected = heat_map(boxes_to_labels(shape, moved))
    torch.testing.assert_close(found[0], torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert int((found[0, 0] == 1).sum()) == len(moved)  # the loss looks for exact ones


def test_a_quarter_turn_swaps_the_sides():
    target = torch.from_numpy(heat_map(boxes_to_labels((24, 24), [((4, 10), (12, 16))])))[None]
    turned = move_findings(target, AugmentationConfig(rotation_degrees=90), neutral(1, angle=1.0 - 1e-7))
    centre = (turned[0, 0] == 1).nonzero()[0].tolist()
    assert turned[0, 1:, centre[0], centre[1]].tolist() == pytest.approx([4.0, 6.0], abs=1e-3)
    # a disc of the box's size, turned by the image's own rule, is centred there
    image = blob((24, 24), (6.5, 13.5), 3.0)
    there = move(image, AugmentationConfig(rotation_degrees=90), neutral(1, angle=1.0 - 1e-7))[0, 0]
    peak = (there == there.max()).nonzero().float().mean(dim=0)
    assert (peak - torch.tensor(centre, dtype=torch.float32)).abs().max() <= 0.5 + 1e-3


@settings(max_examples=40, deadline=None)
@given(uniforms, st.integers(6, 24), st.integers(6, 16), st.integers(3, 6))
def test_a_turned_disc_keeps_its_size_and_is_where_its_image_is(row, top, left, wide):
    shape = (40, 32)
    box = ((top, top + wide), (left, left + wide))
    target = torch.from_numpy(heat_map(boxes_to_labels(shape, [box])))[None]
    image = blob(shape, (top + (wide - 1) / 2, left + (wide - 1) / 2), wide)
    uniform = torch.tensor([row])
    config = AugmentationConfig(rotation_degrees=30, shift_fraction=0.05, flip=True)
    moved = move_findings(target, config, uniform)[0]
    centres = (moved[0] == 1).nonzero()
    assume(len(centres) == 1)
    y, x = centres[0].tolist()
    there = move(image, config, uniform)[0, 0].clamp(min=0)
    axes = torch.meshgrid(torch.arange(40.0), torch.arange(32.0), indexing="ij")
    mass = [float((axis * there).sum() / there.sum()) for axis in axes]
    assume(float(there[[0, -1]].sum() + there[:, [0, -1]].sum()) == 0)  # nothing at the edge, where it is cut
    # the voxel at or before a centre: up to one before it; interpolation moves a cut cone's mass a little more
    assert -0.15 <= mass[0] - y <= 1.15
    assert -0.15 <= mass[1] - x <= 1.15
    assert moved[1:, y, x].tolist() == pytest.approx([wide, wide], rel=0.01)


def test_more_findings_than_an_image_has_hold_the_patient_back_after_a_move_too():
    good = torch.from_numpy(heat_map(boxes_to_labels((16, 16), [((2, 5), (2, 5))])))
    target = torch.stack([torch.full_like(good, torch.nan), good])
    moved = move_findings(target, MOVES, torch.rand(2, 6))
    assert moved[0].isnan().all()
    assert moved[1].isfinite().all()


def test_many_images_move_as_each_by_itself():
    """More than are drawn at once."""
    target = torch.from_numpy(heat_map(boxes_to_labels((64, 64), [((20, 30), (30, 38))])))[None]
    target = torch.cat([target.roll(k, 3) for k in range(40)])
    uniform = torch.rand(40, 6)
    config = AugmentationConfig(rotation_degrees=30, shift_fraction=0.1)
    together = move_findings(target, config, uniform)
    for k in (0, 17, 39):
        torch.testing.assert_close(
            together[k : k + 1], move_findings(target[k : k + 1], config, uniform[k : k + 1])
        )


def test_several_heat_maps_move_by_themselves():
    """As many maps as there are classes of findings, and one set of sizes."""
    one, two = (heat_map(boxes_to_labels((16, 16), [b])) for b in (((2, 5), (2, 5)), ((9, 13), (8, 12))))
    both = torch.from_numpy(np.stack([one[0], two[0], *np.maximum(one[1:], two[1:])]))[None]
    uniform = torch.rand(1, 6)
    moved = move_findings(both, MOVES, uniform)[0]
    for k, alone in enumerate((one, two)):
        expected = move_findings(torch.from_numpy(alone)[None], MOVES, uniform)[0]
        torch.testing.assert_close(moved[k], expected[0])
        centre = expected[0] == 1
        torch.testing.assert_close(moved[2:][:, centre], expected[1:][:, centre])


@pytest.mark.parametrize("kind", ["classes", "findings"])
def test_each_label_depends_on_its_own_draws_alone_and_runs_under_vmap(kind):
    labels = torch.randint(0, 3, (3, 16, 12))
    if kind == "findings":
        maps = [heat_map(boxes_to_labels((16, 12), [((k, k + 4), (k + 1, k + 5))])) for k in range(3)]
        labels = torch.from_numpy(np.stack(maps))
    uniform = torch.rand(3, 6)
    config = AugmentationConfig(rotation_degrees=30, shift_fraction=0.1, flip=True)
    together = copies(labels, 2, config, uniform)
    for i in range(3):
        alone = copies(labels[i : i + 1], 2, config, uniform[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])
    many = torch.stack([labels, labels.flip(0)])
    draws = torch.stack([uniform, torch.rand(3, 6)])
    mapped = torch.func.vmap(lambda one, u: copies(one, 2, config, u))(many, draws)
    for k, one in itertools.product(range(2), range(3)):
        torch.testing.assert_close(mapped[k, one], copies(many[k], 2, config, draws[k])[one])


def test_copies_of_labels_lie_as_copies_of_images():
    images = torch.randn(3, 1, 16, 16)
    draws = draw(images, ALL, torch.Generator().manual_seed(1))
    both = torch.cat([images, (images > 0).float()], dim=1)  # the label as a channel of its own image
    varied = augment_copies(both, MOVES, AugmentationDraws(draws.uniform, draws.normal))
    labels = copies((images[:, 0] > 0).long(), 2, MOVES, draws.uniform)
    assert labels.shape == (6, 16, 16)
    near = varied[:, 1]
    assert torch.equal(labels[near > 0.99], torch.ones_like(labels[near > 0.99]))
    assert torch.equal(labels[near < 0.01], torch.zeros_like(labels[near < 0.01]))
