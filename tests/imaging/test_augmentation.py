import pytest
import torch

from fedimg.errors import ConfigError
from fedimg.imaging.augmentation import AugmentationDraws, augment, augment_copies, draw
from fedimg.imaging.config import AugmentationConfig

ALL = AugmentationConfig(
    copies=3, rotation_degrees=20, shift_fraction=0.1, flip=True, gain=0.2, bias=0.1, noise_std=0.05
)


@pytest.fixture
def images():
    return torch.randn((4, 2, 16, 12), generator=torch.Generator().manual_seed(0))


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def draws_of(count, column, value):
    """Neutral draws (½ is no change; flip ≥ ½ is none) but for one column."""
    uniform = torch.full((count, 6), 0.5)
    uniform[:, column] = value
    return AugmentationDraws(uniform, torch.zeros(count, 1, 1, 1))


def test_no_amplitude_no_change(images):
    config = AugmentationConfig()
    assert not config.active
    assert augment(images, config, draw(images, config, generator())) is images


def test_neutral_draws_change_nothing(images):
    draws = AugmentationDraws(torch.full((4, 6), 0.5), torch.zeros_like(images))
    torch.testing.assert_close(augment(images, ALL, draws), images, atol=1e-5, rtol=0)


def test_a_quarter_turn_is_rot90():
    square = torch.randn((2, 1, 9, 9), generator=generator())
    config = AugmentationConfig(rotation_degrees=90)
    turned = {torch.equal(torch.rot90(square, k, (2, 3)).round(decimals=4),
                          augment(square, config, draws_of(2, 0, 1.0)).round(decimals=4)) for k in (1, -1)}  # fmt: skip
    assert turned == {True, False}


def test_rotation_does_not_shear_oblong_images():
    # A disc at the centre of an oblong image stays where and what it is.
    y, x = torch.meshgrid(torch.arange(32.0) - 15.5, torch.arange(20.0) - 9.5, indexing="ij")
    disc = torch.exp(-(x**2 + y**2) / 18)[None, None]
    turned = augment(disc, AugmentationConfig(rotation_degrees=45), draws_of(1, 0, 1.0))
    # Linear interpolation errs by ≤ ⅛ max|f″| per axis: 2 · ⅛ · 1/9 = 0.028. Sheared sides would err by 0.3.
    assert (turned - disc).abs().max() < 0.028


def test_shifts_are_whole_pixels_where_asked(images):
    config = AugmentationConfig(shift_fraction=0.25)  # 3 of 12 columns, 4 of 16 rows
    right = augment(images, config, draws_of(4, 1, 1.0))
    torch.testing.assert_close(right[..., 3:], images[..., :-3], atol=1e-5, rtol=0)
    torch.testing.assert_close(right[..., :3], images[..., :1].expand(-1, -1, -1, 3), atol=1e-5, rtol=0)
    down = augment(images, config, draws_of(4, 2, 1.0))
    torch.testing.assert_close(down[..., 4:, :], images[..., :-4, :], atol=1e-5, rtol=0)


def test_flip_gain_and_bias_are_what_they_say(images):
    flipped = augment(images, AugmentationConfig(flip=True), draws_of(4, 3, 0.49))
    torch.testing.assert_close(flipped, images.flip(-1), atol=1e-5, rtol=0)
    brighter = augment(images, AugmentationConfig(gain=0.2), draws_of(4, 4, 1.0))
    torch.testing.assert_close(brighter, 1.2 * images)
    shifted = augment(images, AugmentationConfig(bias=0.3), draws_of(4, 5, 0.0))
    torch.testing.assert_close(shifted, images - 0.3)


def test_noise_has_the_stated_size():
    blank = torch.zeros((50, 1, 20, 20))
    config = AugmentationConfig(noise_std=0.05)
    noise = augment(blank, config, draw(blank, config, generator()))
    # s.d. of 20,000 values: relative standard error 1 ÷ √40,000 = 0.5 %.
    assert float(noise.std()) == pytest.approx(0.05, rel=0.025)
    assert abs(float(noise.mean())) < 5 * 0.05 / 20000**0.5


def test_each_result_depends_on_its_own_image_and_draws_alone(images):
    config = ALL
    draws = draw(images, AugmentationConfig(noise_std=1.0), generator())
    together = augment(images, config, draws)
    for i in range(4):
        one = AugmentationDraws(draws.uniform[i : i + 1], draws.normal[i : i + 1])
        torch.testing.assert_close(augment(images[i : i + 1], config, one)[0], together[i], atol=1e-6, rtol=0)
    spoilt = images.clone()
    spoilt[2] = float("nan")
    again = augment(spoilt, config, draws)
    assert torch.equal(again[[0, 1, 3]], together[[0, 1, 3]])


def test_it_runs_under_vmap_and_has_a_gradient(images):
    many = torch.stack([images, images.flip(-2), 2 * images])
    draws = [draw(images, AugmentationConfig(noise_std=1.0), generator(s)) for s in range(3)]
    stacked = AugmentationDraws(*(torch.stack(parts) for parts in zip(*draws, strict=True)))
    mapped = torch.func.vmap(lambda x, d: augment(x, ALL, d))(many, stacked)
    for k in range(3):
        torch.testing.assert_close(mapped[k], augment(many[k], ALL, draws[k]), atol=1e-6, rtol=0)
    gradient = torch.func.grad(lambda x: augment(x, ALL, draws[0]).square().sum())(images)
    assert gradient.shape == images.shape
    assert gradient.abs().sum() > 0


def test_slices_of_a_volume_move_alike():
    volume = torch.randn((2, 1, 3, 12, 12), generator=generator())
    config = AugmentationConfig(rotation_degrees=20, shift_fraction=0.1, flip=True)
    draws = draw(volume, config, generator())
    out = augment(volume, config, draws)
    for d in range(3):
        torch.testing.assert_close(out[:, :, d], augment(volume[:, :, d], config, draws), atol=1e-6, rtol=0)


def test_copies_lie_side_by_side(images):
    out = augment_copies(images, ALL, draw(images, ALL, generator()))
    assert out.shape == (12, 2, 16, 12)
    quiet = AugmentationConfig(copies=3)
    copies = augment_copies(images, quiet, draw(images, quiet, generator()))
    assert torch.equal(copies, torch.stack([images] * 3, dim=1).reshape(12, 2, 16, 12))
    assert not torch.equal(out[0], out[1])


def test_draws_come_from_the_given_generator_only(images):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (draw(images, ALL, generator(7)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.uniform, second.uniform)
    assert torch.equal(first.normal, second.normal)
    assert first.uniform.shape == (12, 6)
    assert not torch.equal(first.uniform, draw(images, ALL, generator(8)).uniform)


@pytest.mark.parametrize("changes", [{"copies": 0}, {"noise_std": -0.1}, {"gain": float("nan")}])
def test_amplitudes_that_are_none_are_refused(changes):
    with pytest.raises(ConfigError, match=r"imaging\.augmentation"):
        AugmentationConfig(**changes)
