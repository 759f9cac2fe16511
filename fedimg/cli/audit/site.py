"""Site inference: does the released model's answer tell which hospital a case came from; seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.audit import _output
from fedimg.cli.console import say

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fedimg.models import Network
    from fedimg.values import SiteDataset, Vector

_ABOUT = (
    "Train a linear probe on what a model says of cases (cross-validated) and ask it for the hospital; a permutation test "
    "within labels says whether it does better than chance. Without RUN: a private and an open model of three generated "
    "hospitals with different machines, about ten seconds. With RUN: the run's last model and its sites' patients. Fails "
    "where the released model's answers tell (p < 0.01)."
)
LIMITS = (
    (
        "A probe that succeeds may see nothing but differences between machines, which differential privacy of patients does "
        "not hide: whole hospitals are hidden by privacy=client_level only."
    ),
    "One that fails shows that this linear probe failed on these cases.",
)
_HOSPITALS, _PATIENTS, _ASKED = 3, 150, 100


def run(argv: Sequence[str]) -> int:
    parser = _output.parser("site", _ABOUT)
    parser.add_argument("run", nargs="?", type=Path, help="a past run")
    parser.add_argument(
        "--epsilon", type=float, default=8.0, help="without RUN: of the private model; default 8"
    )
    parser.add_argument(
        "--permutations", type=int, default=499, help="of the test; default 499, at least 199"
    )
    arguments = parser.parse_args(argv)
    _output.check(arguments.report)
    if arguments.permutations < 199:
        parser.error("--permutations is at least 199, so that p < 0.01 can be reached")

    import numpy as np
    import torch

    from fedimg.audit.site_probe import by_patient, probe
    from fedimg.report import audits
    from fedimg.report.interval_chart import Measured

    torch.set_num_threads(1)
    begun, real = time.process_time(), False
    if arguments.run is None:
        answers, asked = _generated(arguments.epsilon)
        released = next(iter(answers))
    else:
        from fedimg.simulation.past import open_past

        past = open_past(arguments.run)
        real = not past.public_data
        asked = [past.features_at(name).train for name in past.homes]
        released = "the released model"
        answers = {released: [_answers(past.network, past.vector, part) for part in asked]}
    labels = np.concatenate([part.labels.numpy()[part.first_image[:-1]] for part in asked])
    sites = np.repeat(np.arange(len(asked)), [part.number_of_patients for part in asked])
    found = {
        name: probe(
            np.concatenate(
                [by_patient(a, part.first_image) for a, part in zip(of_model, asked, strict=True)]
            ),
            labels,
            sites,
            np.random.default_rng(),
            arguments.permutations,
        )
        for name, of_model in answers.items()
    }
    tells = found[released].tells
    result = {
        "audit": "site",
        "verdict": "fail" if tells else "pass",
        "seconds": round(time.process_time() - begun, 3),
        "data": "real patients" if real else "public or generated",
        "models": {name: one.as_dict() for name, one in found.items()},
    }
    rows = [Measured(name, one.accuracy, one.chance) for name, one in found.items()]
    said = (
        "The released model's answers tell hospitals apart."
        if tells
        else "The released model's answers do not tell this probe hospitals apart."
    )
    content = [
        audits.measurements(
            "Hospitals named rightly",
            "Share of patients whose hospital the probe names.",
            rows,
            "share",
            "chance",
        )
    ]
    limits = (*LIMITS, _output.REAL) if real else LIMITS
    html = audits.page("Site inference", str(result["verdict"]), said, limits, content)
    lines = [
        f"{name}: {one.accuracy.value:.1%} of hospitals named rightly [{one.accuracy.low:.1%}, {one.accuracy.high:.1%}],"
        f" chance {one.chance:.1%}, p = {one.p_value:.3g}"
        for name, one in found.items()
    ]
    if real:
        say(_output.REAL)
    return _output.finish(result, arguments.report, html, lines, as_json=arguments.json)


def _answers(network: Network, vector: Vector, dataset: SiteDataset) -> npt.NDArray[np.float64]:
    import torch

    with torch.no_grad():
        logits = network.apply(torch.from_numpy(vector).float(), dataset.images)
    answers: npt.NDArray[np.float64] = logits.double().numpy()
    return answers


def _generated(
    epsilon: float,
) -> tuple[dict[str, list[npt.NDArray[np.float64]]], list[SiteDataset]]:
    """A private model first, then an open one, of three hospitals' pooled patients; asked about other patients."""
    from fedimg.audit.generated import SIDE, as_features, pooled, radiographs
    from fedimg.audit.recipe import Recipe, plan_for
    from fedimg.models import ModelConfig, build_model
    from fedimg.privacy.noise import OsEntropy
    from fedimg.training import LocalTraining

    network = build_model(ModelConfig(name="scattering", image_size=(SIDE, SIDE)), 0)
    known = pooled([as_features(radiographs(_PATIENTS, 0, h), network) for h in range(_HOSPITALS)])
    asked = [as_features(radiographs(_ASKED, 1, h), network) for h in range(_HOSPITALS)]
    plan = plan_for(epsilon, 1e-4, known.number_of_patients, 40, 0.3, 0.1)
    recipes = {
        f"private, ε = {epsilon:g}": Recipe(network, LocalTraining(learning_rate=2.0), 40, plan),
        "without privacy": Recipe(
            network, LocalTraining(learning_rate=0.02, momentum=0.9, local_epochs=20), 1
        ),
    }
    vectors = {name: recipe.trained(known, OsEntropy()) for name, recipe in recipes.items()}
    return {name: [_answers(network, v, part) for part in asked] for name, v in vectors.items()}, asked
