"""What a table says with `data.together`: each cell by itself, and nothing lost of a row that lacks one."""

from __future__ import annotations

import pytest

from fedimg.config import compose
from fedimg.errors import ConfigError, DataError
from fedimg.sources.config import DataConfig
from fedimg.sources.said import needed, said_of
from fedimg.values import NO_CLASS


def config(**changes):
    asked = {"name": "images", "path": "x", "together": True, "value": "volume_ml", "voxels": "masks"}
    return DataConfig(**asked | changes)


def row(label="", volume_ml="", mask=""):
    return {"path": "a.png", "patient_id": "1", "label": label, "volume_ml": volume_ml, "mask": mask}


@pytest.mark.parametrize(
    ("cells", "label", "value", "drawn"),
    [
        (("positive", "2.5", "m.png"), 1, 2.5, True),
        (("negative", "", ""), 0, None, False),
        (("", "2.5", ""), NO_CLASS, 2.5, False),
        (("", "", "m.png"), NO_CLASS, None, True),
        (("", "", ""), None, None, False),  # the intake holds it back
    ],
)
def test_an_empty_cell_takes_nothing_from_the_others(tmp_path, cells, label, value, drawn):
    (tmp_path / "m.png").write_bytes(b"")
    found = said_of(tmp_path, row(*cells), 2, config())
    assert (found.label, found.value, found.drawn is not None) == (label, value, drawn)
    if drawn:  # of a mask that says only where, a class that nobody knows is none
        assert found.drawn.label == (label if label != NO_CLASS else None)


def test_a_cell_that_says_something_else_is_refused_and_not_quoted(tmp_path):
    for cells in (("Miller", "", ""), ("", "Miller", ""), ("", "nan", "")):
        with pytest.raises(DataError) as caught:
            said_of(tmp_path, row(*cells), 2, config())
        assert "Miller" not in str(caught.value)


def test_the_columns_that_are_asked_for_must_be_there():
    assert needed(config()) == ("label", "mask", "volume_ml")
    assert needed(config(voxels="none", value=None)) == ("label",)
    assert needed(config(together=False)) == ("volume_ml",)
    with pytest.raises(ConfigError, match="does not read it"):
        DataConfig("tabular", together=True)


def test_alone_each_task_is_said_as_before(tmp_path):
    (tmp_path / "m.png").write_bytes(b"")
    number = said_of(tmp_path, row("Miller", "2.5", ""), 2, config(together=False))
    assert (number.label, number.value) == (0, 2.5)
    label = said_of(tmp_path, row("", "2.5", "m.png"), 2, config(together=False, value=None))
    assert label.label is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.together=false", "data.together=true with model.task=several"),
        ("data.value=null", "data.value=COLUMN with model.task=several"),
        ("data.voxels=none", "data.voxels=masks with model.task=several"),
        ("data.several=true", "one class an image"),
        ("training.loss=cross_entropy", "what model.task=several can be trained with"),
        ("training.head_weights=[1.0]", "training.head_weights: one for each"),
        ("training.head_weights=[1.0,0.0,1.0]", "a positive number for each head"),
        ("training.head_losses=[squared_error,cross_entropy,focal]", "a loss of classification in"),
        ("training.class_weights=[1.0,2.0]", "class_weights"),
        ("imaging=augmented", "imaging=augmented"),
        ("model.heads=[classification,detection]", "model.heads"),
        ("model.heads=[regression]", "two or more"),
        ("model=logistic", "sums of statistics of classes"),
        ("model.task=segmentation", "model.heads with model.task=several only"),
    ],
)
def test_a_configuration_that_cannot_learn_several_is_refused_with_the_reason(override, words):
    with pytest.raises(ConfigError, match=words):
        compose(["experiment=several", override])


def test_losses_of_heads_are_taken_by_name():
    found = compose(["experiment=several", "training.head_losses=[focal,huber,cross_entropy]"])
    assert found.training.head_losses == ("focal", "huber", "cross_entropy")
    with pytest.raises(ConfigError, match="one for each of"):
        compose(["experiment=regression", "training.head_losses=[huber]"])
