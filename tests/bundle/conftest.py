"""A small network's bundle, signed by a key of the moment."""

import hashlib
import os

import pytest

from fedimg.bundle import Described, Metadata
from fedimg.crypto.keys import SigningKey
from fedimg.models import ModelConfig, build_model
from fedimg.models.deployed import exported


def described(network, vector=None, **said):
    """Whatever the network, as a release describes it."""
    made = exported(network, network.initial if vector is None else vector)
    metadata = {
        "name": "nodule",
        "version": "1.0.0",
        "run": "20260131-1",
        "task": network.task,
        "classes": ("negative", "positive"),
        "image_shape": network.image_shape,
        "imaging": {"image_size": list(network.image_shape[1:])},
        "temperature": 1.3,
        "threshold": 0.25,
        "modalities": ("CT",),
        "body_parts": ("CHEST",),
        "weights": hashlib.sha256(made.graph).hexdigest(),
        "architecture": network.digest,
    }
    return Described(
        Metadata(**metadata | said),
        "A model of generated studies.",
        tuple(made.logits.shape[1:]),
        made.graph,
        made.definition,
        made.state,
        made.probe,
        made.logits,
        ("ε = 8 at δ = 10⁻⁵ for each patient",),
        (("AUROC", "0.93"),),
    )


@pytest.fixture(scope="session")
def network():
    return build_model(ModelConfig(name="cnn", width=4, image_size=(24, 20)), 3)


@pytest.fixture(scope="session")
def made(network):
    return described(network)


@pytest.fixture
def key():
    return SigningKey.from_bytes(os.urandom(32))
