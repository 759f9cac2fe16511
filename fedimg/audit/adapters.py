"""The shipped releases by name, each with what connects it to the battery."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fedimg.audit.shipped import ShippedMechanism
    from fedimg.privacy.request import PrivacyRequest

# by name: the command line offers them without loading them
_ADAPTERS: Final = {
    "training": ("shipped", "ShippedMechanism"),
    "shares": ("shipped_shares", "SharedNoiseMechanism"),
    "clients": ("shipped_clients", "ClientMechanism"),
    "evaluation": ("shipped_histograms", "HistogramMechanism"),
}
RELEASES: Final = tuple(_ADAPTERS)


def adapter_of(releases: str, request: PrivacyRequest | None = None) -> ShippedMechanism:
    """What makes releases of a kind, one of `RELEASES`. The caller closes it."""
    module, name = _ADAPTERS[releases]
    made: ShippedMechanism = getattr(import_module(f"fedimg.audit.{module}"), name)(request)
    return made
