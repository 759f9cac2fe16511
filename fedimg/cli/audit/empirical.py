"""Empirical ε: what public canaries measure of a plan's mechanism, beside the claim; a second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedimg.cli.audit import _output

if TYPE_CHECKING:
    from fedimg.privacy.plan import PrivacyPlan

_ABOUT = (
    "Run public canaries through the shipped sampling, clipping, noise and charge with a plan's numbers, fit what is "
    "released, and print the estimated ε with a 98 % interval beside the claim. Fails where the estimate's lower "
    "10⁻⁴ bound exceeds the claim, or a one-sided test of (σ, q, C) rejects at 10⁻⁴. Takes 0.3 to 3 s of one core. "
    "An estimate: neither a proof nor a bound."
)
LIMITS = (
    "An estimate of this mechanism with these numbers, not a proof, and not a bound that holds with certainty.",
    (
        "Canaries are public units with one image: faults that only real images meet (a failing augmentation, a layer that "
        "mixes patients) are for `fedimg audit battery`."
    ),
    "It says nothing of what else leaves a site, and nothing of a particular model.",
)


def run(argv: Sequence[str]) -> int:
    parser = _output.parser("empirical", _ABOUT)
    parser.add_argument("run", nargs="?", type=Path, help="a past run: every site's own plan is measured")
    parser.add_argument("--epsilon", type=float, default=8.0, help="without RUN: the claim; default 8")
    parser.add_argument("--delta", type=float, default=2e-5, help="default 2e-5")
    parser.add_argument("--sampling-rate", type=float, default=0.1, help="q, default 0.1")
    parser.add_argument("--steps", type=int, default=100, help="T, default 100; at most 400 are run")
    parser.add_argument("--clip", type=float, default=0.1, help="C, default 0.1")
    arguments = parser.parse_args(argv)
    _output.check(arguments.report)

    import torch

    from fedimg.audit.empirical import audit_plan
    from fedimg.audit.recipe import plan_for
    from fedimg.coordination import measured
    from fedimg.errors import ConfigError
    from fedimg.privacy.noise import OsEntropy
    from fedimg.report.audits import page
    from fedimg.report.empirical import empirical

    torch.set_num_threads(1)
    if arguments.run is not None:
        from fedimg.simulation.past import open_past

        plans = open_past(arguments.run).plans
        if not plans:
            raise ConfigError(
                "a private run", "privacy=none", "there is no claim to hold a measurement against"
            )
    else:
        plans = {
            "the given plan": plan_for(
                arguments.epsilon,
                arguments.delta,
                1000,
                arguments.steps,
                arguments.sampling_rate,
                arguments.clip,
            )
        }
    measurements = {name: audit_plan(plan, OsEntropy()) for name, plan in _different(plans).items()}
    verdict = "fail" if any(one.flagged for one in measurements.values()) else "pass"
    found = {
        "audit": "empirical",
        "verdict": verdict,
        "seconds": round(sum(one.seconds for one in measurements.values()), 3),
        "plans": {name: one.as_dict() for name, one in measurements.items()},
    }
    rows = [measured.row(name, one) for name, one in measurements.items()]
    said = "The measurement agrees with the claim." if verdict == "pass" else "It contradicts the claim."
    html = page("Empirical ε", verdict, said, LIMITS, [empirical(rows)])
    lines = [
        f"{name}: claimed ε {one.claim:.3f}, estimated {one.estimate:.3f} [{one.low:.3f}, {one.high:.3f}] (98 %) at"
        f" δ = {one.delta:g}; {one.canaries} canaries, {one.steps} steps"
        for name, one in measurements.items()
    ]
    return _output.finish(found, arguments.report, html, lines, as_json=arguments.json)


def _different(plans: dict[str, PrivacyPlan]) -> dict[str, PrivacyPlan]:
    """One of each set of sites whose mechanism has the same numbers."""
    kept: dict[tuple[float, float, int], str] = {}
    for name, plan in plans.items():
        kept.setdefault((plan.noise_multiplier, plan.sampling_rate, plan.steps), name)
    return {name: plans[name] for name in kept.values()}
