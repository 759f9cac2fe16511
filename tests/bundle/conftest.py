"""A small network's bundle, signed by a key of the moment."""

import hashlib
import math
import os

import pytest

from fedimg.bundle import Finding, Metadata, Output, Point
from fedimg.bundle.contents import Described
from fedimg.codes import Code
from fedimg.crypto.keys import SigningKey
from fedimg.models import ModelConfig, build_model
from fedimg.models.deployed import exported
from fedimg.values import Interval

POINT = Point(0.25, 0.95, 0.95, 80, 90, Interval(0.97, 0.95, 0.99), Interval(0.7, 0.6, 0.8))


def described(network, vector=None, **said):
    """Whatever the network, as a release describes it."""
    made = exported(network, network.initial if vector is None else vector)
    metadata = {
        "name": "nodule",
        "version": "1.0.0",
        "description": "A model of generated studies.",
        "run": "20260131-1",
        "kind": "tumour",
        "task": network.task,
        "classes": ("negative", "positive"),
        "image_shape": network.image_shape,
        "outputs": (Output(network.task, 0, math.prod(made.logits.shape[1:]), tuple(made.logits.shape[1:])),),
        "imaging": {"image_size": list(network.image_shape[1:])},
        "temperature": 1.3,
        "threshold": 0.25,
        "operating_point": POINT,
        "findings": (
            Finding("positive", Code("27925004", "SCT", "Nodule"), Code("39607008", "SCT", "Lung")),
        ),
        "modalities": ("CT",),
        "body_parts": ("CHEST",),
        "least_images": 2,
        "weights": hashlib.sha256(made.graph).hexdigest(),
        "architecture": network.digest,
    }
    return Described(
        Metadata(**metadata | said),
        made,
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
