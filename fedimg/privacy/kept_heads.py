"""What a server keeps of each site's ledger, so that a ledger that was put back shows.

A site cannot see that its own disk was restored to an earlier day; whoever holds the last head can. The
server gives it back when the site joins, and checks that what an answer names stands behind it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedimg.durable import write_durably
from fedimg.errors import LedgerError, MessageError
from fedimg.privacy.chain import Head, head_of


class KeptHeads:
    """The last head, and the number of the last reservation, of each site; durable from each change on.

    Raises LedgerError where the file is there and does not parse.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[str, frozenset[str]] = {}
        self._kept: dict[str, tuple[Head, int]] = {}
        if not path.exists():
            return
        try:
            for site, entry in json.loads(path.read_bytes()).items():
                self._kept[str(site)] = (head_of(entry["head"]), int(entry["reserved"]))
        except (ValueError, KeyError, TypeError, AttributeError, LedgerError):
            raise LedgerError(
                "the heads that the server keeps", "an unreadable file", "restore it from its backup"
            ) from None

    def known(self, site: str) -> Head | None:
        """To be given to the site when it joins."""
        return self._kept[site][0] if site in self._kept else None

    def joined(self, site: str, head: Head, reserved: int, pending: Sequence[str] = ()) -> None:
        """Note a site's head, once the site has checked the one known before.

        `pending`: entries before it, behind answers that the site had made and may have to send once more; it has
        vouched for them with a ledger that was not put back.
        """
        self._pending[site] = frozenset(pending)
        self._keep(site, head, reserved)

    def accept(self, site: str, releases: Sequence[str]) -> None:
        """Take up the releases that an answer names.

        The same answer again, after a crash, names the same releases.

        Raises:
            MessageError: names that are no entries, or that stand before the head known: put back or forked.
        """
        if not releases:
            return
        try:
            heads = [head_of(name) for name in releases]
        except LedgerError:
            raise MessageError(
                "releases named by their ledger's entries", "other names", "the answer was discarded"
            ) from None
        known = self.known(site)
        if known is not None and heads[-1] == known:
            return
        if self._pending.get(site, frozenset()).issuperset(releases):
            return
        last = 0 if known is None else known.sequence
        for head in heads:
            if head.sequence <= last:
                raise MessageError(
                    f"releases behind entry {last} of this site's ledger",
                    f"entry {head.sequence}: the ledger was put back or forked",
                    "the answer was discarded; the site recovers its ledger with `fedimg ledger recover`",
                )
            last = head.sequence
        self._keep(site, heads[-1], self._kept[site][1] if site in self._kept else 0)

    def _keep(self, site: str, head: Head, reserved: int) -> None:
        self._kept[site] = (head, reserved)
        text: dict[str, Any] = {
            name: {"head": kept.name, "reserved": number}
            for name, (kept, number) in sorted(self._kept.items())
        }
        write_durably(self._path, json.dumps(text, indent=1) + "\n", mode=0o644)
