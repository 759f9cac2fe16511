"""Every planted bug by the check meant for it, and correct runs by none: the battery's own study.

    python scripts/study_battery.py [--releases KIND] [--seeds 20] [--clean 200] [--only WORD] [--json]

One process, one thread; a run of the battery takes about 1.5 s of processor time. With the defaults about
25 minutes; of the other kinds of release (clients, evaluation) about 10 each, of secure sums (shares) two hours.
Exit code 0 where every bug was flagged in every seed and no correct run was.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from fedimg.audit import battery
from fedimg.audit.adapters import RELEASES, adapter_of
from fedimg.audit.shipped import ShippedMechanism

PLANTED = Path(__file__).resolve().parent.parent / "tests" / "audit" / "planted"


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"planted_{name}", PLANTED / f"{name}.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


Case = tuple[str, str, bool, Callable[[], ShippedMechanism], Any]


def one_run(made: Callable[[], ShippedMechanism], bugs: ModuleType, bug: Any, seed: int) -> battery.Report:
    mechanism = made()
    try:
        with bugs.planted(bug, seed):
            return battery.run(mechanism, seed)
    finally:
        mechanism.close()


def cases(releases: str, bugs: ModuleType) -> list[Case]:
    """(name, check meant for it, listed, mechanism, patch)."""
    if releases != "training":
        planted = {"clients": bugs.CLIENTS, "evaluation": bugs.EVALUATION, "shares": bugs.SHARES}[releases]
        return [(bug.name, bug.meant, False, partial(adapter_of, releases), bug) for bug in planted]
    shares = loaded("shares")
    found: list[Case] = [
        (bug.name, bug.meant, bug.listed, ShippedMechanism, bug) for bug in (*bugs.LISTED, *bugs.OTHERS)
    ]
    through_adapter = [
        ("h too large", "noise.share", lambda: shares.SharedMechanism(used=10)),
        ("a second masked input in a round", "upload.inputs", lambda: shares.SharedMechanism(messages=2)),
        ("project-salted ledger key", "ledger.key", lambda: shares.KeyedMechanism(salted=True)),
    ]
    return [*found, *((name, meant, True, made, None) for name, meant, made in through_adapter)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--releases", choices=RELEASES, default="training", help="which are looked at")
    parser.add_argument("--seeds", type=int, default=20, help="runs of each bug")
    parser.add_argument("--clean", type=int, default=200, help="runs of the mechanism as it is")
    parser.add_argument("--only", default="", metavar="WORD", help="bugs whose name holds it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bugs = loaded("bugs" if arguments.releases == "training" else "releases")

    alarms: Counter[str] = Counter()
    processor: list[float] = []
    for seed in range(arguments.clean):
        begin = time.process_time()
        alarms.update(one_run(partial(adapter_of, arguments.releases), bugs, None, 1000 + seed).failed)
        processor.append(time.process_time() - begin)
        progress(f"clean {seed + 1} of {arguments.clean}")
    rows = []
    for name, meant, listed, made, bug in cases(arguments.releases, bugs):
        if arguments.only not in name:
            continue
        flagged = 0
        for seed in range(arguments.seeds):
            flagged += meant in one_run(made, bugs, bug, seed).failed
            progress(f"{name} {seed + 1} of {arguments.seeds}")
        rows.append(
            {"bug": name, "listed": listed, "check": meant, "flagged": flagged, "runs": arguments.seeds}
        )
    result = {
        "study": "battery",
        "releases": arguments.releases,
        "clean_runs": arguments.clean,
        "false_alarms": dict(alarms),
        "processor_seconds_median": float(np.median(processor)) if processor else None,
        "bugs": rows,
    }
    show(result, as_json=arguments.json)
    return 0 if not alarms and all(row["flagged"] == row["runs"] for row in rows) else 1


def show(result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1, ensure_ascii=False))
        return
    for row in result["bugs"]:
        mark = " " if row["flagged"] == row["runs"] else "!"
        origin = "listed" if row["listed"] else "other"
        print(f"{mark} {row['flagged']:>3} of {row['runs']}  {row['check']:<22} {origin:<7} {row['bug']}")
    print(f"{sum(result['false_alarms'].values())} false alarms in {result['clean_runs']} correct runs")
    if result["processor_seconds_median"] is not None:
        print(f"median processor time of a correct run: {result['processor_seconds_median']:.2f} s")


def progress(text: str) -> None:
    sys.stderr.write(f"\r{text:<60}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
