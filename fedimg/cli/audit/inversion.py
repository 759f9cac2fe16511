"""Gradient inversion: pictures from one patient's update, without noise and released; seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.audit import _output
from fedimg.cli.console import say
from fedimg.errors import ConfigError

if TYPE_CHECKING:
    from fedimg.values import FloatArray, Vector

_ABOUT = (
    "Attack the updates of a site that has one patient, a softmax regression on pixels being trained: the first layer's "
    "gradient is divided by its bias', which gives the picture exactly and at once. The same is tried with what is "
    "released: one noised step, and all of the run's steps together. Without RUN: generated radiographs, with the given "
    "(ε, q, T, C). A second or two of one core for four patients. Fails where a released update resembles the picture "
    "more than noise of this size allows, or the attack does not work without noise."
)
LIMITS = (
    (
        "The attacked model is a softmax regression on pixels, the worst first layer there is; the run's own network may show "
        "less, and without noise an optimising attack may show as much."
    ),
    "That these pictures show nothing is no proof that no picture can; the claimed ε bounds every reconstruction.",
)
_SHOWN = 4


def run(argv: Sequence[str]) -> int:
    parser = _output.parser("inversion", _ABOUT)
    parser.add_argument(
        "run", nargs="?", type=Path, help="a past run, whose site's patients and plan are used"
    )
    parser.add_argument("--site", help="with RUN: the site; default the first")
    parser.add_argument("--patients", type=int, default=_SHOWN, help=f"how many; default {_SHOWN}")
    parser.add_argument("--epsilon", type=float, default=8.0, help="without RUN; default 8")
    parser.add_argument("--sampling-rate", type=float, default=0.1, help="without RUN: q, default 0.1")
    parser.add_argument("--steps", type=int, default=100, help="without RUN: T, default 100")
    parser.add_argument("--clip", type=float, default=0.1, help="without RUN: C, default 0.1")
    arguments = parser.parse_args(argv)
    _output.check(arguments.report)
    if arguments.patients < 1:
        parser.error("--patients is at least 1")

    import numpy as np
    import torch

    from fedimg.audit.generated import radiographs
    from fedimg.audit.inversion import invert
    from fedimg.audit.recipe import plan_for
    from fedimg.privacy.noise import OsEntropy
    from fedimg.report import audits

    torch.set_num_threads(1)
    begun, real = time.process_time(), False
    if arguments.run is None:
        dataset = radiographs(arguments.patients, 0)
        rate, steps = arguments.sampling_rate, arguments.steps
        plan = plan_for(arguments.epsilon, 2e-5, 1000, steps, rate, arguments.clip)
    else:
        from fedimg.simulation.past import open_past

        past = open_past(arguments.run)
        past.check_gradients("inversion")
        site, plans = arguments.site or min(past.homes), past.plans
        if site not in plans:
            raise ConfigError(
                "a site of this run with a private plan", f"{site}", "name another, or a private run"
            )
        plan, real = plans[site], not past.public_data
        dataset = past.images_at(site).train
        dataset = dataset.of_patients(np.arange(min(arguments.patients, dataset.number_of_patients)))
    found = invert(dataset, plan, OsEntropy())
    result = {
        "audit": "inversion",
        "verdict": "pass" if found.held else "fail",
        "seconds": round(time.process_time() - begun, 3),
        "data": "real patients" if real else "public or generated",
        "epsilon": plan.epsilon,
        **found.as_dict(),
    }
    shape = tuple(dataset.images.shape[1:])
    words = (
        "the image",
        "from the update without noise",
        "from one released step",
        "from all released steps",
    )
    rows = [
        [
            (f"{name}{'' if k == 0 else f': likeness {case.likeness[k - 1]:.2f}'}", _slice(made, shape))
            for k, (name, made) in enumerate(
                zip(words, (case.image, case.unnoised, case.one_release, case.whole_run), strict=True)
            )
        ]
        for case in found.cases[:_SHOWN]
    ]
    lead = (
        f"A site with a single patient, σ = {plan.noise_multiplier:.3g}, q = {plan.sampling_rate:.3g}, T = {plan.steps}. "
        "Likeness is the cosine with the image; 1 is the image itself."
    )
    said = (
        "Without noise the update is the picture; what is released shows no more of it than its noise allows."
        if found.held
        else "What is released shows more than its noise allows, or the attack did not work without noise."
    )
    limits = (*LIMITS, _output.REAL) if real else LIMITS
    content = [audits.pictures("One patient's update, inverted", lead, rows)]
    html = audits.page("Gradient inversion", str(result["verdict"]), said, limits, content)
    likeness = np.array([case.likeness for case in found.cases])
    lines = [
        (
            f"likeness to the image, {len(likeness)} patients: without noise {likeness[:, 0].min():.4f} or more,"
            f" one released step at most {likeness[:, 1].max():.3f} (noise allows {found.expected[0]:.3f} on average),"
            f" all {plan.steps} at most {likeness[:, 2].max():.3f} ({found.expected[1]:.3f})"
        )
    ]
    if real:
        say(_output.REAL)
    return _output.finish(result, arguments.report, html, lines, as_json=arguments.json)


def _slice(values: Vector, shape: tuple[int, ...]) -> FloatArray:
    """(D,) → (H, W): the first channel, of a volume the middle slice."""
    image: FloatArray = values.astype("float32").reshape(shape)[0]
    return image if image.ndim == 2 else image[len(image) // 2]
