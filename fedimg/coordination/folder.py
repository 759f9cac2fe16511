"""`runs/<id>/`: what a run leaves behind, written so that a crash leaves a readable folder.

config.yaml      the composed configuration
metrics.jsonl    one JSON object a round, fsynced
checkpoints/     round-0001.safetensors …: the server's whole state after a round
ledgers/         a signed extract of each site's ledger
receipts/        each site's intake receipts (keyed paths and counts, never values)
overrides.json   what the run was asked for, as override strings
failure.json     why a run could not go on, until it is resumed
participants.json  every site that has joined, with the plan that its ledger reserved
sites/           the virtual sites' homes and the coordinator's key (unless `state` puts them elsewhere)
audits/          results of audits that may leave a site: NAME.json
sweep.json       which point of a sweep this is
start.json       which file the first weights come from, by its digest, and what it says of itself
model.safetensors, record.json: the model's weights, and the signed record of what is promised about it
privacy-card.html   the same for people
summary.json, report.html
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from fedimg.durable import write_durably
from fedimg.errors import DataError, FedimgError
from fedimg.models.origin import Origin

_SWEEP, _START = "sweep.json", "start.json"


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """Which point of a sweep a run is, of how many, and the sum of the ε that all points ask for."""

    point: int = 1
    points: int = 1
    epsilon: float = 0.0


@dataclass(frozen=True)
class RunFolder:
    """Paths and durable writes of one run."""

    path: Path

    @classmethod
    def create(cls, runs: Path) -> RunFolder:
        """A new folder, 0700, named by time and chance: `20260131-142501-3f9a`."""
        name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        path = runs / name
        path.mkdir(parents=True, mode=0o700)
        for part in ("checkpoints", "ledgers", "receipts"):
            (path / part).mkdir(mode=0o700)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run, to resume it; raises DataError where there is none."""
        if not (path / "config.yaml").is_file():
            raise DataError("a run folder with a config.yaml", "none there", "name a folder below runs/")
        (path / "failure.json").unlink(missing_ok=True)
        return cls(path)

    def note_failure(self, fault: Exception) -> None:
        """Why the run could not go on; of a fault that is not of this program only its kind, which quotes nothing."""
        said: dict[str, Any] = {"kind": type(fault).__name__}
        if isinstance(fault, FedimgError):
            said |= {"expected": fault.expected, "found": fault.found, "remedy": fault.remedy}
        with suppress(OSError):  # a full disk is one of the reasons, and is told already
            self.write_json("failure.json", said)

    @property
    def run_id(self) -> str:
        return self.path.name

    def write(self, name: str, data: str | bytes) -> None:
        """Durable and whole: the file is either the old one or the new one."""
        write_durably(self.path / name, data, mode=0o644)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def note_sweep(self, point: SweepPoint) -> None:
        """Keep beside the run that it is one of several; a run by itself needs no note."""
        if point.points > 1:
            self.write_json(_SWEEP, asdict(point))

    @property
    def sweep(self) -> SweepPoint:
        file = self.path / _SWEEP
        return SweepPoint(**json.loads(file.read_text("utf-8"))) if file.exists() else SweepPoint()

    def note_start(self, origin: Origin | None) -> None:
        """Keep which file the first weights come from: by the end of the run there may be another one under its name."""
        if origin is not None and not (self.path / _START).exists():
            self.write_json(_START, origin.as_json())

    @property
    def start(self) -> Origin | None:
        """None for weights from a seed."""
        file = self.path / _START
        return Origin(**json.loads(file.read_text("utf-8"))) if file.exists() else None

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl; a row of a round that is already there is replaced."""
        rows = [r for r in self.metrics() if r.get("round") != row["round"]]
        lines = [json.dumps(r, allow_nan=False) for r in [*rows, dict(row)]]
        self.write("metrics.jsonl", "\n".join(lines) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line]

    def save_checkpoint(self, round_number: int, state: Mapping[str, torch.Tensor]) -> None:
        self.write(f"checkpoints/round-{round_number:05d}.safetensors", save(dict(state)))

    def last_round(self) -> int:
        """The last round with a checkpoint; 0 where there is none."""
        names = (path.stem.removeprefix("round-") for path in self._checkpoints())
        return max((int(name) for name in names if name.isdigit()), default=0)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("round-*.safetensors"), reverse=True)

    def last_checkpoint(self) -> tuple[int, dict[str, torch.Tensor]] | None:
        """The newest readable checkpoint: (round, server state)."""
        for path in self._checkpoints():
            try:
                return int(path.stem.removeprefix("round-")), load_file(path)
            except (SafetensorError, ValueError, OSError) as error:
                raise DataError(
                    "a readable checkpoint", f"{path.name} that is not", "delete that file and resume again"
                ) from error
        return None
