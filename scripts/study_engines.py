"""Do all engines give the same per-patient gradients and clipped sums, on every network that is offered?

    python scripts/study_engines.py [--cases cnn,unet-3d,…] [--images 1,3] [--patients 3] [--device cpu] [--json]

Each network, in two and three dimensions, with labels of images and of voxels, at parameters that saturate
nothing, in float64 and float32: `vmap`, `bookkeeping` and, for linear heads, `closed_form` against one autograd
call a patient in the same precision. Printed, each over the norm:

    least   the difference of a patient's gradient, the smallest over patients
    worst   the same, the largest
    norms   the largest difference of the norm that clipping goes by
    sum     the difference of the clipped sum, over C times the patients: C half the median norm, all patients
            in a chunk or one, whichever is worse
    share   the most that one patient alone contributes, over C

In float64 all patients must agree to 1e-9: what differs by more is a rule, not rounding. In float32 a ReLU that
rounding flips moves a patient's gradient by up to some 0.01, and in a deep network of volumes most patients have one:
nobody may differ by more than 0.05, and somebody by no more than 1e-5, or four times what float32 itself costs
(one autograd call in float32 against float64, printed as `cost`: networks that normalise few values lose more).
No share may pass 1, flipped or not. An engine without a rule for a network says so and is passed by; on a network
that is not listed as such it counts as a disagreement. Exit code 1 on any.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import torch

from fedimg.models import ModelConfig, build_model
from fedimg.models.centring import CentrePart, HeadPart, half_square
from fedimg.privacy import bookkeeping
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.bookkeeping import NoRuleError
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import FunctionalNetwork, PatientGradients, PatientLoss

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5}
COSTS, FLIPPED = 4.0, 0.05
# The norm of a vector of norm 1, computed in float64 of 10⁷ values.
ONE = 1 + 1e-12
CLASSES = 3


@dataclass(frozen=True)
class Case:
    """A network and its image side.

    Attributes:
        part: "centre" or "head": what a round of a centred linear head trains.
        no_rule: engines that may pass this network by.
    """

    name: str
    dimensions: int
    side: int
    task: Literal["classification", "segmentation"] = "classification"
    width: int = 8
    standardised: bool = False
    part: str = ""
    no_rule: tuple[str, ...] = ()


SEGMENTATION: Final = "segmentation"
CASES = {
    "cnn": Case("cnn", 2, 16),
    "cnn-3d": Case("cnn", 3, 12),
    "cnn-standardised": Case("cnn", 2, 16, standardised=True, no_rule=("bookkeeping",)),
    "scattering": Case("scattering", 2, 16),
    "scattering-head": Case("scattering", 2, 16, part="head"),
    "scattering-centre": Case("scattering", 2, 16, part="centre", no_rule=("bookkeeping",)),
    "scattering-3d": Case("scattering", 3, 12),
    "densenet121": Case("densenet121", 2, 32),
    "densenet121-3d": Case("densenet121", 3, 32),
    "resnet18": Case("resnet18", 2, 32),
    "resnet18-3d": Case("resnet18", 3, 16),
    "efficientnet_b0": Case("efficientnet_b0", 2, 32),
    "efficientnet_b0-3d": Case("efficientnet_b0", 3, 16),
    "segresnet": Case("segresnet", 2, 16),
    "segresnet-3d": Case("segresnet", 3, 16),
    "segresnet-voxels": Case("segresnet", 2, 16, SEGMENTATION),
    "segresnet-voxels-3d": Case("segresnet", 3, 16, SEGMENTATION),
    "basic_unet": Case("basic_unet", 2, 32, SEGMENTATION),
    "basic_unet-3d": Case("basic_unet", 3, 32, SEGMENTATION, width=4),
    "unet": Case("unet", 2, 32, SEGMENTATION),
    "unet-3d": Case("unet", 3, 32, SEGMENTATION, width=4),
    "filter_bank": Case("filter_bank", 2, 16, SEGMENTATION),
    "filter_bank-3d": Case("filter_bank", 3, 8, SEGMENTATION, width=4),
}


@dataclass(frozen=True)
class Given:
    """A network at some parameters, and patients: (B, M, …) features with (B, M, …) labels."""

    network: FunctionalNetwork
    flat: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor
    loss: PatientLoss
    linear: bool

    def to(self, dtype: torch.dtype, device: str = "cpu") -> Given:
        network = self.network
        if isinstance(network, HeadPart):
            network = replace(network, centre=network.centre.to(device, dtype))
        flat, images = (tensor.to(device, dtype) for tensor in (self.flat, self.images))
        return replace(self, network=network, flat=flat, images=images, labels=self.labels.to(device))


def given_of(case: Case, patients: int, images: int, seed: int = 0) -> Given:
    """Everything public and seeded: noise as images, and parameters a little off the initial ones."""
    config = ModelConfig(
        name=case.name,
        dimensions=case.dimensions,
        image_size=(case.side,) * case.dimensions,
        classes=CLASSES,
        task=case.task,
        width=case.width,
        weight_standardisation=case.standardised,
    )
    network, generator = build_model(config, seed=0), torch.Generator().manual_seed(seed)
    pixels = torch.randn(patients * images, *config.image_shape, generator=generator)
    features = network.features(pixels).unflatten(0, (patients, images))
    labels = torch.randint(0, CLASSES, (patients, images, *network.label_shape), generator=generator)
    flat = torch.from_numpy(network.initial.astype(np.float32))
    # a head of zeros gives nothing back to the layers below: a little of everything instead
    flat = flat + 0.01 * torch.randn(flat.shape, generator=generator)
    if not case.part:
        return Given(network, flat, features, labels, PatientLoss(), network.linear)
    centre = 0.1 * torch.randn(features.shape[2:], generator=generator)
    if case.part == "head":
        return Given(
            HeadPart(len(flat), centre, "study/head"), flat, features, labels, PatientLoss(), linear=True
        )
    part = CentrePart(len(centre), 0.01, "study/centre")
    return Given(part, centre, features, labels, PatientLoss(example_loss=half_square), linear=False)


@dataclass(frozen=True)
class Reference:
    """One autograd call a patient: rows (B, P), their norms (B,), a clip norm that most exceed, the clipped sum."""

    gradients: PatientGradients
    rows: torch.Tensor
    norms: torch.Tensor
    clip: float
    batch: PatientBatch
    total: np.ndarray[tuple[int], np.dtype[np.float64]]


def reference(given: Given) -> Reference:
    gradients = PatientGradients(given.network, given.loss, "autograd")
    rows = gradients.of(given.flat, given.images, given.labels).double()
    norms, number = rows.norm(dim=1), given.images.shape[1]
    clip, batch = float(norms.median()) / 2, batch_of(given.images, given.labels)
    one_by_one = replace(gradients, chunk=number)
    return Reference(
        gradients, rows, norms, clip, batch, clipped_sum(one_by_one, given.flat, batch, clip).vector
    )


def batch_of(images: torch.Tensor, labels: torch.Tensor) -> PatientBatch:
    first = np.arange(len(images) + 1) * images.shape[1]
    return PatientBatch(images.flatten(0, 1), labels.flatten(0, 1), first)


def compared(given: Given, known: Reference, engine: str) -> dict[str, float] | None:
    """How an engine differs from one call a patient; None where it has no rule."""
    flat, images, labels = given.flat, given.images, given.labels
    gradients = replace(known.gradients, engine=engine)
    try:
        rows = gradients.of(flat, images, labels)
        norms = rows.double().norm(dim=1)
        if gradients.by_layers:
            layers = gradients.layers(flat, images, labels)
            norms = bookkeeping.squared_norms(layers, images).sqrt()
    except NoRuleError:
        return None
    apart = (rows - known.rows).norm(dim=1) / known.norms
    sums = [
        clipped_sum(replace(gradients, chunk=chunk), flat, known.batch, known.clip).vector
        for chunk in (0, images.shape[1])
    ]
    alone = [
        clipped_sum(gradients, flat, batch_of(images[u : u + 1], labels[u : u + 1]), known.clip).vector
        for u in range(len(images))
    ]
    return {
        "least": float(apart.min()),
        "worst": float(apart.max()),
        "norms": float(((norms - known.norms).abs() / known.norms).max()),
        "sum": max(float(np.linalg.norm(s - known.total)) for s in sums) / (known.clip * len(images)),
        "share": max(float(np.linalg.norm(s)) for s in alone) / known.clip,
    }


def agrees(found: dict[str, float], bound: float, worst: float) -> bool:
    """A row that is off by x moves a norm by x, and a clipped row by 2x at most. NaN agrees with nothing."""
    return (
        found["least"] <= bound
        and found["worst"] <= worst
        and found["norms"] <= bound + found["worst"]
        and found["sum"] <= bound + 2 * found["worst"]
        and found["share"] <= ONE
    )


def study(
    case: Case,
    patients: int,
    images: int,
    seed: int = 0,
    dtypes: tuple[torch.dtype, ...] = tuple(BOUNDS),
    device: str = "cpu",
) -> list[dict[str, Any]]:
    """One line for each engine and precision, the finest first."""
    given, lines = given_of(case, patients, images, seed), []
    engines = ("vmap", "bookkeeping", *(("closed_form",) if given.linear else ()))
    exact: Reference | None = None
    for dtype in dtypes:
        these = given.to(dtype, device)
        known = reference(these)
        exact = exact or known
        cost = float(((known.rows - exact.rows).norm(dim=1) / exact.norms).min())
        bound = max(BOUNDS[dtype], COSTS * cost)
        worst = bound if dtype == torch.float64 else max(bound, FLIPPED)
        for engine in engines:
            found = compared(these, known, engine)
            passed = engine in case.no_rule if found is None else agrees(found, bound, worst)
            lines.append(
                {
                    "images": images,
                    "dtype": str(dtype).removeprefix("torch."),
                    "engine": engine,
                    "difference": found,
                    "cost": cost,
                    "bound": bound,
                    "passed": passed,
                }
            )
    return lines


def table(name: str, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        found = line["difference"]
        shown = "no rule"
        if found is not None:
            shown = "  ".join(f"{k} {v:.1e}" for k, v in found.items() if k != "share")
            shown += f"  share {found['share']:.7f}"
        print(
            f"{name:20}{line['images']:2}  {line['dtype']}  {line['engine']:12} {shown:76}  "
            f"cost {line['cost']:.0e}  {'pass' if line['passed'] else 'FAIL'}",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="of: " + ", ".join(CASES))
    parser.add_argument("--images", default="1,3", help="a patient")
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cuda: convolutions in TF32, as in training there")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    results: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.cases.split(","):
        results[name] = []
        for images in (int(value) for value in arguments.images.split(",")):
            lines = study(CASES[name], arguments.patients, images, arguments.seed, device=arguments.device)
            results[name] += lines
            if not arguments.json:
                table(name, lines)
    passed = all(line["passed"] for lines in results.values() for line in lines)
    if arguments.json:
        print(json.dumps({"verdict": "pass" if passed else "fail", "cases": results}, indent=1))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
