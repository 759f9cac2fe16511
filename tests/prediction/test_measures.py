"""Numbers for the drift streams: their names never change, and noise is the noise that was put in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from fedimg.imaging.config import ImagingConfig
from fedimg.prediction.measures import EMBEDDED, embedding_of, noise
from fedimg.prediction.predicting import predict
from tests.prediction.conftest import write_series


@pytest.mark.parametrize("name", ["outlines", "scores", "volumes", "boxes"])
def test_names_and_lengths_are_the_same_for_every_series(models, ball, nothing, tmp_path, name):
    one, other = (predict(models(name), files).prediction for files in (ball, nothing))
    assert one.measures.keys() == other.measures.keys()
    assert len(one.embedding) == len(other.embedding) == EMBEDDED
    assert all(np.isfinite([*one.measures.values(), *one.embedding]))
    assert one.measures["meta.images"] == 12
    assert (one.measures["meta.pixel_mm"], one.measures["meta.slice_mm"]) == (2.0, 4.0)
    assert one.measures["score.value"] == one.score
    assert one.measures["score.logit"] > other.measures["score.logit"]


@pytest.mark.parametrize("sigma", [0.02, 0.1])
def test_noise_is_what_was_put_in_and_not_half_of_it(sigma):
    rng = np.random.default_rng(3)
    smooth = ndimage.gaussian_filter(rng.normal(size=(6, 64, 64)), (0, 9, 9))
    smooth = smooth / np.abs(smooth).max()
    images = torch.from_numpy((smooth + rng.normal(0, sigma, smooth.shape)).astype(np.float32))
    assert noise(images) == pytest.approx(sigma, rel=0.05)
    assert noise(images) != pytest.approx(sigma / 2, rel=0.05)
    assert noise(images[:, :2, :2]) == 0.0


def test_a_rougher_or_brighter_scanner_moves_its_numbers(models, tmp_path):
    plain = write_series(tmp_path / "a", series="a")
    bright = write_series(tmp_path / "b", series="b", RescaleIntercept="-964")
    one, other = (predict(models("scores"), files).prediction.measures for files in (plain, bright))
    assert other["image.mean"] > one["image.mean"] + 0.05
    assert 0.3 < one["image.blank"] < 0.6  # the body fills 55 % of the square


def test_distances_are_kept_by_the_projection():
    """Johnson and Lindenstrauss: of 200 pairs the ratio of squared distances has mean 1 and deviation √(2/16) ≈ 0.35."""
    features = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 2, 512)).astype(np.float32))
    ratios = []
    for first, second in features:
        apart = np.subtract(*(embedding_of(torch.zeros(1, 1, 8, 8), one[None]) for one in (first, second)))
        ratios.append(float((apart**2).sum() / ((first - second) ** 2).sum()))
    assert np.mean(ratios) == pytest.approx(1, abs=4 * 0.354 / 200**0.5)
    assert np.std(ratios) == pytest.approx(0.354, rel=0.3)


def test_coarse_pictures_stand_for_features_that_are_not_there():
    images = torch.randn(3, 1, 40, 30)
    assert embedding_of(images, None) == embedding_of(images.flip(0), None)
    assert embedding_of(images, None) != embedding_of(images + 1, None)
    volumes = ImagingConfig(dimensions=3, unit="series", image_size=(4, 8, 8)).shape
    assert len(embedding_of(torch.randn(2, *volumes), None)) == EMBEDDED
