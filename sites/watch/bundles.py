"""The released models that a watcher was told of: verified before anything in them is parsed, then registered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedimg.bundle import open_sealed
from fedimg.crypto.public_key import public_key
from fedimg.errors import DataError
from fedimg.prediction.routing import Words, rules_of
from sites.watch.settings import WatchSettings
from sites.watch.store.models import Registered
from sites.watch.store.whole import Store


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


def registered(settings: WatchSettings, store: Store) -> dict[str, Words]:
    """What bundles say, of all that look at studies: those of the settings, and those that were added since.

    Raises as `verified`.
    """
    trusted, now = trusted_keys(settings), time.time()
    for folder in settings.bundles:
        one, _ = verified(Path(folder), trusted)
        store.models.add(one, "settings", now)
    return {one.digest: _words(one, trusted) for one in store.models.working()}


def _words(one: Registered, trusted: tuple[bytes, ...]) -> Words:
    """Raises DataError where its folder holds another bundle by now: workers could not load what is to speak."""
    found, words = verified(one.folder, trusted)
    if found.digest != one.digest:
        raise DataError(
            f"{one.name} {one.version} in the folder that it was registered with",
            f"{found.name} {found.version}",
            "put it back, or retire it: fedimg watch models SETTINGS --retired DIGEST",
        )
    return words
