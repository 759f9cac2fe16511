"""Time and memory of a private step, beside Opacus' fastest mode that works.

    python scripts/benchmark_dp.py [--cases cnn,densenet121,…] [--threads 2] [--repeats 5] [--clock wall] [--json]
    python scripts/benchmark_dp.py --memory [--patients 512] [--json]

A step is: per-patient gradients, clip, sum, noise; ours is `clipped_sum` with `engine=auto` and noise of the
operating system's entropy, Opacus' is forward, backward and `optimizer.step()` in its modes hooks, functorch, ew
(expanded weights) and ghost, noise by torch's generator. Same network (batch normalisation already replaced),
images, batch and threads, one process, contenders taking turns. Opacus has no patients of several images: there,
its gradients of single images are averaged by patient in front of its optimizer, as a user would write it, and
ghost clipping, which knows norms of single images only, cannot take part. A mode that raises is listed with its
error. Exit code 1 where a figure that is asked for is missed.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fedimg.models import ModelConfig, Network, build_model
from fedimg.privacy.batches import PatientBatch
from fedimg.privacy.clipping import clipped_sum
from fedimg.privacy.engines import PatientGradients, PatientLoss
from fedimg.privacy.entropy import OsEntropy
from fedimg.privacy.noise import add_noise

CLIP, NOISE_MULTIPLIER = 1.0, 1.0
MODES = ("hooks", "functorch", "ew", "ghost")
NEVER_SLOWER, MEMORY = 1 / 1.05, 1.5


@dataclass(frozen=True)
class Case:
    """A network, its image side, a batch of patients, and by what factor a step must be faster.

    `voxels`: a label for every voxel, the loss their mean.
    """

    network: str
    dimensions: int
    side: int
    patients: int
    images: int = 1
    asked: float = NEVER_SLOWER
    voxels: bool = False


CASES = {
    "cnn": Case("cnn", 2, 64, 64, asked=1.3),
    "cnn-3": Case("cnn", 2, 64, 64, 3, asked=1.5),
    "cnn-28": Case("cnn", 2, 28, 64),
    "cnn-3d": Case("cnn", 3, 32, 16),
    "densenet121": Case("densenet121", 2, 64, 16, asked=1.15),
    "densenet121-3d": Case("densenet121", 3, 32, 4),
    "resnet18": Case("resnet18", 2, 64, 16),
    "resnet18-3d": Case("resnet18", 3, 32, 4),
    "efficientnet_b0": Case("efficientnet_b0", 2, 64, 16),
    "efficientnet_b0-3d": Case("efficientnet_b0", 3, 32, 4),
    "segresnet": Case("segresnet", 2, 64, 16),
    "segresnet-3d": Case("segresnet", 3, 32, 4),
    "segresnet-voxels": Case("segresnet", 2, 64, 16, voxels=True),
    "segresnet-voxels-3d": Case("segresnet", 3, 32, 4, voxels=True),
    "basic_unet": Case("basic_unet", 2, 64, 16, voxels=True),
    "basic_unet-3d": Case("basic_unet", 3, 32, 4, voxels=True),
    "unet": Case("unet", 2, 64, 16, voxels=True),
    "unet-3d": Case("unet", 3, 32, 4, voxels=True),
    "scattering": Case("scattering", 2, 28, 512),
}


@dataclass(frozen=True)
class Inputs:
    """The network at its initial parameters, and (B·M, …) features with labels."""

    case: Case
    network: Network
    flat: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor


def inputs_of(case: Case) -> Inputs:
    config = ModelConfig(
        name=case.network,
        dimensions=case.dimensions,
        image_size=(case.side,) * case.dimensions,
        task="segmentation" if case.voxels else "classification",
    )
    network = build_model(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    number = case.patients * case.images
    images = torch.randn(number, *config.image_shape, generator=generator)
    labels = torch.randint(0, 2, (number, *network.label_shape), generator=generator)
    flat = torch.from_numpy(network.initial.astype(np.float32))
    # a head of zeros gives nothing back to the layers below: a little of everything instead
    flat = flat + 0.01 * torch.randn(flat.shape, generator=generator)
    return Inputs(case, network, flat, network.features(images), labels)


def ours(given: Inputs) -> Callable[[], None]:
    gradients = PatientGradients(given.network, PatientLoss(), "auto")
    first = np.arange(given.case.patients + 1) * given.case.images
    batch = PatientBatch(given.images, given.labels, first)

    def step() -> None:
        add_noise(clipped_sum(gradients, given.flat, batch, CLIP), NOISE_MULTIPLIER, OsEntropy())

    return step


def plain(given: Inputs) -> Callable[[], None]:
    """The non-private step of the same batch, in one pass."""

    def step() -> None:
        leaf = given.flat.clone().requires_grad_()
        loss = F.cross_entropy(given.network.apply(leaf, given.images), given.labels)
        torch.autograd.grad(loss, leaf)

    return step


class PerImage(nn.CrossEntropyLoss):
    """Cross-entropy whose unreduced form is one value an image, of voxels their mean: what ghost clipping needs."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as torch names it
        losses = super().forward(input, target)
        return losses.flatten(1).mean(dim=1) if losses.dim() > 1 else losses


