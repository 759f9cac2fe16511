"""What the settings say of an archive that is asked for studies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from fedimg.errors import ConfigError
from fedimg.web.serving import is_loopback

_MODALITY = re.compile(
    r"[A-Z0-9_]{1,16}"
)  # a code string without blanks (PS3.5 6.2): it goes into an address


@dataclass(frozen=True)
class PollSettings:
    """An archive that is asked for new images by DICOMweb.

    Attributes:
        url: of its service: what stands before /studies. https, or http on this machine.
        token: a file with a bearer token; login: a file with user:password. Either of mode 0600, read anew at each round.
        authority: PEM of the roots to verify with, instead of the system's. certificate, key: to be known by.
        modalities: of series that are taken; none named: all.
        every_s: between two rounds of questions.
        overlap_days: for so many days after a study's date images that come late are seen.
        first_days: at the first start studies of so many days before are taken, too.
    """

    url: str
    token: str | None = None
    login: str | None = None
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None
    modalities: tuple[str, ...] = ()
    every_s: float = 30.0
    overlap_days: int = 2
    first_days: int = 1

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise ConfigError("an address under poll.url", "one that cannot be read", "change it") from None
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
        more = parts.username or parts.password or parts.query or parts.fragment or not self.url.isascii()
        _check(secure and bool(host), "an https address under poll.url", "http is for this machine alone")
        _check(not more, "poll.url of host and path", "put user and password into a file under poll.login")
        service = not parts.path.rstrip("/").endswith("/studies")
        _check(service, "under poll.url what stands before /studies", "leave /studies out")
        _check(self.token is None or self.login is None, "a token or a login under poll", "leave one out")
        _check((self.certificate is None) == (self.key is None), "poll.certificate and poll.key", "name both")
        _check(
            all(_MODALITY.fullmatch(one) for one in self.modalities),
            "poll.modalities as codes like CT",
            "see PS3.3 C.7.3.1.1.1",
        )
        _check(1 <= self.every_s <= 86400, "poll.every_s from 1 to 86400", "change it")
        days = 0 <= self.overlap_days <= 31 and 0 <= self.first_days <= 365
        _check(days, "poll.overlap_days from 0 to 31, and first_days from 0 to 365", "change them")


def _check(holds: bool, expected: str, remedy: str) -> None:
    if not holds:
        raise ConfigError(expected, "another", remedy)
