"""The examples in docs/ are short, and they work as printed: written to a package, found, run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fedimg.errors import PolicyRefused
from fedimg.models import ModelConfig, build_model, extension_digests
from fedimg.models.algorithms import AlgorithmServer, load_algorithm
from fedimg.models.extensions import find
from fedimg.values import AggregatedUpdate

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


def _install(document, root):
    """Put a document's one Python example and its entry point where pip would."""
    (code,), (project,) = _blocks(document, "python"), _blocks(document, "toml")
    group, name, target = re.findall(r'entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', project)[0]
    package = target.partition(":")[0]
    (root / package).mkdir(parents=True)
    (root / package / "__init__.py").write_text(code)
    info = root / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    return package, group, name


@pytest.fixture(params=["extend-model.md", "extend-algorithm.md"])
def example(request, tmp_path, monkeypatch):
    package, group, name = _install(request.param, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield request.param, group, name
    sys.modules.pop(package, None)


def test_an_example_is_at_most_thirty_lines(example):
    document, _, _ = example
    (code,) = _blocks(document, "python")
    assert len(code.splitlines()) <= 30


def test_an_example_runs_only_where_it_is_allowed(example):
    _, group, name = example
    with pytest.raises(PolicyRefused, match=rf"{name} \(.* 1\.0\) among allowed_extensions; found sha256:"):
        find(group, name).load(())


@pytest.mark.parametrize("example", ["extend-model.md"], indirect=True)
def test_the_network_trains(example):
    config = ModelConfig(name=example[2], width=8, image_size=(16, 16))
    network = build_model(config, 0, allowed_extensions=extension_digests(config).values())
    images = torch.randn(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = (torch.arange(64) % 2).long()
    images = images + 0.5 * labels[:, None, None, None]

    def loss(flat):
        return F.cross_entropy(network.apply(flat, images), labels)

    flat = torch.from_numpy(network.initial.copy()).float()
    before = float(loss(flat))
    for _ in range(60):
        flat = flat - 0.5 * torch.func.grad(loss)(flat)
    assert float(loss(flat)) < 0.5 * before


@pytest.mark.parametrize("example", ["extend-algorithm.md"], indirect=True)
def test_the_algorithm_finds_the_minimum_of_a_bowl(example):
    algorithm = load_algorithm(example[2], [find(*example[1:]).digest])
    target = np.array([1.0, -2.0, 0.5])
    server = AlgorithmServer(algorithm, np.zeros(3))
    halfway = None
    for number in range(1, 201):
        server.apply(AggregatedUpdate(number, 0.1 * (target - server.vector), ("a",)))
        if number == 100:
            halfway = AlgorithmServer(algorithm, np.zeros(3))
            halfway.restore(server.state())
    assert np.allclose(server.released, target, atol=0.05)
    for number in range(101, 201):
        halfway.apply(AggregatedUpdate(number, 0.1 * (target - halfway.vector), ("a",)))
    assert np.array_equal(halfway.vector, server.vector)


@pytest.mark.parametrize("example", ["extend-algorithm.md"], indirect=True)
def test_the_algorithm_is_the_published_one(example):
    # Two steps by hand from Reddi et al. 2021, algorithm 2: m = β₁m + (1−β₁)Δ,
    # v = v − (1−β₂)Δ²·sign(v − Δ²), x = x + η·m/(√v + τ), with v₀ = τ².
    algorithm = load_algorithm(example[2], [find(*example[1:]).digest])
    server = AlgorithmServer(algorithm, np.zeros(1))
    server.apply(AggregatedUpdate(1, np.array([0.2]), ("a",)))
    m, v = 0.1 * 0.2, 1e-6 + 0.01 * 0.04
    x = 0.1 * m / (v**0.5 + 1e-3)
    assert server.vector[0] == pytest.approx(x, rel=1e-12)
    server.apply(AggregatedUpdate(2, np.array([0.001]), ("a",)))
    m, v = 0.9 * m + 0.1 * 0.001, v - 0.01 * 1e-6
    assert server.vector[0] == pytest.approx(x + 0.1 * m / (v**0.5 + 1e-3), rel=1e-12)
