"""Who may look: a token in a file, sessions in this process's memory, and few wrong tries.

The token is 256 bits of the operating system's entropy in a file of mode 0600: whoever can read it may log in. A
session is known to the browser by a random cookie and to this process by that cookie's digest. Whoever renews the
token ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fedimg.crypto.keys import read_private, write_secret
from fedimg.durable import write_durably
from fedimg.errors import DataError

_BYTES = 32
_FORM = re.compile("[0-9a-f]{64}")
_MOST_ADDRESSES = 1024


class AccessToken:
    """A token in a file, made when it is first asked for.

    Args:
        path: its file; the folder exists.

    Raises:
        DataError: the file is no token, or others may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            write_secret(path, _new())
        self.read()

    def renew(self) -> str:
        """Another token. The former one, and every session that began with it, ends with the next request."""
        write_durably(self.path, _new(), mode=0o600)
        return self.read()

    def read(self) -> str:
        """Raises DataError where the file is no token, or others may read it."""
        remedy = "make another one: delete the file and start again"
        text = read_private(self.path, remedy).decode("ascii", "replace").strip()
        if not _FORM.fullmatch(text):
            raise DataError("an access token of 64 hexadecimal digits", "another text", remedy)
        return text

    def generation(self) -> bytes:
        """A digest of the token as it is now: what sessions are held to."""
        return hashlib.sha256(b"fedimg session\0" + self.read().encode()).digest()

    def matches(self, said: str) -> bool:
        """In a time that does not depend on where two tokens differ."""
        return hmac.compare_digest(_digest(said), _digest(self.read()))


@dataclass(frozen=True, slots=True)
class Session:
    """One login. `csrf`: what its forms carry. `ends`: by the table's clock. `generation`: of the token it began with.

    `who`: the name that was given at the login, and what tells this login from others of that name. Everybody has the
    same token: a name is said, not proven.
    """

    csrf: str = field(repr=False)
    ends: float
    generation: bytes = field(repr=False)
    who: str = ""


@dataclass
class Sessions:
    """The logins of one process.

    Attributes:
        lifetime_s: of a session, whatever it does. most: at a time; the oldest makes room.
    """

    lifetime_s: float = 12 * 3600.0
    most: int = 32
    clock: Callable[[], float] = time.monotonic
    _table: dict[bytes, Session] = field(default_factory=dict, init=False, repr=False)

    def begin(self, generation: bytes, named: str = "") -> str:
        """A new session, of somebody who calls themselves so; what its cookie says."""
        name = secrets.token_urlsafe(_BYTES)
        self._drop_ended()
        while len(self._table) >= self.most:
            del self._table[next(iter(self._table))]
        ends = self.clock() + self.lifetime_s
        key = _digest(name)
        who = f"{named} [{key.hex()[:8]}]" if named else ""
        self._table[key] = Session(secrets.token_urlsafe(_BYTES), ends, generation, who)
        return name

    def find(self, name: str, generation: bytes) -> Session | None:
        """The session of a cookie, while it lasts and the token is the one that it began with."""
        found = self._table.get(_digest(name))
        if found is None or found.ends <= self.clock():
            return None
        return found if hmac.compare_digest(found.generation, generation) else None

    def end(self, name: str) -> None:
        self._table.pop(_digest(name), None)

    def _drop_ended(self) -> None:
        now = self.clock()
        self._table = {name: one for name, one in self._table.items() if one.ends > now}


@dataclass
class WrongTries:
    """Counts wrong tokens by address: after `most` of them within `within_s` even the right one has to wait.

    Guessing 256 bits is hopeless anyway; this keeps a log readable and a processor free.
    """

    most: int = 5
    within_s: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _tries: dict[str, list[float]] = field(default_factory=dict, init=False, repr=False)

    def wait_s(self, address: str) -> int:
        """Whole seconds until this address may try again; 0 for now."""
        now = self.clock()
        recent = [at for at in self._tries.get(address, ()) if at > now - self.within_s]
        if len(recent) < self.most:
            return 0
        return max(1, round(recent[-self.most] + self.within_s - now))

    def note(self, address: str) -> None:
        tries = self._tries.pop(address, [])
        while len(self._tries) >= _MOST_ADDRESSES:
            del self._tries[next(iter(self._tries))]
        self._tries[address] = [*tries, self.clock()][-self.most :]

    def forget(self, address: str) -> None:
        self._tries.pop(address, None)


class LoginForms:
    """CSRF tokens of the login form, bound to a cookie of their own: this process keeps nothing of who never logs in."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_BYTES)

    def new_cookie(self) -> str:
        return secrets.token_urlsafe(_BYTES)

    def csrf(self, cookie: str) -> str:
        """What a form has to say that is sent with this cookie."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _new() -> bytes:
    return secrets.token_hex(_BYTES).encode() + b"\n"
