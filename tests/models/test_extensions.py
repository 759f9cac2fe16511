"""Extensions are found by name, judged by digest, and imported only then."""

from __future__ import annotations

import sys

import pytest

from fedimg.errors import ConfigError, ModelError, PolicyRefused
from fedimg.models import ModelConfig, build_model, extension_digests
from fedimg.models.extensions import find, installed

CODE = """
import torch
from fedimg.models import ModelConfig

def tiny(config: ModelConfig) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, config.classes))

def not_a_network(config):
    return 7

number = 7
"""
TINY = ModelConfig(name="tiny", image_size=(6, 6))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package `elsewhere` 1.2 with a network, as pip would leave it."""
    root = tmp_path / "site-packages"
    (root / "elsewhere" / "deep").mkdir(parents=True)
    (root / "elsewhere" / "__init__.py").write_text("")
    (root / "elsewhere" / "deep" / "__init__.py").write_text("")
    (root / "elsewhere" / "deep" / "networks.py").write_text(CODE)
    info = root / "elsewhere-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[fedimg.models]\n"
        "tiny = elsewhere.deep.networks:tiny\n"
        "seven = elsewhere.deep.networks:not_a_network\n"
        "number = elsewhere.deep.networks:number\n"
        "missing = elsewhere.deep.networks:missing\n"
        "builtin = sys:path\n"
    )
    monkeypatch.syspath_prepend(root)
    yield root / "elsewhere"
    for name in [n for n in sys.modules if n.partition(".")[0] == "elsewhere"]:
        del sys.modules[name]


def test_an_allowed_extension_becomes_a_network(package):
    digests = extension_digests(TINY)
    network = build_model(TINY, 0, allowed_extensions=digests.values())
    assert network.number_of_parameters == 36 * 2 + 2
    assert find("fedimg.models", "tiny").distribution == "elsewhere 1.2"


def test_nothing_is_imported_before_it_is_allowed(package):
    with pytest.raises(PolicyRefused) as refusal:
        build_model(TINY, 0, allowed_extensions=["sha256:" + "0" * 64])
    digest = extension_digests(TINY)["tiny"]
    assert str(refusal.value) == (
        "expected the digest of network tiny (elsewhere 1.2) among allowed_extensions; "
        f"found {digest}; review the package, then add this digest to the site's policy"
    )
    assert not any(name.partition(".")[0] == "elsewhere" for name in sys.modules)


def test_an_extension_is_refused_where_nothing_is_said(package):
    with pytest.raises(PolicyRefused):
        build_model(TINY, 0)


@pytest.mark.parametrize("change", ["edit", "add", "rename", "data"])
def test_any_change_of_the_package_changes_the_digest(package, change):
    before = extension_digests(TINY)
    code = package / "deep" / "networks.py"
    if change == "edit":
        code.write_text(CODE + "\n")
    elif change == "add":
        (package / "other.py").write_text("")
    elif change == "rename":
        (package / "deep" / "__init__.py").rename(package / "deep" / "init.py")
    else:
        (package / "table.bin").write_bytes(b"\0")
    assert extension_digests(TINY) != before


def test_compiled_caches_do_not_change_the_digest(package):
    before = extension_digests(TINY)
    build_model(TINY, 0, allowed_extensions=before.values())
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"\0")
    assert extension_digests(TINY) == before


def test_content_cannot_move_between_files_unseen(package):
    # Lengths are part of the digest, so the boundary between two files is too.
    (package / "a.py").write_text("xy")
    (package / "b.py").write_text("z")
    before = extension_digests(TINY)
    (package / "a.py").write_text("x")
    (package / "b.py").write_text("yz")
    assert extension_digests(TINY) != before


def test_a_typo_names_the_nearest_extension(package):
    with pytest.raises(ConfigError, match="found tinny; did you mean tiny"):
        find("fedimg.models", "tinny")


def test_nothing_installed_says_how_to_install():
    with pytest.raises(ConfigError) as refusal:
        find("fedimg.losses", "focal")
    assert str(refusal.value) == (
        "expected a loss that exists (none is installed); found focal; "
        "install a package with an entry point in fedimg.losses"
    )


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "seven",
            ModelError,
            "expected network seven to return a torch module or an Architecture; found int",
        ),
        ("number", ModelError, "expected network number to be a function of ModelConfig; found int"),
        ("missing", ConfigError, "expected network missing to import; found AttributeError"),
        ("builtin", ConfigError, "with a file of its own; found sys, which is a namespace or built in"),
    ],
)
def test_what_is_no_network_is_refused(package, name, error, message):
    config = ModelConfig(name=name, image_size=(6, 6))
    with pytest.raises(error, match=message):
        build_model(config, 0, allowed_extensions=extension_digests(config).values())


def test_two_packages_with_one_name_are_refused(package, tmp_path, monkeypatch):
    info = tmp_path / "more" / "rival-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedimg.models]\ntiny = rival:tiny\n")
    monkeypatch.syspath_prepend(tmp_path / "more")
    with pytest.raises(ConfigError, match=r"expected one network named tiny; found .*; uninstall one"):
        installed("fedimg.models")
