"""What the owner of a simulation is told on stderr of each site's data: one line where it came, one where it went.

The owner of a simulation is every site's operator too, so counts may stand here. They go to no server and
into no report of data that are not public.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from fedimg.client_round import Site
from fedimg.errors import DataError
from fedimg.intake import IntakeResult
from fedimg.operator_log import tell_operator
from fedimg.values import Quarantine


def say(text: str) -> None:
    """One line on stderr."""
    sys.stderr.write(text + "\n")


def of_sites(found: int, asked: int) -> None:
    """The source's own division counts, whatever `sites` says."""
    whose = "site" if found == 1 else "sites"
    say(
        f"{found} {whose} by the source's own division, not sites={asked}; data.partition=iid divides by patient"
    )


def after_intake(name: str, home: Path, given: int, result: IntakeResult) -> None:
    """How many of the files that were given to a site it accepted, and why not the others."""
    if not given:
        return  # arrays that are declared public have no files
    say(f"{name}: {result.released} of {given} usable{_reasons(result.quarantined, home)}")


def after_loading(site: Site, classes: tuple[str, ...]) -> None:
    """What was left out when the images were decoded, and whether a training can come of the rest."""
    home = site.home.root
    if any(site.data.held_back.values()):
        count = sum(site.data.held_back.values())
        say(f"{site.name}: {count} left out when loading{_reasons(site.data.held_back, home)}")
    labels = torch.cat([site.data.train.labels, site.data.validation.labels])
    found = torch.unique(labels) if site.network.task == "classification" else labels
    if not len(site.data.train.labels):
        nothing = DataError(
            f"at least one example to train on at {site.name}",
            "none",
            "see above what was held back; as the site is, it adds nothing but its noise",
        )
        tell_operator(home, "loading", nothing)
        say(f"error: {nothing}")
    elif site.network.task == "classification" and len(found) == 1 and len(classes) > 1:
        say(f"{site.name}: all of its examples are {classes[int(found[0])]}; alone it could learn nothing")


def _reasons(counts: Mapping[Quarantine, int], home: Path) -> str:
    held = [(reason, count) for reason, count in counts.items() if count]
    if not held:
        return ""
    said = ", ".join(f"{count} {reason.value.replace('_', ' ')}" for reason, count in sorted(held))
    return f" ({said}); see `fedimg site log {home}`"
