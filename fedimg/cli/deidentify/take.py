"""`run` and `plan`: a folder's files to their decisions."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from fedimg.cli.console import print_json, progress, say
from fedimg.cli.deidentify import folders


def run(arguments: Any) -> int:
    """Exit code 0 only where every input has a decision."""
    from fedimg.intake import FolderInputs, run_intake

    config = folders.configuration(arguments.overrides, arguments.workers)
    items = FolderInputs(arguments.source)
    folders.check_apart(arguments.source, arguments.out, arguments.overrides)
    folder = folders.opened(arguments.out, arguments.overrides, config, create=True)
    with progress() as report:
        result = run_intake(
            items,
            folder,
            config,
            lambda done, total: report("de-identifying", done, total),
            lambda done, total: report("reading headers", done, total),
        )
    decided = result.released + sum(result.quarantined.values())
    if arguments.json:
        print_json(
            {
                "inputs": decided,
                "released": result.released,
                "resumed": result.resumed,
                "quarantined": {reason.value: count for reason, count in result.quarantined.items()},
                "positions": {reason.value: list(found) for reason, found in result.positions.items()},
                "bytes_in": result.bytes_in,
                "bytes_released": result.bytes_released,
                "public_key": folder.signing_key.public_bytes.hex(),
            }
        )
    else:
        sys.stdout.write(result.report() + "\n")
    found = len(items)
    if decided != found:
        say(f"{found} inputs are there, {decided} have a decision: files came or went; run the same again")
        return 1
    return 0


def plan(arguments: Any) -> int:
    """Nothing is written; a key is not needed, since pseudonyms do not show."""
    from fedimg.crypto.keys import SiteKey
    from fedimg.intake import FolderInputs
    from fedimg.intake.plan import plan as planned
    from fedimg.intake.report import REMEDIES

    config = folders.configuration(arguments.overrides)
    items = FolderInputs(arguments.source)
    with progress() as report:
        any_key = SiteKey.from_bytes(b"\0" * 32)
        entries = planned(items, any_key, config, lambda done, total: report("planning", done, total))
        if arguments.json:
            print_json([asdict(entry) for entry in entries])
            return 0
        reasons: Counter[Any] = Counter()
        actions: Counter[str] = Counter()
        masked = 0
        for entry in entries:
            reasons[entry.reason] += 1
            actions.update(entry.actions)
            masked += entry.masked
    released = reasons.pop(None, 0)
    sys.stdout.write(f"{released} would be released, {sum(reasons.values())} held back\n")
    for reason, count in sorted(reasons.items(), key=lambda found: (-found[1], found[0])):
        sys.stdout.write(f"  {count:6d}  {reason.value}: {REMEDIES[reason]}\n")
    done = ", ".join(f"{action} {count}" for action, count in sorted(actions.items()))
    sys.stdout.write(f"attributes by action: {done or 'none'}; areas of pixels masked: {masked}\n")
    return 0
