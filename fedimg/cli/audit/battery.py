"""The conformance battery: does the mechanism keep its claims? On generated data, in seconds."""

from __future__ import annotations

from collections.abc import Sequence

from fedimg.audit.adapters import RELEASES, adapter_of
from fedimg.cli.audit import _output
from fedimg.cli.console import print_table

_ABOUT = (
    "Hold the shipped mechanism to its claims: sensitivity, noise, reuse, shape, sampler, ledger, upload and canaries, "
    "by exact tests on generated data. All tests together give a false alarm in one correct run of 10,000. "
    "docs/audit-battery.md says how another mechanism is connected."
)


def run(argv: Sequence[str]) -> int:
    """Exit code 0 where every check that could be made passed, 1 where one failed."""
    parser = _output.parser("battery", _ABOUT)
    parser.add_argument(
        "--releases",
        choices=RELEASES,
        default="training",
        help="a site's training steps (default), the secure sums of privacy=distributed, the sums over clients with "
        "privacy=client_level, or a site's evaluations",
    )
    arguments = parser.parse_args(argv)
    _output.check(arguments.report)

    import torch

    from fedimg.audit import battery
    from fedimg.report.battery import render

    torch.set_num_threads(1)  # many small steps: threads only wait for each other
    mechanism = adapter_of(arguments.releases)
    try:
        report = battery.run(mechanism)
    finally:
        mechanism.close()
    found = report.as_dict()
    if not arguments.json:
        rows = [
            {"check": c["name"], "verdict": c["verdict"], "p": c["p"], "what": c["detail"]}
            for c in found["checks"]
        ]
        print_table(rows, ("check", "verdict", "p", "what"))
    html = render(found | {"figures": report.figures}) if arguments.report is not None else ""
    lines = [f"\n{report.mechanism}: {len(report.failed)} of {len(found['checks'])} checks failed"]
    return _output.finish(found, arguments.report, html, lines, as_json=arguments.json)
