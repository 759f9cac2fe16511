"""Secure sums of many sites in one process: 50 among everybody, 1,000 on the sparse graph, some dropping out.

    python scripts/study_secagg.py [--sites 50 1000] [--size 10000] [--dropped 0.1] [--json FILE]

Each is a whole sum by the sites' and the coordinator's own steps and bytes, every byte counted, and must equal the plain
sum of the survivors exactly. A site that drops out does so from a random exchange on. Above 50 sites t is 0.8 K, and
c a twentieth of K; up to 50 the usual threshold and one colluder. 1,000 sites take about five minutes of one
core, most of it signatures: each site verifies everybody's keys, inputs and confirmations itself.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fedimg.crypto.keys import SigningKey
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.encoding import Encoded, word_type
from fedimg.secagg.graph import COMPLETE_UP_TO, sparse
from fedimg.secagg.plan import SumPlan, usual_threshold
from fedimg.secagg.site import SumSite

EXCHANGES = 5


def one_sum(number: int, size: int, share: float, chance: random.Random) -> dict[str, Any]:
    keys = {f"site-{i:05d}": SigningKey(chance.randbytes(32)) for i in range(number)}
    threshold, colluders = usual_threshold(number), 1
    if number > COMPLETE_UP_TO:
        threshold, colluders = round(0.8 * number), number // 20
    degree, shares = sparse(number, threshold, colluders)
    plan = SumPlan(
        "study",
        {name: key.public_bytes for name, key in keys.items()},
        threshold,
        colluders,
        size,
        32,
        "",
        degree,
        shares,
    )
    rng = np.random.default_rng(chance.getrandbits(64))
    inputs = {name: rng.integers(-(2**18), 2**18, size) for name in plan.names}
    last = {name: chance.randrange(EXCHANGES) for name in chance.sample(plan.names, round(share * number))}
    sites = {name: SumSite(plan, "sum", name, key) for name, key in keys.items()}
    coordinator = SumCoordinator(plan, "sum")
    seconds: dict[str, float] = dict.fromkeys(keys, 0.0)
    sent: dict[str, int] = dict.fromkeys(keys, 0)
    received: dict[str, int] = dict.fromkeys(keys, 0)

    def answered(step: int, name: str, message: bytes) -> bytes:
        site, begin = sites[name], time.process_time()
        do = (
            site.advertise_keys,
            lambda: site.share_keys(message),
            lambda: site.masked_input(message, lambda: Encoded(inputs[name].astype(word_type(32)))),
            lambda: site.confirm(message),
            lambda: site.unmask(message),
        )[step]
        answer = do()
        seconds[name] += time.process_time() - begin
        sent[name] += len(answer)
        received[name] += len(message)
        return answer

    began, opened = time.process_time(), None
    messages: Any = dict.fromkeys(plan.names, b"")
    steps = (
        coordinator.keys,
        coordinator.sharing,
        coordinator.survivors,
        coordinator.confirmed,
        coordinator.opened,
    )
    for number_of_step, take in enumerate(steps):
        answers = {
            name: answered(number_of_step, name, message)
            for name, message in messages.items()
            if last.get(name, EXCHANGES) > number_of_step
        }
        messages = take(answers)
    opened = messages
    expected = np.sum([inputs[name] for name in opened.survivors], axis=0)
    whole = [name for name in plan.names if name not in last]
    return {
        "sites": number,
        "threshold": threshold,
        "colluders": colluders,
        "neighbours": degree or number - 1,
        "dropped": len(last),
        "survivors": len(opened.survivors),
        "equal": bool(np.array_equal(opened.total, expected)) and not coordinator.refused,
        "site_cpu_seconds": statistics.median(seconds[name] for name in whole),
        "site_kib_sent": statistics.median(sent[name] for name in whole) / 1024,
        "site_kib_received": statistics.median(received[name] for name in whole) / 1024,
        "coordinator_cpu_seconds": time.process_time() - began - sum(seconds.values()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sites", type=int, nargs="+", default=[50, 1000])
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--dropped", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - who drops out of a study, nothing secret
    found = []
    print(
        f"{'sites':>6} {'t':>4} {'c':>3} {'neighbours':>10} {'dropped':>8} {'survivors':>9} {'equal':>6}  a site: CPU, sent, received  coordinator"
    )
    for number in arguments.sites:
        one = one_sum(number, arguments.size, arguments.dropped, chance)
        found.append(one)
        print(
            f"{one['sites']:6} {one['threshold']:4} {one['colluders']:3} {one['neighbours']:10} {one['dropped']:8} "
            f"{one['survivors']:9} {'yes' if one['equal'] else 'NO':>6}  {one['site_cpu_seconds']:.3f} s, "
            f"{one['site_kib_sent']:.0f} KiB, {one['site_kib_received']:.0f} KiB  {one['coordinator_cpu_seconds']:.2f} s",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": arguments.size, "sums": found}, indent=1) + "\n")
    return 0 if all(one["equal"] for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
