"""Why a request is refused, in words for the person who sees the page; programs get the same as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from fedimg.report.markup import element
from fedimg.web import frame

LOGIN = "/login"


class Refused(Exception):
    """A request that gets no answer but this. `text` quotes nothing of the request."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


def for_programs(path: str) -> bool:
    """Whether who asks for this path reads JSON."""
    return path.startswith("/api/") or path in ("/metrics", "/healthz", "/readyz") or path.endswith("/events")


def answer(refused: Refused, path: str) -> Response:
    """The refusal as a page, as JSON, or as the way to the login form."""
    status, headers = refused.status, dict(refused.headers)
    if for_programs(path):
        return JSONResponse({"detail": refused.text}, status, headers)
    if status == HTTPStatus.UNAUTHORIZED:
        return RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER, headers)
    title = HTTPStatus(status).phrase
    back = element("p", element("a", "Back to the page", href="/"))
    content = element("section", element("h1", title), element("p", refused.text), back, class_="narrow")
    return HTMLResponse(frame.document(title, [content]), status, headers)
