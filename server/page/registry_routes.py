"""Pages, JSON and buttons of the registry of models. All of it stands behind the shell's guard."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from fedimg.errors import ConfigError, DataError
from fedimg.web.refusal import Refused
from fedimg.web.shell import Shell, session_of
from server.model_registry import ModelRegistry, RegisteredModel
from server.page import registry_page
from server.page.models import Fault

LINK = "Models"
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
_T = TypeVar("_T")
_FAULTS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"model": Fault},
    HTTPStatus.NOT_FOUND: {"model": Fault},
    HTTPStatus.UNPROCESSABLE_ENTITY: {"model": Fault},
}


def registry_api(registry: ModelRegistry) -> APIRouter:
    """What the pages show, as JSON; for a login's cookie, or for a program with the token as Bearer."""
    router = APIRouter(prefix="/api/models", responses=_FAULTS)

    @router.get("")
    def models() -> list[RegisteredModel]:
        """The registered models with their histories, the last one that was added first."""
        return list(registry.all())

    @router.get("/{digest}")
    def model(digest: Digest) -> RegisteredModel:
        """One of them, by its bundle's digest."""
        return _known(lambda: registry.model(digest))

    return router


def registry_pages(shell: Shell, registry: ModelRegistry) -> APIRouter:
    """For people."""
    router = APIRouter(prefix="/models", default_response_class=HTMLResponse)

    @router.get("")
    def table(request: Request) -> Response:
        drawn = registry_page.parts(registry.all())
        sections = [registry_page.heading(), *drawn.values()]
        return shell.page(request, LINK, sections, f"{registry_page.MODELS}/events", LINK)

    @router.get("/events", include_in_schema=False)
    def events(request: Request) -> Response:
        session_of(request)
        return shell.stream(request, lambda: registry_page.parts(registry.all()))

    @router.get("/{digest}")
    def one(request: Request, digest: Digest) -> Response:
        found = _known(lambda: registry.model(digest))
        sections = registry_page.model_sections(found, session_of(request).csrf)
        return shell.page(request, found.title, sections, here=LINK)

    @router.post("/{digest}/release")
    def release(request: Request, digest: Digest) -> Response:
        who, why = _said(request)
        return _asked(registry, digest, lambda: registry.release(digest, who, why))

    @router.post("/{digest}/withdraw")
    def withdraw(request: Request, digest: Digest) -> Response:
        who, why = _said(request)
        return _asked(registry, digest, lambda: registry.withdraw(digest, who, why))

    return router


def _said(request: Request) -> tuple[str, str]:
    """Who and why, as the form says; the registry judges the words."""
    form = request.state.form
    return form.get("who", ""), form.get("why", "")


def _known(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except DataError as fault:
        raise Refused(HTTPStatus.NOT_FOUND, f"Expected {fault.expected}; found {fault.found}.") from None


def _asked(registry: ModelRegistry, digest: str, change: Callable[[], RegisteredModel]) -> Response:
    """Enter it in the registry, then show the model. Which form it was, the guard has settled."""
    _known(lambda: registry.model(digest))
    try:
        found = change()
    except (ConfigError, DataError) as fault:
        words = isinstance(fault, ConfigError)
        status = HTTPStatus.BAD_REQUEST if words else HTTPStatus.CONFLICT
        raise Refused(status, f"Expected {fault.expected}; found {fault.found}.") from None
    return RedirectResponse(registry_page.model_path(found.facts.digest), HTTPStatus.SEE_OTHER)
