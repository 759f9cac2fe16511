"""What `fedimg doctor --dial` sees of the coordinator's server: it dials as the site would, and asks as a stranger.

Nothing is signed and no node is named, so that a site which takes part meanwhile is not disturbed.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fedimg.checkup import Checkup, Looked, Seen, fail, warn
from fedimg.federation.manifest import split_address
from fedimg.flower.node_keys import CLOCK_AHEAD_S, CLOCK_BEHIND_S

if TYPE_CHECKING:
    from sites.doctor import Pinned

WAIT_S = 10.0
BEHIND_S = 60.0
"""A clock that is further behind the server's is a warning, long before requests are refused."""
_DATE_S = 2.0  # a date header is cut to whole seconds, and servers make it once a second
_REFUSALS = (401, 404)
_REACH = "open the way out to this address in the firewall, or set HTTPS_PROXY; is the server started?"


@dataclass(frozen=True, slots=True)
class Answered:
    """`date` of the answer, seconds since 1970; the local clock before it was asked for and after it came."""

    date: float
    before: float
    after: float


def dial_server(checks: Checkup, pinned: Looked[Pinned], address: str | None) -> None:
    """Connection, TLS, answer, clock. `address`: host:port, where that is not the bundle's."""
    dialled = split_address(address or pinned.value.manifest.address) if pinned.value else None
    target = Looked(pinned.check, dialled)
    line = checks.after(target, "address", lambda found: _connected(*found))
    roots = pinned.value.enrolment.roots if pinned.value else Path()
    host = dialled[0] if dialled else ""
    with closing(line.value or HTTPConnection("")):
        safe = checks.after(line, "tls", lambda found: _verified(found, host, roots))
        answer = checks.after(safe, "server", _refused)
        checks.after(answer, "clock", _clock)


def _connected(host: str, port: int) -> Seen[HTTPConnection]:
    proxy = None if proxy_bypass(host) else (getproxies().get("https") or getproxies().get("all"))
    way = "through the proxy of HTTPS_PROXY" if proxy else "directly"
    connection = HTTPConnection(host, port, timeout=WAIT_S)
    if proxy:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if parts.scheme != "http" or parts.username:
            return warn(
                "a proxy that this check cannot use", "see whether the site's process says `connected`"
            )
        connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=WAIT_S)
        connection.set_tunnel(host, port)
    try:
        connection.connect()
    except (OSError, HTTPException) as error:
        connection.close()
        return fail(f"no connection {way}: {_why(error)}", _REACH)
    return Seen(f"a connection {way}", connection)


def _verified(connection: HTTPConnection, host: str, roots: Path) -> Seen[HTTPConnection]:
    remedy = "accept the latest bundle; the coordinator has `fedimg provision renew` and `init --also NAME`"
    try:
        context = ssl.create_default_context(cafile=str(roots))
    except (OSError, ssl.SSLError):
        return fail("no roots to hold the server to", "fedimg provision accept HOME BUNDLE")
    try:
        connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return fail(f"a certificate that does not verify: {error.verify_message}", remedy)
    except OSError as error:
        return fail(f"no TLS there: {_why(error)}", "does another program listen at this address?")
    return Seen("the certificate is the pinned authority's, for this name", connection)


def _refused(connection: HTTPConnection) -> Seen[Answered]:
    before = time.time()
    try:
        connection.request("GET", "/", headers={"connection": "close"})
        answer = connection.getresponse()
    except (OSError, HTTPException) as error:
        return fail(f"no answer: {_why(error)}", "look at the server's log")
    after = time.time()
    try:
        date = parsedate_to_datetime(answer.headers["date"] or "").timestamp()
        seen = Answered(date, before, after)
    except (ValueError, TypeError):
        seen = None
    if answer.status not in _REFUSALS:
        return fail(f"status {answer.status} where a stranger is refused", "what else listens there?", seen)
    return Seen(f"it refuses a stranger ({answer.status}), as it should", seen)


def _clock(seen: Answered) -> Seen[None]:
    """Held against what Flower allows for signed requests. The two clocks' distance lies between two bounds."""
    least, most = seen.before - seen.date - _DATE_S, seen.after - seen.date
    remedy = "set this machine's clock, and the server's, by NTP"
    if least > CLOCK_AHEAD_S:
        return fail(f"{least:.0f} s ahead of the server's; at most {CLOCK_AHEAD_S:.0f} are allowed", remedy)
    if -most > CLOCK_BEHIND_S:
        return fail(f"{-most:.0f} s behind the server's; at most {CLOCK_BEHIND_S:.0f} are allowed", remedy)
    if least > CLOCK_AHEAD_S / 2 or -most > BEHIND_S:
        return warn(f"{least:.0f} to {most:.0f} s ahead of the server's", remedy)
    return Seen("as the server's")


def _why(error: Exception) -> str:
    """In words of the system or our own: a foreign text may be of whoever answers."""
    if isinstance(error, socket.gaierror):
        return "a name that does not resolve"
    if isinstance(error, TimeoutError):
        return f"nothing within {WAIT_S:.0f} s"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
