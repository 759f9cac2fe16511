"""A public key as people pass it on: `ed25519:` and 64 hexadecimal digits, or a file with that line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from fedimg.errors import ConfigError

_FORM: Final = re.compile(r"ed25519:([0-9a-f]{64})")
_LONGEST: Final = 200


def public_key(text: str) -> bytes:
    """The 32 bytes. Raises ConfigError for a text that is neither the key nor a file with it."""
    found = _FORM.fullmatch(text)
    if found is None and Path(text).is_file():
        with Path(text).open("rb") as file:
            found = _FORM.fullmatch(file.read(_LONGEST).decode("ascii", "replace").strip())
    if found is None:
        expected = "a public key as ed25519:HEX, or a file with it"
        raise ConfigError(expected, "another value", "copy the line of FILE.pub whole")
    return bytes.fromhex(found[1])
