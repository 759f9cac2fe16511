"""Results as a folder: for systems that pick up files. A folder is whole or not there, and names say nothing.

`DESTINATION/<hash of the key>/` holds `<hash of the content>.dcm` and, where there is a body, `alert.json` (FHIR).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Final

from fedimg.durable import fresh_folder, write_durably
from fedimg.errors import ConfigError, DataError
from sites.watch.deliveries import Delivery, Undelivered

_PIECE: Final = 1 << 20


class Folder:
    """One destination, which exists.

    Args:
        group: whether the destination's group may read, for a program of another user. Raises ConfigError without a folder.
    """

    kind = "folder"

    def __init__(self, destination: Path, *, group: bool = False) -> None:
        if not destination.is_dir():
            raise ConfigError(
                "a folder to deliver to", "none", "make it, with the rights of who picks up there"
            )
        self._destination, self._group = destination, group

    def deliver(self, delivery: Delivery) -> None:
        """On the disk when it returns; what was delivered before is left as it is. Raises Undelivered."""
        place = self._destination / hashlib.sha256(delivery.key.encode()).hexdigest()[:32]
        if place.is_dir():
            return
        for path in delivery.paths:
            if not path.is_file():
                remedy = "was it deleted after it was written?"
                raise Undelivered("a file that is gone", remedy, permanent=True)
        try:
            with fresh_folder(place) as partial:
                self._fill(partial, delivery)
        except DataError:
            raise Undelivered("a file where the folder goes", "remove it", permanent=True) from None
        except OSError as error:
            found = os.strerror(error.errno) if error.errno else "an error of the disk"
            raise Undelivered(found, "look at the destination's disk and rights", answered=False) from None

    def _fill(self, partial: Path, delivery: Delivery) -> None:
        for path in delivery.paths:
            _copy(path, partial)
        if delivery.body:
            write_durably(partial / "alert.json", delivery.body)
        if self._group:
            for file in partial.iterdir():
                file.chmod(0o640)
            partial.chmod(0o750)


def _copy(path: Path, folder: Path) -> None:
    """Under the hash of what was copied, so that the name is right even where the source was changed meanwhile."""
    digest, unnamed = hashlib.sha256(), folder / f".{secrets.token_hex(8)}.partial"
    handle = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as target, path.open("rb") as source:
        while piece := source.read(_PIECE):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    unnamed.rename(folder / f"{digest.hexdigest()[:32]}.dcm")
