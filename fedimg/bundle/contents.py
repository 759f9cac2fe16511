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
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from safetensors.torch import save

from fedimg.bundle.manifest import Opened
from fedimg.bundle.metadata import FORMAT, METADATA, Metadata, read_metadata

GRAPH, STATE, PROBE = "models/model.pt2", "models/model.pt", "models/probe.safetensors"
INFERENCE, TRAIN = "configs/inference.json", "configs/train.json"
CARD, RECORD = "docs/README.md", "docs/record.json"
_ACTIVATIONS = {
    "classification": "torch.softmax(x / {t!r}, dim=0)",
    "segmentation": "torch.softmax(x, dim=0)",
    "multilabel": "torch.sigmoid(x)",
}


@dataclass(frozen=True)
class Described:
    """What goes into a bundle.

    Attributes:
        said: its metadata. description: a sentence. output_shape: of one image's logits.
        graph, definition, state, probe, logits: of `models.deployed.exported`.
        guarantees: sentences on what is promised, for the card. figures: (name, value) as measured.
        record: the signed release record's bytes; None for a run without one.
    """

    said: Metadata
    description: str
    output_shape: tuple[int, ...]
    graph: bytes
    definition: bytes
    state: Mapping[str, torch.Tensor]
    probe: torch.Tensor
    logits: torch.Tensor
    guarantees: tuple[str, ...]
    figures: tuple[tuple[str, str], ...]
    record: bytes | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def contents(made: Described) -> dict[str, bytes]:
    """Path → bytes; the same input gives the same bytes, but for what torch's zip files hold of time."""
    state = io.BytesIO()
    torch.save(dict(made.state), state)
    files = {
        METADATA: _json(_metadata(made)),
        INFERENCE: _json(_network(made) | _inference(made)),
        TRAIN: _json(_network(made)),  # where `monai.bundle.load` looks if it is told nothing
        GRAPH: made.graph,
        STATE: state.getvalue(),
        PROBE: save({"images": made.probe.contiguous(), "logits": made.logits.contiguous()}),
        CARD: _card(made).encode(),
    }
    read_metadata(Opened(files, b"", ""))  # what a reader would refuse is not written
    return files if made.record is None else files | {RECORD: made.record}


def _metadata(made: Described) -> dict[str, Any]:
    said, channels = made.said, made.said.image_shape[0]
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
        "num_channels": made.output_shape[0],
        "spatial_shape": list(made.output_shape[1:]),
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
        "description": made.description,
        "authors": "the federation that trained it",
        "copyright": "",
        "intended_use": "Research. Not for diagnostic use.",
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": pred}},
        "fedimg": {
            "format": FORMAT,
            "name": said.name,
            "run": said.run,
            "task": said.task,
            "classes": list(said.classes),
            "image_shape": list(said.image_shape),
            "imaging": dict(said.imaging),
            "temperature": said.temperature,
            "threshold": said.threshold,
            "modalities": list(said.modalities),
            "body_parts": list(said.body_parts),
            "weights": said.weights,
            "architecture": said.architecture,
            **made.extra,
        },
    }


def _network(made: Described) -> dict[str, Any]:
    return {
        "imports": ["$import base64", "$import io", "$import torch", "$import zlib"],
        "bundle_root": ".",
        "device": "$torch.device('cpu')",
        "graph": base64.b64encode(zlib.compress(made.definition, 9)).decode("ascii"),
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
        _plain(made.description),
        "",
        "| | |",
        "|---|---|",
        f"| task | {said.task} |",
        f"| classes | {', '.join(map(_plain, said.classes))} |",
        f"| input | {' × '.join(map(str, said.image_shape))} (channels first) |",
        f"| series | {', '.join(said.modalities) or 'any modality'}; {', '.join(said.body_parts) or 'any body part'} |",
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


def _plain(text: str) -> str:
    """Without what Markdown or a table would take for its own."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|!" else c for c in text)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
