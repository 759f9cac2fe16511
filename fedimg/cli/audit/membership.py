"""Membership inference (LiRA), per patient: a private model beside one without privacy; half a minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.audit import _output
from fedimg.cli.console import progress, say
from fedimg.errors import DataError

if TYPE_CHECKING:
    from argparse import Namespace

    from fedimg.audit.recipe import Recipe
    from fedimg.values import SiteDataset

_ABOUT = (
    "Train shadow models on random halves of the patients, with and without privacy, and let each be attacked with "
    "all the others (LiRA, Carlini et al. 2022). Without RUN: generated radiographs, 30 % of their labels by coin, so "
    "that there is something to know by heart; about half a minute of one core. With RUN: one site's own patients and "
    "the run's own settings; --models times a local training. Fails where the attack on the private model shows more "
    "than the claim allows, by exact 95 % intervals."
)
LIMITS = (
    "A black-box attack bounds from below what leaks: that it fails shows that this attack failed.",
    (
        "It is judged per patient, by the mean over a patient's images; decisions under several models are counted as "
        "independent, which makes the intervals a little too narrow."
    ),
    "Shadow models are trained on half of the patients by one site alone; a federation's model is other, and mixes more.",
)


def run(argv: Sequence[str]) -> int:
    parser = _output.parser("membership", _ABOUT)
    parser.add_argument("run", nargs="?", type=Path, help="a past run, whose site's patients are used")
    parser.add_argument("--site", help="with RUN: the site; default the first")
    parser.add_argument("--models", type=int, default=32, help="shadow models, even, at least 8; default 32")
    parser.add_argument("--patients", type=int, default=400, help="without RUN: how many are generated")
    parser.add_argument(
        "--epsilon", type=float, default=8.0, help="without RUN: of the private models; default 8"
    )
    arguments = parser.parse_args(argv)
    _output.check(arguments.report)
    if arguments.models < 8 or arguments.models % 2 or arguments.patients < 40:
        parser.error("--models is even and at least 8, --patients at least 40")

    import numpy as np
    import torch

    from fedimg.audit import membership
    from fedimg.privacy.noise import OsEntropy
    from fedimg.report import audits
    from fedimg.report.interval_chart import Measured

    torch.set_num_threads(1)
    begun = time.process_time()
    recipes, dataset, real = _generated(arguments) if arguments.run is None else _of_run(arguments)
    if dataset.number_of_patients < 20:
        raise DataError("at least 20 patients", f"{dataset.number_of_patients}", "audit a larger site")
    found = {}
    with progress() as report:
        for name, recipe in recipes.items():
            shadows = membership.shadow_models(
                recipe,
                dataset,
                arguments.models,
                OsEntropy(),
                partial(report, f"shadow models {name}"),
            )
            delta = recipe.plan.delta if recipe.plan is not None else 1e-5
            found[name] = membership.measured(shadows, delta, np.random.default_rng())
    rows, contradicted = [], False
    for name, one in found.items():
        plan = recipes[name].plan
        curve = membership.claimed_curve(plan) if plan is not None else None
        contradicted = contradicted or (plan is not None and membership.contradicts(one, plan))
        for at in one.rates:
            most = curve.power(at.aimed) if curve is not None else None
            rows.append(Measured(f"{name}: {at.aimed:.1%}", at.true_positive, most))
    result = {
        "audit": "membership",
        "verdict": "fail" if contradicted else "pass",
        "seconds": round(time.process_time() - begun, 3),
        "data": "real members" if real else "public or generated",
        "models": {
            name: one.as_dict() | {"claimed_epsilon": plan.epsilon if (plan := recipes[name].plan) else None}
            for name, one in found.items()
        },
    }
    said = (
        "The attack shows more than the claim allows."
        if contradicted
        else "The attack shows no more than the claim."
    )
    content = [
        audits.measurements(
            "Members found",
            "True positives, per patient, where 0.1 % and 1 % of the others are called members.",
            rows,
            "true positive rate",
            "most that the claim allows",
        ),
        audits.curves(
            "Trade-off",
            "Dashed: guessing. Both axes in logarithms.",
            {n: one.roc for n, one in found.items()},
        ),
    ]
    limits = (*LIMITS, _output.REAL) if real else LIMITS
    html = audits.page("Membership inference", str(result["verdict"]), said, limits, content)
    lines = [
        f"{row.name} false positives, {row.found.value:.2%} of members found [{row.found.low:.2%}, {row.found.high:.2%}]"
        + ("" if row.reference is None else f"; the claim allows {row.reference:.2%}")
        for row in rows
    ]
    lines += [f"{n}: AUROC {one.auroc:.3f}, ε > {one.epsilon_low:.2f} (95 %)" for n, one in found.items()]
    if real:
        say(_output.REAL)
    return _output.finish(result, arguments.report, html, lines, as_json=arguments.json)


def _generated(arguments: Namespace) -> tuple[dict[str, Recipe], SiteDataset, bool]:
    from fedimg.audit.generated import SIDE, as_features, radiographs
    from fedimg.audit.recipe import Recipe, plan_for
    from fedimg.models import ModelConfig, build_model
    from fedimg.training import LocalTraining

    patients, epsilon = int(arguments.patients), float(arguments.epsilon)
    network = build_model(ModelConfig(name="scattering", image_size=(SIDE, SIDE)), 0)
    plan = plan_for(epsilon, 1e-4, patients // 2, 40, 0.3, 0.1)
    recipes = {
        "without privacy": Recipe(
            network, LocalTraining(learning_rate=0.02, momentum=0.9, local_epochs=40), 1
        ),
        f"private, ε = {epsilon:g}": Recipe(network, LocalTraining(learning_rate=2.0), 40, plan),
    }
    return recipes, as_features(radiographs(patients, 0, wrong=0.3), network), False


def _of_run(arguments: Namespace) -> tuple[dict[str, Recipe], SiteDataset, bool]:
    from fedimg.audit.recipe import Recipe
    from fedimg.models.losses import build_loss
    from fedimg.simulation.past import open_past
    from fedimg.training.variation import patient_loss

    past = open_past(arguments.run)
    past.check_gradients("membership")
    site = arguments.site or min(past.homes)
    if site not in past.homes:
        raise DataError(f"a site of this run: {', '.join(past.homes)}", site, "name one of them")
    terms, dataset = past.terms, past.features_at(site).train
    loss = build_loss(terms.training.loss, tuple(terms.extensions.values()))
    recipes = {"without privacy": Recipe(past.network, terms.training, terms.rounds, loss=loss)}
    plan = past.plans.get(site)
    if plan is not None:
        recipes[f"private, ε = {plan.epsilon:.3g}"] = Recipe(
            past.network,
            terms.training,
            terms.rounds,
            plan,
            patient_loss=patient_loss(terms.training, terms.imaging.varied, loss),
        )
    return recipes, dataset, not past.public_data
