"""AdrenalMNIST3D, volumes of 28 voxels: eight sites and one, without privacy and under it.

    python scripts/study_adrenal.py FILE.npz [--runs 10] [--json FILE] [--shared 8 3 1] [--pooled 8 3 1]

Each run is what one of these commands trains, by its number as `seed`:

    fedimg simulate data=medmnist data.path=FILE.npz data.dataset=adrenalmnist3d experiment=adrenal sites=8
    fedimg simulate … experiment=adrenal_private sites=8 privacy.epsilon=8
    fedimg simulate … experiment=adrenal_private sites=1 privacy=per_site privacy.epsilon=8

ε is for one *volume*, add or remove one, at δ = 2e-5, over everything that is released in a run. The set has two
adrenal glands of most patients and does not say whose: a patient with both is two units and is promised less. The seed is the
division among sites; sampling and noise come from the operating system. Settings were chosen on the training split,
cross-validated, and the validation split, and no part of ε's promise. The published test split is the server's own public
set: it is scored exactly and once a run, after the last round. The published 3-D ResNet-18 has an AUROC of 0.827 there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from study_pneumonia import load, one_run, row, told

from fedimg.config import Config, compose
from fedimg.models import build_model

DATASET = "adrenalmnist3d"
RUNS_WITHOUT_NOISE = 2  # which differ by rounding alone
LOW = 2.0
"""Below this ε: more rounds for the features' centre, and shorter steps."""


@dataclass(frozen=True)
class Arm:
    """Who trains, and under what: no ε is no privacy."""

    sites: int
    epsilon: float | None

    def overrides(self) -> list[str]:
        if self.epsilon is None:
            return ["experiment=adrenal", "secagg=none"]  # secure sums change nothing that is measured
        found = ["experiment=adrenal_private", f"privacy.epsilon={self.epsilon:g}"]
        if self.sites == 1:
            found.append("privacy=per_site")
        if self.epsilon < LOW:
            found += ["model.centring_rounds=20", "training.private_learning_rate=0.25"]
        return found

    @property
    def name(self) -> str:
        if self.epsilon is None:
            return "no privacy"
        return "shared noise" if self.sites > 1 else "pooled"


def configured(path: Path, arm: Arm, seed: int, overrides: Sequence[str] = ()) -> Config:
    return compose(
        [
            "data=medmnist",
            f"data.path={path}",
            f"data.dataset={DATASET}",
            *arm.overrides(),
            f"sites={arm.sites}",
            f"seed={seed}",
            "evaluation.bootstrap=0",
            "compare=false",
            *overrides,
            "evaluation.every=100000",  # the test split is not looked at between rounds
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--shared", type=float, nargs="*", default=[8, 3, 1], help="ε of eight sites")
    parser.add_argument("--pooled", type=float, nargs="*", default=[8, 3, 1], help="ε of one site")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = args.path.resolve()
    arms = [*(Arm(8, e) for e in args.shared), *(Arm(1, e) for e in args.pooled), Arm(8, None), Arm(1, None)]
    private = load(path, configured(path, Arm(1, 8.0), 0))
    # the same features, and another head on them
    config = configured(path, Arm(1, None), 0)
    data = replace(private, network=build_model(config.model, config.seed))
    lines: list[dict[str, Any]] = []
    about = {
        "set": path.name,
        "unit": "image",
        "delta": 2e-5,
        "settings_tuned_on": "the training split, cross-validated, and the validation split",
    }
    for arm in arms:
        mine = data if arm.epsilon is None else private
        count = RUNS_WITHOUT_NOISE if arm.epsilon is None else args.runs
        runs = [one_run(configured(path, arm, seed), mine) for seed in range(count)]
        lines.append({"arm": arm.name, **row(arm.sites, arm.epsilon or float("inf"), runs)})
        print(f"{arm.name}: {told(lines[-1])}", flush=True)
        if arm.epsilon is None:  # JSON has no infinity
            for line in (lines[-1], *lines[-1]["runs"]):
                line.update(dict.fromkeys(line.keys() & {"epsilon", "epsilon_asked"}))
        if args.json:  # after every row: a study that is stopped has not read the test split in vain
            args.json.write_text(json.dumps({**about, "rows": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
