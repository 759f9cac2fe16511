"""How often drift alarms are false, and how soon a shift is found: many runs of made-up streams, the default settings.

    scripts/run python scripts/study_drift.py --runs 400 --out drift.json

Streams: ten numbers, a class of four, an embedding of 16. Nothing moves for 2,000 studies; then, in other runs, one number
moves by half a standard deviation and has 200 studies to be found. Prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from fedimg.evaluation.intervals import clopper_pearson
from fedimg.monitoring.drift import DriftConfig, DriftMonitor, Reference

NUMBERS, SHIFT, DELAY, HORIZON = 10, 0.5, 200, 2000


def streams(generator: np.random.Generator, size: int) -> dict[str, Reference]:
    """References of so many studies each."""
    found = {f"number-{k}": Reference("number", generator.standard_normal(size)) for k in range(NUMBERS)}
    found["class"] = Reference("class", generator.integers(0, 4, size).astype(np.float64))
    return found | {"embedding": Reference("vector", generator.standard_normal((size, 16)))}


def first_alarm(seed: int, studies: int, begins: int | None, size: int = 1000) -> int | None:
    """The study at whose look the first alarm came; None where none did."""
    generator = np.random.default_rng(seed)
    monitor = DriftMonitor(streams(generator, size), DriftConfig(), seed=seed)
    for study in range(studies):
        values: dict[str, Any] = {f"number-{k}": generator.standard_normal() for k in range(NUMBERS)}
        if begins is not None and study >= begins:
            values["number-0"] += SHIFT
        values |= {"class": generator.integers(0, 4), "embedding": generator.standard_normal(16)}
        if monitor.observe(values):
            return study
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs = arguments.runs
    seeds = np.random.SeedSequence(arguments.seed).generate_state(2 * runs)
    false = sum(first_alarm(int(seed), HORIZON, None) is not None for seed in seeds[:runs])
    delays, early = [], 0
    for k, seed in enumerate(seeds[runs:]):
        begins = 400 + k % 25  # anywhere between two looks
        alarm = first_alarm(int(seed), begins + DELAY, begins)
        early += alarm is not None and alarm < begins
        if alarm is None or alarm >= begins:
            delays.append(None if alarm is None else alarm - begins + 1)
    found = [delay for delay in delays if delay is not None]
    rates = {
        "false alarms in 2,000 studies": clopper_pearson(false, runs),
        "found within 200 studies": clopper_pearson(len(found), len(delays)),
    }
    for name, rate in rates.items():
        print(f"{name:32} {rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]")
    print(f"{'median delay, studies':32} {np.median(found):.0f}")
    if arguments.out is not None:
        rows = {name: [rate.value, rate.low, rate.high] for name, rate in rates.items()}
        content = {
            "runs": runs,
            "alarms before the shift": early,
            "median_delay": float(np.median(found)),
            **rows,
        }
        arguments.out.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
