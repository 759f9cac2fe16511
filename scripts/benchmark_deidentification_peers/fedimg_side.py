"""fedimg's side: fedimg_side.py WAY SOURCE TARGET RESULT. Starting up is not timed.

WAY is engine or intake : L0-L3 or all : none or jpeg-ls (how pixels are written) : child processes.

    engine   read, de-identify, search the written bytes, write: what the peers do, and the proof
    intake   the public way: the same with receipts, signatures and the moves into the release tree
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Literal, cast

import torch

from fedimg.crypto.keys import SiteKey
from fedimg.dicom.deidentify import DeidConfig
from fedimg.home import SiteHome
from fedimg.intake import MeasuredIntakeConfig, run_intake
from fedimg.intake.release import Releaser
from fedimg.intake.task import ReleaseConfig, Task
from fedimg.values import SourceItem

Layers = Literal["all", "L0-L3"]
Codec = Literal["jpeg-ls", "none"]


def items_of(source: Path) -> list[SourceItem]:
    return [SourceItem(path, "dicom", label=0) for path in sorted(source.iterdir())]


def engine(source: Path, target: Path, layers: Layers, codec: Codec) -> int:
    """One input after the other, through the gate, into `target`."""
    config = ReleaseConfig("benchmark", DeidConfig(pixel_layers=layers, recompress=codec))
    releaser = Releaser(SiteKey.from_bytes(b"b" * 32), config, target)
    outcomes = [releaser.take(Task(n, 0, item)) for n, item in enumerate(items_of(source))]
    return sum(outcome.reason is None for outcome in outcomes)


def intake(source: Path, target: Path, config: MeasuredIntakeConfig) -> int:
    home = SiteHome.create(target / "home", simulated=True, insecure_seed="benchmark")
    return len(run_intake(items_of(source), home, config).records)


def main() -> int:
    way, source, target, result = sys.argv[1], *map(Path, sys.argv[2:5])
    torch.set_num_threads(1)
    kind, given_layers, given_codec, workers = way.split(":")
    layers, codec = cast("Layers", given_layers), cast("Codec", given_codec)

    def take(folder: Path, into: Path) -> int:
        into.mkdir(parents=True)
        if kind == "engine":
            return engine(folder, into, layers, codec)
        return intake(
            folder, into, MeasuredIntakeConfig(layers=layers, recompress=codec, workers=int(workers))
        )

    warm = source.with_name(source.name + "-warm")
    if warm.is_dir():
        take(warm, target.with_name(target.name + "-warm"))
    start, cpu = time.perf_counter(), time.process_time()
    released = take(source, target)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    result.write_text(json.dumps({"wall": seconds, "cpu": cpu, "files": released}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
