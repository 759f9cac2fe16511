"""`fedimg simulate`: a whole federation in this process, once or for every point of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedimg.cli.console import print_json, print_table, progress, say, verb_parser

EPILOG = """overrides: `privacy.epsilon=3 sites=8`, a group by its option `data=medmnist`,
a sweep with -m `privacy.epsilon=1,3,8`, a stopped run with `resume=runs/<id>`."""


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("simulate", "Run a federation over virtual sites and write runs/<id>/.")
    parser.epilog = EPILOG
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("-m", "--multirun", action="store_true", help="one run for each point of a sweep")
    parser.add_argument("--json", action="store_true", help="the summaries as JSON on stdout")
    arguments = parser.parse_intermixed_args(argv)
    from fedimg.config import keys

    keys.check(arguments.overrides)  # before anything heavy is imported
    from fedimg.config import compose, sweep
    from fedimg.simulation import SweepPoint, simulate

    points = sweep(arguments.overrides) if arguments.multirun else [arguments.overrides]
    configs = [compose(point) for point in points]  # a typo in the last point stops before the first run
    together = sum(config.privacy.epsilon for config in configs if config.privacy.mode != "none")
    results: list[dict[str, Any]] = []
    for number, (point, config) in enumerate(zip(points, configs, strict=True), start=1):
        if len(points) > 1:
            say(f"run {number} of {len(points)}: {' '.join(point)}")
        with progress() as report:
            outcome = simulate(config, report, point, SweepPoint(number, len(points), together))
        results.append({"run": str(outcome.path), "overrides": point, "summary": dict(outcome.summary)})
        if not arguments.json:
            _print_summary(results[-1])
    if arguments.json:
        print_json(results if arguments.multirun else results[0])
    elif len(points) > 1:
        _print_sweep(results, points)
    if len(points) > 1 and (said := _whole_sweep([Path(result["run"]) for result in results])):
        say(said)
    return 0


def _whole_sweep(runs: Sequence[Path]) -> str:
    """What all points together cost one patient: the server saw every one of them, also those not kept."""
    from fedimg import record
    from fedimg.record.together import together

    if not all((run / record.FILE).is_file() for run in runs):
        return ""
    cost = together([run / record.FILE for run in runs])
    if cost.epsilon is None:
        return "the sweep as a whole promises nothing: at least one of its runs does not"
    return (
        f"all {len(runs)} runs together: ε = {cost.epsilon:.4g} at δ = {cost.delta:g} for one {cost.unit} "
        f"in all of them, added or removed; every run counts, whichever is kept"
    )


def _print_sweep(results: Sequence[Mapping[str, Any]], points: Sequence[Sequence[str]]) -> None:
    """One line a point, named by what differs between the points."""
    alike = set.intersection(*(set(point) for point in points))
    rows = []
    for result, point in zip(results, points, strict=True):
        summary = result["summary"]
        spent = [site.get("epsilon") for site in (summary.get("sites") or {}).values()]
        epsilon = None if not spent or None in spent else max(spent)
        named = " ".join(override for override in point if override not in alike)
        figure = summary.get("headline", "auroc")
        score = (summary.get("test") or {}).get(figure)
        rows.append(
            {"point": named, "epsilon": epsilon, "figure": figure, "score": score, "run": result["run"]}
        )
    sys.stdout.write("\n")
    print_table(rows, ("point", "epsilon", "figure", "score", "run"))


def _print_summary(result: Mapping[str, Any]) -> None:
    summary = result["summary"]
    test = summary.get("test") or {}
    numbers = [f"{name} {value:.4f}" for name, value in test.items() if isinstance(value, float)]
    sys.stdout.write(f"\n{result['run']}\n")
    if numbers:
        sys.stdout.write(f"test: {', '.join(numbers)}\n")
    elif summary.get("test_absent"):
        sys.stdout.write(f"no test: {summary['test_absent']}\n")
    rows = [{"site": name, **spent} for name, spent in (summary.get("sites") or {}).items()]
    if any(spent.get("noise_multiplier") for spent in rows):
        print_table(rows, ("site", "epsilon", "delta", "noise_multiplier", "sampling_rate", "steps"))
    sys.stdout.write(f"report: {result['run']}/report.html\n")
