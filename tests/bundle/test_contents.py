"""The bundle in plain MONAI and in torch alone; what it says of itself is read whole or not at all."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from fedimg.bundle import METADATA, Opened, open_sealed, read_metadata, seal
from fedimg.bundle.contents import PROBE, contents
from fedimg.bundle.running import network_of
from fedimg.errors import DataError, ModelError
from fedimg.models import ModelConfig, build_model
from fedimg.models.deployed import exported
from fedimg.values import Interval
from tests.bundle.conftest import POINT, described

# MONAI in a process of its own that has never heard of fedimg; its warning that configurations are programs is right.
LOAD = """
import sys, warnings
warnings.simplefilter("ignore")
sys.modules["fedimg"] = None
import monai, torch
from safetensors.torch import load_file
for name in sys.argv[2:]:
    network = monai.bundle.load(name=name, bundle_dir=sys.argv[1], source="github", device="cpu").eval()
    probe = load_file(f"{sys.argv[1]}/{name}/models/probe.safetensors")
    with torch.no_grad():
        assert torch.equal(network(probe["images"]), probe["logits"]), name
        assert network(probe["images"][:1].repeat(3, 1, 1, 1)).shape[0] == 3
print("loaded", len(sys.argv) - 2)
"""


def test_plain_monai_loads_bundles_side_by_side_without_fedimg(tmp_path, made, key):
    other = build_model(ModelConfig(name="scattering", image_size=(24, 24)), 0)
    seal(tmp_path / "a", contents(made), key)
    seal(tmp_path / "b", contents(described(other)), key)
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, str(tmp_path), "a", "b"],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.splitlines()[-1:] == ["loaded 2"], done.stderr


def test_it_reloads_to_the_floats_of_the_network(tmp_path, network, made, key):
    seal(tmp_path / "b", contents(made), key)
    said, logits = network_of(open_sealed(tmp_path / "b", [key.public_bytes]))
    assert said == made.said
    images = torch.randn(7, *network.image_shape)
    flat = torch.from_numpy(network.initial.astype("float32"))
    assert torch.equal(logits(images), network.apply(flat, network.features(images)))
    with pytest.raises(DataError, match="images of shape"):
        logits(images[:, :, 1:])


@pytest.mark.parametrize(
    "config",
    [
        {"name": "resnet18", "image_size": (32, 32)},
        {"name": "basic_unet", "task": "segmentation", "image_size": (32, 32)},
        {"name": "filter_bank", "task": "segmentation", "image_size": (16, 16)},
        {"name": "segresnet", "task": "segmentation", "width": 8, "image_size": (16, 16)},
        {"name": "scattering", "dimensions": 3, "image_size": (12, 12, 12)},
        {"name": "cnn", "dimensions": 3, "width": 4, "image_size": (8, 12, 12)},
    ],
    ids=lambda config: f"{config['name']}-{config.get('dimensions', 2)}d",
)
def test_networks_are_one_graph_for_any_batch(config):
    network = build_model(ModelConfig(**config), 1)
    found = exported(network, network.initial)  # compares with the network itself, for three batches
    assert found.logits.shape == (2, *ModelConfig(**config).output_shape)
    assert len(found.state) >= len(network.layout.names)


def test_features_from_elsewhere_than_torch_have_no_graph():
    network = build_model(ModelConfig(name="gradient_boosting", image_size=(32, 32)), 0)
    with pytest.raises(ModelError, match="one graph"):
        exported(network, network.initial)


def test_a_network_that_gives_other_floats_is_not_used(made):
    files = contents(made)
    from safetensors.torch import load, save

    probe = load(files[PROBE])
    files[PROBE] = save({"images": probe["images"], "logits": probe["logits"] + 0.01})
    with pytest.raises(DataError, match=r"the released logits to within 0\.001"):
        network_of(Opened(files, b"", ""))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "surgery"),
        ("temperature", 0),
        ("temperature", float("1e999")),
        ("temperature", True),
        ("threshold", 1.5),
        ("threshold", "0.5"),
        ("image_shape", [1, 24]),
        ("image_shape", [1, 24, 10**9]),
        ("image_shape", [1, 24, True]),
        ("classes", ["a\x1b[2J"]),
        ("classes", "ab"),
        ("modalities", ["<b>"]),
        ("name", "x" * 201),
        ("weights", "f" * 63),
        ("format", "fedimg-model-1"),
        ("imaging", []),
        ("kind", "alarm"),
        ("least_images", 0),
        ("least_images", True),
        ("threshold", 0.5),  # another than its operating point's
        ("operating_point", {}),
        ("operating_point", asdict(replace(POINT, positives=-1))),
        ("operating_point", asdict(replace(POINT, sensitivity=Interval(0.5, 0.6, 0.7)))),
        ("findings", [{"class": "negatives", "code": ["1", "SCT", "x"], "site": None}]),
        ("findings", [{"class": "positive", "code": ["1", "SCT", "x"], "site": None}] * 2),
        ("findings", [{"class": "positive", "code": ["1", "SCT", "a\\b"], "site": None}]),
        ("findings", [{"class": "positive", "code": ["1", "SCT"]}]),
        ("findings", None),
        ("outputs", []),
        ("outputs", [{"task": "classification", "from": 1, "to": 3, "shape": [2], "target_range": None}]),
        ("outputs", [{"task": "classification", "from": 0, "to": 3, "shape": [2], "target_range": None}]),
        ("outputs", [{"task": "surgery", "from": 0, "to": 2, "shape": [2], "target_range": None}]),
        ("outputs", [{"task": "regression", "from": 0, "to": 1, "shape": [1], "target_range": [1, 0]}]),
    ],
)
def test_metadata_is_what_the_format_says_or_refused(made, key, value):
    files = contents(made)
    found = json.loads(files[METADATA])
    found["fedimg"][key] = value
    files[METADATA] = json.dumps(found).encode()
    with pytest.raises(DataError):
        read_metadata(Opened(files, b"", ""))


def test_monais_own_fields_are_there(made):
    found = json.loads(contents(made)[METADATA])
    for field in ("version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task"):
        assert field in found
    image = found["network_data_format"]["inputs"]["image"]
    assert (image["num_channels"], image["spatial_shape"]) == (1, [24, 20])
    del found["network_data_format"]
    with pytest.raises(DataError, match="network_data_format"):
        read_metadata(Opened({METADATA: json.dumps(found).encode()}, b"", ""))


def test_the_card_shows_names_as_text(made):
    hostile = replace(made, said=replace(made.said, name="<script>|x|", classes=("a|b", "*c*"), findings=()))
    card = contents(hostile)["docs/README.md"].decode()
    assert "\\<script\\>\\|x\\|" in card
    assert "Not for diagnostic use" in card


def test_what_it_says_is_on_the_card_and_comes_back(made):
    files = contents(made)
    assert read_metadata(Opened(files, b"", "")) == made.said
    card = files["docs/README.md"].decode()
    assert "Nodule (SCT 27925004), Lung (SCT 39607008)" in card
    assert "2 or more" in card


def test_a_bundle_of_another_format_says_what_to_do(made):
    files = contents(made)
    found = json.loads(files[METADATA])
    found["fedimg"]["format"] = "fedimg-model-1"
    with pytest.raises(DataError, match="made anew from its run"):
        read_metadata(Opened({METADATA: json.dumps(found).encode()}, b"", ""))
