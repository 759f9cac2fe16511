"""A tiny real network, generated patients, and a ledger: what the privacy tests share."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Ledger, LedgerTerms
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest
from fedimg.values import SiteDataset


class Linear:
    """Softmax regression on 4 pixels, P = 10."""

    number_of_parameters = 10

    def apply(self, flat, images):
        return F.linear(images.flatten(1), flat[:8].view(2, 4), flat[8:])


class Convolutional:
    """A GroupNorm network with an in-place activation and a residual, P = 146."""

    sizes = (36, 4, 4, 4, 72, 8, 16, 2)
    number_of_parameters = sum(sizes)

    def apply(self, flat, images):
        w1, b1, g1, h1, w2, b2, w3, b3 = flat.split(self.sizes)
        x = F.conv2d(images, w1.view(4, 1, 3, 3), b1, padding=1)
        x = F.relu(F.group_norm(x, 2, g1, h1), inplace=True)
        x = x + F.avg_pool2d(x, 3, 1, 1)
        x = F.conv2d(x, w2.view(8, 1, 3, 3), b2, padding=1, groups=4, stride=2)
        return F.linear(torch.tanh(x).mean((2, 3)), w3.view(2, 8), b3)


def generated(counts, side=2, seed=0, scale=1.0):
    """Patients with the given numbers of images of side² pixels."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(counts)
    images = torch.randn(total, 1, side, side, generator=generator) * scale
    labels = torch.randint(0, 2, (total,), generator=generator)
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return SiteDataset(images, labels, tuple(f"p{i:05d}" for i in range(len(counts))), first)


@pytest.fixture(scope="session")
def linear():
    return Linear()


@pytest.fixture(scope="session")
def convolutional():
    return Convolutional()


@pytest.fixture(scope="session")
def patients():
    return generated


@pytest.fixture(scope="session")
def signing_key():
    return SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture
def plan_of():
    """A plan with chosen numbers, without calibrating: its ε is not looked at."""

    def make(*, declared=100, noise=1.0, evaluation_noise=10.0, **request):
        values = {"rounds": 5, "sampling_rate": 0.5, "evaluations": 1, "retry_allowance": 1, "engine": "vmap"}
        asked = PrivacyRequest(**(values | request))
        rate = asked.rate_at(declared)
        return PrivacyPlan(asked, declared, rate, noise, evaluation_noise, epsilon=8.0, epsilon_second=8.0)

    return make


@pytest.fixture
def ledger_for(tmp_path: Path, signing_key):
    """A ledger with the given plan reserved; roomy unless told otherwise."""
    opened = []

    def make(plan, *, epsilon_max=1e6, order=2, name="ledger.sqlite", run="run"):
        ledger = Ledger.create(tmp_path / name, signing_key, LedgerTerms(epsilon_max, 1e-5, order))
        opened.append(ledger)
        if plan is not None:
            ledger.reserve(run, plan)
        return ledger

    yield make
    for ledger in opened:
        ledger.disconnect()


@pytest.fixture(scope="session")
def changed():
    return dataclasses.replace
