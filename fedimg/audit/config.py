"""Which audits a run makes of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The `audit` section.

    Attributes:
        empirical: at the end of a private run, measure the mechanism by public canaries on a shadow site, with
            the numbers of the costliest site's plan, and print the estimated ε beside the claimed one.
        battery: before a site's first round, hold the mechanism of this installation to its claims on generated
            data, once a process; what fails does not train. Off for tests only.
    """

    empirical: bool = True
    battery: bool = True