def opacus(given: Inputs, mode: str) -> Callable[[], None]:
    """Opacus 1.6's own wrappers and optimizers; an unusable mode raises here or in its first step."""
    from opacus.grad_sample import wrap_model
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

    case, number = given.case, given.case.patients
    module: nn.Module = copy.deepcopy(given.network._module).train()  # noqa: SLF001 - the same network, as a module
    with torch.no_grad():
        for parameter, value in zip(
            module.parameters(), given.network.layout.unflatten(given.flat).values(), strict=True
        ):
            parameter.copy_(value)
    options: dict[str, Any] = {"max_grad_norm": CLIP, "use_ghost_clipping": True} if mode == "ghost" else {}
    wrapped = wrap_model(module, grad_sample_mode=mode, batch_first=True, loss_reduction="mean", **options)
    kind = DPOptimizerFastGradientClipping if mode == "ghost" else DPOptimizer
    optimizer = kind(
        torch.optim.SGD(wrapped.parameters(), lr=0.0),
        noise_multiplier=NOISE_MULTIPLIER,
        max_grad_norm=CLIP,
        expected_batch_size=number,
    )
    criterion: Any = PerImage()
    if mode == "ghost":
        if case.images > 1:
            raise ValueError("ghost clipping knows the norms of single images only")
        criterion = DPLossFastGradientClipping(wrapped, optimizer, criterion)

    def step() -> None:
        optimizer.zero_grad()
        criterion(wrapped(given.images), given.labels).backward()
        if case.images > 1:
            for parameter in wrapped.parameters():
                by_patient = parameter.grad_sample.view(number, case.images, *parameter.shape)
                parameter.grad_sample = by_patient.mean(dim=1)
        optimizer.step()

    return step


def compare(case: Case, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    given = inputs_of(case)
    steps: dict[str, Callable[[], None]] = {"ours": ours(given), "plain": plain(given)}
    failed: dict[str, str] = {}
    steps["ours"]()
    for mode in MODES:
        try:
            steps[mode] = opacus(given, mode)
            steps[mode]()
        except Exception as fault:  # noqa: BLE001 - that a mode fails is a finding
            steps.pop(mode, None)
            failed[mode] = f"{type(fault).__name__}: {str(fault).splitlines()[0][:90]}"
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begin = clock()
            step()
            times[name].append(clock() - begin)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    fastest = min((name for name in seconds if name in MODES), key=seconds.__getitem__, default=None)
    shape = (case.patients, case.images, *given.images.shape[1:])
    settled = PatientGradients(given.network, PatientLoss(), "auto").settled(
        given.flat, given.images.view(shape)
    )
    factor = seconds[fastest] / seconds["ours"] if fastest else None
    return {
        "parameters": given.flat.numel(),
        "engine": settled.engine,
        "chunk": settled.chunk,
        "seconds": seconds,
        "fastest": fastest,
        "failed": failed,
        "factor": factor,
        "asked": case.asked,
        "passed": factor is None or factor >= case.asked,
    }


def peak(case: Case, contender: str) -> float:
    """MiB resident at most, of a process that does nothing but two such steps."""
    command = [sys.executable, __file__, "--child", contender, "--case", json.dumps(vars(case))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def child(contender: str, case: Case) -> None:
    given = inputs_of(case)
    step = {"ours": ours, "plain": plain}[contender](given)
    for _ in range(2):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory(case: Case) -> dict[str, Any]:
    mebibytes = {contender: peak(case, contender) for contender in ("ours", "plain")}
    ratio = mebibytes["ours"] / mebibytes["plain"]
    return {"MiB": mebibytes, "ratio": ratio, "asked": MEMORY, "passed": ratio <= MEMORY}


def table(results: dict[str, dict[str, Any]]) -> None:
    for name, result in results.items():
        verdict = "pass" if result["passed"] else "FAIL"
        if "MiB" in result:
            print(
                f"{name:20}{result['MiB']['ours']:8.0f} MiB ours {result['MiB']['plain']:8.0f} MiB plain  "
                f"ratio {result['ratio']:.2f} (≤ {MEMORY})  {verdict}"
            )
            continue
        milliseconds = "  ".join(f"{k} {1e3 * v:.1f}" for k, v in result["seconds"].items())
        factor = f"{result['factor']:.2f}×" if result["factor"] else "alone"
        print(
            f"{name:20}{factor:>7} (≥ {result['asked']:.2f})  {verdict}  {result['engine']}; ms: {milliseconds}"
        )
        for mode, words in result["failed"].items():
            print(f"{'':20}{mode} fails: {words}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES), help="of: " + ", ".join(CASES))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu on a busy machine")
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--patients", type=int, default=512, help="of --memory")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    if arguments.child:
        child(arguments.child, Case(**json.loads(arguments.case)))
        return 0
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    results: dict[str, dict[str, Any]] = {}
    for name in arguments.cases.split(","):
        case = CASES[name]
        if arguments.memory:
            results[name] = memory(Case(case.network, case.dimensions, case.side, arguments.patients))
        else:
            results[name] = compare(case, arguments.repeats, clock)
        if not arguments.json:
            table({name: results[name]})
    passed = all(result["passed"] for result in results.values())
    if arguments.json:
        print(json.dumps({"verdict": "pass" if passed else "fail", "cases": results}, indent=1))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
