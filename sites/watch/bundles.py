"""The released models that a watcher was told of: verified before anything in them is parsed, then registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedimg.bundle import open_sealed
from fedimg.crypto.public_key import public_key
from fedimg.prediction.routing import Words, rules_of
from sites.watch.settings import WatchSettings
from sites.watch.store.models import Registered


def trusted_keys(settings: WatchSettings) -> tuple[bytes, ...]:
    """Raises ConfigError for what is no key."""
    return tuple(public_key(text) for text in settings.trusted_keys)


def verified(folder: Path, trusted: Sequence[bytes]) -> tuple[Registered, Words]:
    """A bundle as it is registered, and all that it says.

    Raises DataError: a bundle that another key has signed, that was changed, or that says what no bundle may.
    """
    opened = open_sealed(folder, trusted)
    words = rules_of(opened)
    said = words.metadata
    point = said.operating_point
    shown = {
        "task": said.task,
        "description": said.description,
        "classes": list(said.classes),
        "findings": [one.to_json() for one in said.findings],
        "modalities": list(said.modalities),
        "body_parts": list(said.body_parts),
        "least_images": said.least_images,
        "threshold": said.threshold,
        "temperature": said.temperature,
        "operating_point": None if point is None else asdict(point),
        "signer": opened.signer.hex(),
        "run": said.run,
    }
    return Registered(opened.digest, said.name, said.version, said.kind, folder, "active", shown), words
