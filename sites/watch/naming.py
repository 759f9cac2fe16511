"""Names that may be seen: a study's key stands in addresses, file names and logs, and tells nothing without this home's key."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from fedimg.crypto.keys import KEY_BYTES, keyed_digest, read_secret, write_secret
from fedimg.durable import sync_folder

FILE: Final = "names.key"


class Names:
    """Keyed hashes of UIDs, the same for as long as the home lives.

    Raises DataError for a key file that others may read.
    """

    def __init__(self, root: Path) -> None:
        path = root / FILE
        if not path.exists():
            write_secret(path, secrets.token_bytes(KEY_BYTES))
            sync_folder(root)  # without it no study would be known again
        self._key = read_secret(path)

    def of(self, kind: str, *parts: str) -> str:
        """32 hexadecimal digits; what is of one kind is never equal to what is of another."""
        return keyed_digest(self._key, kind.encode(), *(part.encode() for part in parts)).hex()[:32]

    def study(self, study_uid: str) -> str:
        """The store's key of a study."""
        return self.of("study", study_uid)
