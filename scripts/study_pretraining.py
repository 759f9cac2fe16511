"""Does it help to begin with pretrained weights? PneumoniaMNIST, 200 training images over two sites.

    python scripts/study_pretraining.py FILE.npz [--runs 5] [--json FILE] [--split test] [--epsilons inf 8]

Three starts of one small CNN: from a seed; pre-trained on generated radiographs with their labels (lesion or none); and
pre-trained without labels, by telling rotations, on training images that no run trains on. The last stands for public
images of the same kind, which is the best case that there can be. Run k has the k-th 200 images of the training split,
and its own division among the sites; the two files of weights are made once. ε is for one *image* (the set names no
patients) at δ = 1e-3, everything that a site releases counted; sampling and noise come from the operating system. Settings
were chosen for the start from a seed, on the validation split (`--split val`), and are the same for all starts. The
published test split is the server's own public set: it is scored once a run, after the last round.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from private_runs import divided, examples, train

from fedimg.config import Config, compose
from fedimg.models import build_model
from fedimg.pretraining import Fitting, Plan, make
from fedimg.sources import PublicArrays, medmnist
from fedimg.sources.medmnist_sets import SETS

IMAGES, SITES = 200, 2
STARTS = ("seed", "generated", "self_supervised")
MODEL = ("model=cnn", "model.width=8", "imaging=medmnist")
OPEN = (
    "privacy=none",
    "rounds=30",
    "training.local_epochs=2",
    "training.learning_rate=0.02",
    "training.momentum=0.9",
)
PRIVATE = (
    "rounds=60",
    "training.local_steps=1",
    "training.private_learning_rate=0.2",
    "privacy.delta=1e-3",
    "privacy.expected_batch_size=50",
    "privacy.l2_clip_norm=0.5",
    "evaluation.site_evaluations=0",
)


def configured(path: Path, epsilon: float, seed: int, weights: Path | None) -> Config:
    own = OPEN if math.isinf(epsilon) else (*PRIVATE, f"privacy.epsilon={epsilon:g}")
    begun = [] if weights is None else [f"model.weights={weights}"]
    fixed = ("secagg=none", "compare=false", "evaluation.bootstrap=0", "evaluation.every=100000")
    data = ("data=medmnist", f"data.path={path}", "data.dataset=pneumoniamnist", f"sites={SITES}")
    return compose([*data, *MODEL, *own, *fixed, f"seed={seed}", *begun])


def files_of_weights(others: npt.NDArray[Any], work: Path, epochs: int) -> dict[str, Path | None]:
    """The starts: no file, one of generated radiographs, one of images without labels."""
    arrays = work / "others.npz"
    np.savez(arrays, images=others)
    generated = [
        "sites=2",
        "data.cohort.patients_per_hospital=300",
        "data.cohort.modalities=[CR]",
        "deid.workers=0",
    ]
    public = ["data=images", f"data.path={arrays}", "data.declared_public=true"]
    for method, data in (("generated", generated), ("self_supervised", public)):
        config = compose(
            [*MODEL, *data, "data.cohort.image_size=64"] if method == "generated" else [*MODEL, *data]
        )
        made = make(Plan(config, method, Fitting(epochs)), work / method)  # type: ignore[arg-type] # one of two
        loss = made.about["held_out_loss"]
        print(
            f"{method}: {made.about['images']} images, held-out loss {loss['before']:.3f} → {loss['after']:.3f}",
            flush=True,
        )
    return {"seed": None} | {name: work / name / "weights.safetensors" for name in STARTS[1:]}


def one_run(own: PublicArrays, test: PublicArrays, config: Config) -> float:
    """AUROC."""
    network = build_model(config.model, config.seed)
    mine, public = (examples(a.images[:, 0], a.labels, config, network) for a in (own, test))
    return train(config, divided(mine, config), IMAGES, public).auroc


def share(arrays: PublicArrays, rows: npt.NDArray[np.int64]) -> PublicArrays:
    return PublicArrays(arrays.images[rows], arrays.labels[rows], tuple(arrays.patient_keys[i] for i in rows))


def told(line: dict[str, Any]) -> str:
    every = " ".join(f"{value:.3f}" for value in line["auroc"])
    epsilon = "none" if line["epsilon"] is None else f"ε = {line['epsilon']:g}"
    return f"| {epsilon} | {line['start']} | {line['median']:.3f} | {every} |"


def study(args: argparse.Namespace, work: Path) -> list[dict[str, Any]]:
    path = args.path.resolve()
    arrays = medmnist.read_npz(path, SETS["pneumoniamnist"])
    order = np.random.default_rng(0).permutation(len(arrays["train"].labels))
    parts = [order[IMAGES * run : IMAGES * (run + 1)] for run in range(args.runs)]
    others = arrays["train"].images[order[IMAGES * args.runs :], 0]
    files = files_of_weights(others, work, args.epochs)
    lines: list[dict[str, Any]] = []
    print("| privacy | start | median AUROC | every run |\n|---|---|---:|---|")
    for epsilon in args.epsilons:
        for start in STARTS:
            found = [
                one_run(
                    share(arrays["train"], part),
                    arrays[args.split],
                    configured(path, epsilon, seed, files[start]),
                )
                for seed, part in enumerate(parts)
            ]
            lines.append(
                {
                    "epsilon": None if math.isinf(epsilon) else epsilon,
                    "start": start,
                    "median": float(np.median(found)),
                    "auroc": found,
                }
            )
            print(told(lines[-1]), flush=True)
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="of pre-training")
    parser.add_argument("--epsilons", type=float, nargs="*", default=[math.inf, 8.0])
    parser.add_argument("--split", choices=("test", "val"), default="test")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        lines = study(args, Path(scratch))
    if args.json:
        about = {
            "set": args.path.name,
            "split": args.split,
            "images": IMAGES,
            "sites": SITES,
            "unit": "image",
            "delta": 1e-3,
        }
        args.json.write_text(json.dumps({**about, "rows": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
