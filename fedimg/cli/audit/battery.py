"""The conformance battery: does the mechanism keep its claims? On generated data, in seconds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from fedimg.cli.console import print_json, print_table, verb_parser

_ABOUT = (
    "Hold the shipped mechanism to its claims: sensitivity, noise, reuse, shape, sampler, ledger, upload and canaries, "
    "by exact tests on generated data. All tests together give a false alarm in one correct run of 10,000. "
    "docs/audit-battery.md says how another mechanism is connected."
)


def run(argv: Sequence[str]) -> int:
    """Exit code 0 where every check that could be made passed, 1 where one failed."""
    parser = verb_parser("audit battery", _ABOUT)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--report", type=Path, metavar="PAGE.html", help="write a page with pictures")
    arguments = parser.parse_args(argv)

    import torch

    from fedimg.audit import battery
    from fedimg.audit.shipped import ShippedMechanism

    torch.set_num_threads(1)  # many small steps: threads only wait for each other
    mechanism = ShippedMechanism()
    try:
        report = battery.run(mechanism)
    finally:
        mechanism.close()
    if arguments.report is not None:
        from fedimg.report.battery import render

        arguments.report.write_text(render(report.as_dict() | {"figures": report.figures}), encoding="utf-8")
    if arguments.json:
        print_json(report.as_dict())
    else:
        rows = [
            {"check": c["name"], "verdict": c["verdict"], "p": c["p"], "what": c["detail"]}
            for c in report.as_dict()["checks"]
        ]
        print_table(rows, ("check", "verdict", "p", "what"))
        sys.stdout.write(
            f"\n{report.verdict}: {len(report.failed)} of {len(rows)} checks failed, {report.seconds:.1f} s\n"
        )
    return 0 if report.verdict == "pass" else 1
