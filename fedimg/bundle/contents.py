"""The files of a MONAI bundle: plain `monai.bundle.load` opens it, with torch and without fedimg.

Architecture: the graph of `torch.export` is the network's definition, exact to the last float and independent of any
library's class, GroupNorm in place of BatchNorm included. `network_def` holds it, compressed, with parameters of zero
(a configuration is not told in which folder it lies), `models/model.pt` the parameters as a state dict, and
`models/model.pt2` both together, for who has torch alone. `models/probe.safetensors` holds an input and the logits that belong to it: who loads the bundle compares.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import torch
from safetensors.torch import save

from fedimg.bundle.manifest import Opened
from fedimg.bundle.metadata import METADATA, Metadata, read_metadata
from fedimg.bundle.promised import Finding
from fedimg.codes import Code

GRAPH, STATE, PROBE = "models/model.pt2", "models/model.pt", "models/probe.safetensors"
INFERENCE, TRAIN = "configs/inference.json", "configs/train.json"
CARD, RECORD = "docs/README.md", "docs/record.json"
_ACTIVATIONS = {
    "classification": "torch.softmax(x / {t!r}, dim=0)",
    "segmentation": "torch.softmax(x, dim=0)",
    "multilabel": "torch.sigmoid(x)",
}


class Network(Protocol):
    """What `models.deployed.exported` makes: see there."""

    @property
    def graph(self) -> bytes: ...
    @property
    def definition(self) -> bytes: ...
    @property
    def state(self) -> Mapping[str, torch.Tensor]: ...
    @property
    def probe(self) -> torch.Tensor: ...
    @property
    def logits(self) -> torch.Tensor: ...


@dataclass(frozen=True)
class Described:
    """What goes into a bundle.

    Attributes:
        said: its metadata. network: graph, parameters and probe.
        guarantees: sentences on what is promised, for the card. figures: (name, value) as measured.
        record: the signed release record's bytes; None for a run without one.
    """

    said: Metadata
    network: Network
    guarantees: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    record: bytes | None = None


def contents(made: Described) -> dict[str, bytes]:
    """Path → bytes; the same input gives the same bytes, but for what torch's zip files hold of time."""
    state, network = io.BytesIO(), made.network
    torch.save(dict(network.state), state)
    definition = _network(network)
    files = {
        METADATA: _json(_metadata(made)),
        INFERENCE: _json(definition | _inference(made)),
        TRAIN: _json(definition),  # where `monai.bundle.load` looks if it is told nothing
        GRAPH: network.graph,
        STATE: state.getvalue(),
        PROBE: save({"images": network.probe.contiguous(), "logits": network.logits.contiguous()}),
        CARD: _card(made).encode(),
    }
    read_metadata(Opened(files, b"", ""))  # what a reader would refuse is not written
    return files if made.record is None else files | {RECORD: made.record}


def _metadata(made: Described) -> dict[str, Any]:
    said, channels, output_shape = made.said, made.said.image_shape[0], made.network.logits.shape[1:]
    image = {
        "type": "image",
        "format": "magnitude",
        "modality": "/".join(said.modalities) or "n/a",
        "num_channels": channels,
        "spatial_shape": list(said.image_shape[1:]),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(k): "image" for k in range(channels)},
    }
    pred = {
        "type": "image" if said.task in ("segmentation", "detection") else "probabilities",
        "format": "segmentation" if said.task == "segmentation" else "logits",
        "num_channels": int(output_shape[0]),
        "spatial_shape": list(output_shape[1:]),
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(k): name for k, name in enumerate(said.classes)},
    }
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": said.version,
        "changelog": {said.version: f"released from run {said.run}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {},
        "task": said.task,
        "description": said.description,
        "authors": "the federation that trained it",
        "copyright": "",
        "intended_use": "Research. Not for diagnostic use.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "fedimg": said.to_json(),
    }


def _network(network: Network) -> dict[str, Any]:
    return {
        "imports": ["$import base64", "$import io", "$import torch", "$import zlib"],
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "graph": base64.b64encode(zlib.compress(network.definition, 9)).decode("ascii"),
        "graph_file": "$io.BytesIO(zlib.decompress(base64.b64decode(@graph)))",
        "network_def": "$torch.export.unflatten(torch.export.load(@graph_file))",
        "network": "$@network_def.to(@device)",
    }


def _inference(made: Described) -> dict[str, Any]:
    """For MONAI's own workflows. Images go in as `fedimg` prepares them (`metadata.json`, fedimg.imaging)."""
    activation = _ACTIVATIONS.get(made.said.task, "x").format(t=made.said.temperature)
    return {
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Lambdad", "keys": "pred", "func": f"$lambda x: {activation}"}],
        },
    }


def _card(made: Described) -> str:
    said = made.said
    lines = [
        f"# {_plain(said.name)} {_plain(said.version)}",
        "",
        "**Research only. Not for diagnostic use.**",
        "",
        _plain(said.description),
        "",
        "| | |",
        "|---|---|",
        f"| task | {said.task} |",
        f"| classes | {', '.join(map(_plain, said.classes))} |",
        f"| input | {' × '.join(map(str, said.image_shape))} (channels first) |",
        f"| kind | {said.kind} |",
        *(f"| finding | {_finding(one)} |" for one in said.findings),
        f"| series | {', '.join(said.modalities) or 'any modality'}; {', '.join(said.body_parts) or 'any body part'} |",
        f"| images of a series | {said.least_images} or more |",
        f"| temperature | {said.temperature:.4g} |",
        f"| threshold | {'none promised' if said.threshold is None else f'{said.threshold:.4g}'} |",
        *(f"| {_plain(name)} | {_plain(value)} |" for name, value in made.figures),
        "",
        "## What is promised",
        "",
        *(f"- {_plain(one)}" for one in made.guarantees),
        "",
        "```python",
        "import monai",
        "",
        'network = monai.bundle.load(name="FOLDER", bundle_dir="ABOVE", source="github")',
        "```",
        "",
        "Verify the signature before: `fedimg bundle verify`. A bundle's configuration is a program.",
        "",
    ]
    return "\n".join(lines)


def _finding(one: Finding) -> str:
    site = f", {_code(one.site)}" if one.site is not None else ""
    return f"{_plain(one.of_class)}: {_code(one.code)}{site}"


def _code(code: Code) -> str:
    return _plain(f"{code.meaning} ({code.scheme} {code.value})")


def _plain(text: str) -> str:
    """Without what Markdown or a table would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in text)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
