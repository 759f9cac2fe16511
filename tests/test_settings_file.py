"""A foreign data set by one YAML file: the same configuration as the overrides that it stands for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.config import compose
from fedimg.config.settings_file import expanded
from fedimg.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    def write(text):
        file = tmp_path / "my own.yaml"
        file.write_text(text)
        return f"settings={file}"

    return write


VESSELS = """
defaults:
  - data: images
  - model: unet
  - privacy: none
data:
  path: /export/vessels (2)
  classes: [background, vessel]
imaging:
  image_size: [48, 48]
training: {loss: dice_cross_entropy, learning_rate: 0.1}
rounds: 3
tuned_on: "somebody's words, with = and 'quotes'"
"""


def test_a_file_is_what_the_overrides_would_be(written):
    config = compose([written(VESSELS)])
    assert config == compose(
        [
            *("data=images", "model=unet", "privacy=none", "data.path='/export/vessels (2)'", "rounds=3"),
            *("data.classes=[background,vessel]", "imaging.image_size=[48,48]", "training.learning_rate=0.1"),
            *("training.loss=dice_cross_entropy", r"tuned_on='somebody\'s words, with = and \'quotes\''"),
        ]
    )
    assert config.model.task == "segmentation"


def test_what_is_said_on_the_command_line_counts_more(written):
    assert compose([written(VESSELS), "rounds=7"]).rounds == 7
    assert compose(["rounds=7", written(VESSELS)]).rounds == 7


def test_an_experiment_on_the_command_line_brings_its_own_network(written):
    """Else a row that is called ridge would be the file's network, trained for one round."""
    text = (
        "defaults:\n  - data: images\n  - experiment: segmentation\n  - model: scattering\ndata: {path: /x}\n"
    )
    found = compose([written(text), "experiment=ridge"])
    assert (found.model.name, found.data.path, found.rounds) == ("ridge", "/x", 1)
    assert compose([written(text), "experiment=ridge", "model=svm", "rounds=4"]).model.name == "svm"
    assert compose([written(text.replace("  - experiment: segmentation\n", ""))]).model.name == "scattering"


def test_a_table_s_columns_are_a_mapping(written):
    text = """
defaults: [{data: tabular}, {model: logistic}]
data: {path: t.csv, declared_public: true, columns: {age: [20, 90], chol: [100.5, 400]}}
experiment: logistic
imaging: {image_size: [1, 4]}
model: {classical: {features: pixels, projected: 0}}
"""
    assert compose([written(text)]).data.columns == {"age": (20.0, 90.0), "chol": (100.5, 400.0)}


@given(st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="$"), max_size=30))
def test_any_text_comes_through(tmp_path_factory, text):
    import yaml

    file = tmp_path_factory.mktemp("s") / "s.yaml"
    file.write_text(yaml.safe_dump({"tuned_on": text}))
    assert compose([f"settings={file}"]).tuned_on == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list", "keys and values"),
        ("rounds: [", "readable YAML"),
        ("defaults: images", "list of `group: option`"),
        ("tuned_on: ${oc.env:HOME}", "plain values"),
        ("rouns: 3", "rounds"),
        ("rounds: 2026-01-01", "plain values"),
        ("!!python/object/apply:os.system ['true']", "readable YAML"),
    ],
)
def test_other_files_are_refused(written, text, words):
    with pytest.raises(ConfigError) as refused:
        compose([written(text)])
    assert words in str(refused.value)


def test_two_files_or_none_are_refused(written, tmp_path):
    with pytest.raises(ConfigError, match="one settings=FILE"):
        compose([written("rounds: 3"), written("rounds: 3")])
    with pytest.raises(ConfigError, match="readable YAML"):
        compose([f"settings={tmp_path}/absent.yaml"])
    assert expanded(["rounds=3"], (), Path()) == ["rounds=3"]
