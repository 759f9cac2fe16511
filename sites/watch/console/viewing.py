"""Every view of patient data is in the audit trail before it is sent. Where it cannot be written, nothing is shown."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.requests import Request

from fedimg.errors import FedimgError
from fedimg.web.access import Session
from fedimg.web.refusal import Refused
from sites.watch.console.actions import Actions

_NAMED_AT_ONCE = 20


def who_asks(request: Request) -> str:
    """As the login says; a program with the token is "api"."""
    session = request.state.session
    if not isinstance(session, Session):
        return "api"
    return session.who or "console"


@dataclass(frozen=True)
class Viewing:
    """One request's. `who`: as above."""

    actions: Actions
    who: str

    def note(self, about: str, what: str) -> None:
        """Raises Refused where the entry cannot be written."""
        try:
            self.actions.seen(about, what, self.who)
        except (FedimgError, sqlite3.Error, OSError):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "The audit entry of this view could not be written; nothing is shown.",
                {"retry-after": "10"},
            ) from None


@dataclass
class Following:
    """A stream's: what it begins with, then each study that comes to it, once.

    Args:
        page: what the entries call it.
    """

    viewing: Viewing
    page: str
    _shown: set[str] | None = field(default=None, init=False)

    def note(self, studies: Iterable[str]) -> None:
        """Before these are sent. Raises Refused where the entry cannot be written."""
        now = set(studies)
        if self._shown is None:
            self.viewing.note(self.page, f"follows it, {len(now)} studies")
            self._shown = now
            return
        new = now - self._shown
        if len(new) > _NAMED_AT_ONCE:
            self.viewing.note(self.page, f"follows it, {len(new)} other studies")
        else:
            for study in sorted(new):
                self.viewing.note(study, f"came to the {self.page}")
        self._shown |= new
