"""Kill a training site at random moments: does its ledger hold for what the receiver got?

    python scripts/study_kill_training.py [--kills 200] [--rounds 60] [--json FILE]

Each run has T rounds of one noised step. The site is a process that answers the server's instructions; it
is killed (SIGKILL) at a moment drawn uniformly from its start to a few steps on, started again, and asked
the same question again. What is judged is what the *receiver* holds: whole answers, distinct ones counted.

    released ≤ charged ≤ released + kills, and charged ≤ T + r
    no two released vectors have noise in common, judged on the noise itself, which the study takes from
        inside the mechanism: |cos| of each pair × √P, against the normal law at 1e-6 over all pairs
    one run with a single retry is killed until the site declines: T + 1 charges, not one more
    one run of the insecure test mode, killed too, ends with the very model of an unbroken one
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import struct
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: children are forked

import numpy as np
import numpy.typing as npt
import torch
from killed_training import Child, Receiver, join, new_home, terms_of, work
from scipy.stats import norm

from fedimg.client_round import Terms
from fedimg.home import SiteHome
from fedimg.privacy.stated import statement_of

STEPS_ON = 2.0
FALSE_ALARM = 1e-6


def run(place: Path, terms: Terms, kills: int, chance: random.Random, span_s: float) -> tuple[Receiver, int]:
    """One run to its end, with so many kills on the way; returns the receiver and the kills that were."""
    insecure = terms.insecure_seed is not None
    root, noise = new_home(place, insecure=insecure).root, place / "noise"
    noise.mkdir()
    first = join(root, terms)  # the plan is calibrated once, as in any run that goes on
    receiver = Receiver(terms, np.asarray(first.network.initial, dtype=np.float64))
    if first.ledger is not None:
        first.ledger.disconnect()
    del first
    done = 0
    while done < kills and not receiver.finished:
        child = Child.start(root, terms, noise)
        work(child, receiver, time.monotonic() + chance.uniform(0.0, span_s))
        child.kill()
        done += 1
    if not receiver.finished:
        child = Child.start(root, terms, noise)
        work(child, receiver, None)
        child.end()
    return receiver, done


def charged(root: Path, terms: Terms) -> int:
    home = SiteHome.open(root)
    return statement_of(home.ledger, home.signing_key).runs[terms.run_id].charged.get("train", 0)


def noises(place: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Release → its noise, as the site's processes told it, each in a file; a torn last record is of no release."""
    found = {}
    for file in (place / "noise").iterdir():
        data, at = file.read_bytes(), 0
        while at + 8 <= len(data):
            name, size = struct.unpack("<II", data[at : at + 8])
            end = at + 8 + name + size
            if end > len(data):
                break
            found[data[at + 8 : at + 8 + name].decode()] = np.frombuffer(data[at + 8 + name : end])
            at = end
    return found


def largest_cosine(vectors: list[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """(largest |cos|·√P of all pairs, what independent noise passes with chance 1e-6)."""
    rows = np.stack([v / np.linalg.norm(v) for v in vectors])
    cosines = np.abs(rows @ rows.T)[np.triu_indices(len(rows), 1)]
    bound = -norm.ppf(FALSE_ALARM / (2 * len(cosines)))
    return float(cosines.max() * math.sqrt(rows.shape[1])), float(bound)


def judged(place: Path, receiver: Receiver, kills: int, *, finishes: bool) -> dict[str, Any]:
    terms = receiver.terms
    released, spent = len(receiver.received), charged(place, terms)
    most = terms.rounds + terms.privacy.retries
    holds = released <= spent <= min(released + kills, most)
    whole = released == terms.rounds if finishes else receiver.declined or released == terms.rounds
    return {
        "kills": kills,
        "released": released,
        "charged": spent,
        "most": most,
        "declined": receiver.declined,
        "holds": holds and whole,
    }


def study(kills: int, rounds: int, seed: int) -> dict[str, Any]:
    chance = random.Random(seed)  # noqa: S311 - moments of a study, nothing secret
    trials: list[dict[str, Any]] = []
    vectors: list[npt.NDArray[np.float64]] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        test = terms_of("unbroken", rounds, rounds, insecure=True)
        unbroken, _ = run(place / "unbroken", test, 0, chance, 0.0)
        began = time.monotonic()  # the calibration is in memory by now
        again, _ = run(place / "again", replace(test, run_id="again"), 0, chance, 0.0)
        span = (time.monotonic() - began) / rounds * STEPS_ON * 2
        broken, done = run(place / "broken", replace(test, run_id="broken"), rounds // 2, chance, span)
        same = all(np.array_equal(other.vector, unbroken.vector) for other in (again, broken))
        in_test_mode = {"kills": done, "same_model_as_unbroken": same}
        short = terms_of("short", rounds, 1, insecure=False)
        receiver, done = run(place / "short", short, min(4 * rounds, kills // 2), chance, span)
        trials.append(judged(place / "short", receiver, done, finishes=False))
        # one that goes to its end belongs to every study
        while not vectors or sum(trial["kills"] for trial in trials) < kills:
            terms = terms_of(f"run-{len(trials)}", rounds, rounds, insecure=False)
            here = place / terms.run_id
            missing = kills - sum(trial["kills"] for trial in trials)
            receiver, done = run(here, terms, min(max(missing, rounds // 2), rounds), chance, span)
            trials.append(judged(here, receiver, done, finishes=True))
            told = noises(here)
            vectors += [told[name] for names in receiver.received.values() for name in names]
    cosine, bound = largest_cosine(vectors)
    holds = all(trial["holds"] for trial in trials) and cosine <= bound and same
    return {
        "verdict": "pass" if holds else "fail",
        "kills": sum(trial["kills"] for trial in trials),
        "runs": trials,
        "released": sum(t["released"] for t in trials),
        "charged": sum(t["charged"] for t in trials),
        "largest_cosine": round(cosine, 3),
        "cosine_bound": round(bound, 3),
        "test_mode": in_test_mode,
        "span_s": round(span, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=60, help="T of each run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    found = study(arguments.kills, arguments.rounds, arguments.seed)
    found["seconds"] = round(time.monotonic() - began, 1)
    print(f"{'kills':>6} {'released':>9} {'charged':>8} {'T + r':>6}  holds")
    for trial in found["runs"]:
        print(
            f"{trial['kills']:6d} {trial['released']:9d} {trial['charged']:8d} {trial['most']:6d}  "
            f"{'yes' if trial['holds'] else 'NO'}"
        )
    print(
        f"{found['kills']} kills, {found['released']} distinct vectors received, {found['charged']} charged; "
        f"largest |cos|·√P of two noises {found['largest_cosine']} (bound {found['cosine_bound']}); "
        f"test mode: {'the model of the unbroken run' if found['test_mode']['same_model_as_unbroken'] else 'ANOTHER MODEL'}"
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0 if found["verdict"] == "pass" else 1


if __name__ == "__main__":
    sys.exit(main())
