from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from fedimg.errors import ConfigError
from fedimg.privacy.batches import gather, image_subset
from fedimg.privacy.entropy import InsecureSeededEntropy, OsEntropy


def test_every_subset_is_equally_likely():
    """3 of 5: ten subsets, χ² at p > 1e-4; a sampler that always takes the first is far outside."""
    entropy = InsecureSeededEntropy(5)
    seen = Counter(tuple(image_subset(np.arange(5), 3, entropy).tolist()) for _ in range(2000))
    counts = [seen[subset] for subset in combinations(range(5), 3)]
    assert sum(counts) == 2000
    assert chisquare(counts).pvalue > 1e-4
    assert chisquare([2000, *[1e-9] * 9], [200] * 10, sum_check=False).pvalue < 1e-4


def test_fewer_images_than_the_cap_are_all_taken_without_drawing():
    class Nothing:
        insecure = True

        def bytes(self, n):
            raise AssertionError

    assert image_subset(np.arange(3, 6), 3, Nothing()).tolist() == [3, 4, 5]


def test_a_cap_below_one_is_refused():
    with pytest.raises(ConfigError, match="images_per_patient ≥ 1"):
        image_subset(np.arange(3), 0, OsEntropy())


def test_a_batch_holds_the_sampled_patients_images_in_order(patients):
    dataset = patients([2, 5, 1, 3])
    batch = gather(dataset, np.array([1, 2]), 4, None, OsEntropy())
    assert np.diff(batch.first_image).tolist() == [4, 1]
    assert torch.equal(batch.images[4], dataset.images[7])
    rows = [row for row in dataset.images[2:7] if any(torch.equal(row, image) for image in batch.images[:4])]
    assert len(rows) == 4


def test_patients_are_grouped_by_their_number_of_images_without_padding(patients):
    batch = gather(patients([2, 1, 2, 3]), np.arange(4), 9, None, OsEntropy())
    assert [tuple(images.shape[:2]) for images, _ in batch.by_count()] == [(1, 1), (2, 2), (1, 3)]


def test_patients_with_equally_many_images_are_handed_on_without_a_copy(patients):
    batch = gather(patients([2, 2, 2]), np.arange(3), 9, None, OsEntropy())
    [(images, labels)] = batch.by_count()
    assert images.data_ptr() == batch.images.data_ptr()
    for u in range(3):
        assert torch.equal(images[u], batch.images[2 * u : 2 * u + 2])
        assert torch.equal(labels[u], batch.labels[2 * u : 2 * u + 2])


def test_augmented_copies_stay_with_their_patient(patients):
    dataset = patients([2, 1])

    def thrice(images, labels, _entropy):
        return torch.stack([images, -images, 2 * images], dim=1), torch.stack([labels] * 3, dim=1)

    batch = gather(dataset, np.arange(2), 9, thrice, OsEntropy())
    assert np.diff(batch.first_image).tolist() == [6, 3]
    assert torch.equal(batch.images[1], -dataset.images[0])
    assert torch.equal(batch.labels[6:], dataset.labels[2].repeat(3))


@pytest.mark.parametrize(
    "broken",
    [
        lambda x, y, _: (x, y),
        lambda x, y, _: (torch.stack([x, x], dim=1), y),
        lambda x, y, _: (torch.stack([x, x], dim=1), torch.stack([y, y, y], dim=1)),
    ],
)
def test_an_augmentation_of_another_shape_is_refused(patients, broken):
    with pytest.raises(ConfigError, match="augmented images"):
        gather(patients([2]), np.arange(1), 9, broken, OsEntropy())


def test_the_empty_batch_has_no_groups(patients):
    batch = gather(patients([2, 2]), np.zeros(0, np.int64), 9, None, OsEntropy())
    assert list(batch.by_count()) == []
    assert batch.first_image.tolist() == [0]
