from pathlib import Path

import pytest
import yaml

from fedimg.errors import ConfigError, DataError, PolicyRefused
from fedimg.sources import PUBLIC, DataConfig, SourceManifest, load
from fedimg.sources.config import BUILT_IN

FOLDER = Path(__file__).parents[2] / "conf" / "data"


@pytest.mark.parametrize("option", sorted(p.stem for p in FOLDER.glob("*.yaml")))
def test_every_option_builds_and_is_named_as_its_file(option):
    values = yaml.safe_load((FOLDER / f"{option}.yaml").read_text())
    values.pop("defaults", None)
    values = values.get("data", values)  # where the file says more than its own section
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    assert DataConfig(**values).name == option


def test_every_built_in_source_has_an_option():
    assert {p.stem for p in FOLDER.glob("*.yaml")} == set(BUILT_IN)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "cohort", "path": "x"},
            r"data\.path for dicom or nifti or images or medmnist or tabular; found data=cohort",
        ),
        ({"name": "images", "dataset": "x"}, r"data\.dataset for medmnist; found data=images"),
        ({"name": "nifti", "options": {"a": 1}}, "for a source that an entry point brings"),
        ({"classes": ("a",)}, "two names or more, all different"),
        ({"classes": ("a", "a")}, "two names or more, all different"),
        ({"max_sites_per_patient": 0}, r"data\.max_sites_per_patient ≥ 1; found 0"),
        ({"declared_patients": {"a": 9, "b": 0}}, r"data\.declared_patients ≥ 1 or null"),
        ({"declared_patients": 0}, r"data\.declared_patients ≥ 1 or null; found 0"),
    ],
)
def test_keys_that_would_silently_do_nothing_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        DataConfig(**values)


PACKAGE = """
from fedimg.sources import PublicArrays, SourceManifest
import numpy as np

def tiny(config, workdir, sites, seed):
    arrays = PublicArrays(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), ("a", "b"))
    one = SourceManifest((), True, None, "two black squares", ("no", "yes"), "image", arrays=arrays)
    name = config.options.get("site", "site-1")
    return {"public": one, name: one}
"""


@pytest.fixture
def extension(tmp_path, monkeypatch):
    """An installed package with the entry point `tiny` in `fedimg.sources`."""
    package = tmp_path / "site-packages"
    info = package / "tiny_source-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "tiny_source_of_test.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-source\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedimg.sources]\ntiny = tiny_source_of_test:tiny\n")
    monkeypatch.syspath_prepend(str(package))
    return "tiny"


def test_an_entry_point_brings_a_source_where_its_digest_is_allowed(extension, tmp_path):
    config = DataConfig(name=extension, options={"site": "north"})
    with pytest.raises(PolicyRefused) as refusal:
        load(config, tmp_path, 1, 0)
    manifests = load(config, tmp_path, 1, 0, allowed_extensions=(refusal.value.found,))
    assert set(manifests) == {PUBLIC, "north"}
    assert isinstance(manifests["north"], SourceManifest)
    with pytest.raises(DataError, match="data source tiny to return a SourceManifest per site"):
        load(DataConfig(name=extension, options={"site": "../up"}), tmp_path, 1, 0, (refusal.value.found,))


def test_an_unknown_source_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="did you mean cohort"):
        load(DataConfig(name="cohorts"), tmp_path, 1, 0)
