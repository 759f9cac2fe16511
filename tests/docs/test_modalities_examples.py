"""Every YAML example of docs/modalities.md is a configuration that a run can have, and a network takes its examples."""

import re
from pathlib import Path

import pytest
import torch

from fedimg.config import compose
from fedimg.models import build_model

PAGE = (Path(__file__).parents[2] / "docs" / "modalities.md").read_text("utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: text.split(":")[0].strip("# "))
def test_an_example_composes_and_its_network_takes_what_imaging_makes(text, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    small = ["model.width=8", "imaging.image_size=[16,32,32]"] if "volume" in text else []
    config = compose([f"settings={file}", *small])
    network = build_model(config.model, 0)
    assert network.image_shape == config.imaging.shape
    images = torch.zeros(1, *config.imaging.shape)
    assert network.outputs(network.initial, network.features(images)).shape == (1, 2)


def test_there_are_examples():
    assert len(EXAMPLES) == 3
