"""Many clients' examples in bounded memory."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedimg.client_round import Loaded
from fedimg.simulation.clients import HeldData
from fedimg.values import SiteDataset


def loaded(floats):
    """Examples of `floats` float32 values: four bytes each."""
    images = torch.zeros(1, 1, 1, floats)
    train = SiteDataset(images, torch.zeros(1, dtype=torch.int64), ("p",), np.array([0, 1]))
    empty = SiteDataset(images[:0], train.labels[:0], (), np.array([0]))
    return Loaded(train, empty, Counter(), 1.0)


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(1, 40))
def test_what_is_held_never_passes_the_limit_and_is_what_was_read(asked, most):
    held = HeldData(most_bytes=4 * most)
    for client in asked:
        found = held.of(str(client), lambda client=client: loaded(client))
        assert found.train.images.numel() == client
        assert held.bytes <= 4 * most


def test_the_least_recently_used_is_read_again():
    read = []

    def of(client):
        def load():
            read.append(client)
            return loaded(10)

        return held.of(client, load)

    held = HeldData(most_bytes=80)
    for client in ("a", "b", "a", "c", "a", "b"):
        of(client)
    assert read == ["a", "b", "c", "b"]
    held.put("d", loaded(10))
    of("d")
    assert read == ["a", "b", "c", "b"]
