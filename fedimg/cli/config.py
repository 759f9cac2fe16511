"""`fedimg config`: what overrides compose to, without running anything."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from fedimg.cli.console import print_json, verb_parser


def run(argv: Sequence[str]) -> int:
    parser = verb_parser(
        "config", "Show the composed configuration as YAML, or the groups and their options."
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--groups", action="store_true", help="list the config groups and their options")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    arguments = parser.parse_intermixed_args(argv)
    from fedimg.config import keys

    if arguments.groups:
        options = keys.groups()
        if arguments.json:
            print_json(options)
        else:
            sys.stdout.writelines(f"{name}: {', '.join(values)}\n" for name, values in options.items())
        return 0
    keys.check(arguments.overrides)  # before anything heavy is imported
    from fedimg.config import composition

    config = composition.compose(arguments.overrides)
    if arguments.json:
        print_json(dataclasses.asdict(config))
    else:
        sys.stdout.write(composition.dump(config))
    return 0
