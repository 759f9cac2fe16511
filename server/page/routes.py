"""Pages, JSON, events and buttons of the coordinator's page. All of it stands behind the shell's guard."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from fedimg.errors import DataError
from fedimg.web.refusal import Refused
from fedimg.web.shell import Shell, session_of
from server.page import drift_page, overview, run_page
from server.page.models import Fault, FederationInfo, RunDetail, RunInfo, SiteInfo
from server.page.watching import Watch
from server.registry import Entry

FIRST = "Federation"
_T = TypeVar("_T")
_FAULTS: dict[int | str, dict[str, Any]] = {
    HTTPStatus.UNAUTHORIZED: {"model": Fault},
    HTTPStatus.NOT_FOUND: {"model": Fault},
}


def api(watch: Watch) -> APIRouter:
    """What the pages show, as JSON; for a login's cookie, or for a program with the token as Bearer."""
    router = APIRouter(prefix="/api", responses=_FAULTS)

    @router.get("/federation")
    def federation() -> FederationInfo:
        """Which federation this is."""
        return watch.overview().federation

    @router.get("/sites")
    def sites() -> list[SiteInfo]:
        """Its members, and which of them are connected."""
        return watch.overview().sites

    @router.get("/runs")
    def runs() -> list[RunInfo]:
        """The latest runs, the last one first."""
        return watch.overview().runs

    @router.get("/runs/{run}")
    def run(run: str) -> RunDetail:
        """One run with its rounds."""
        return _known(lambda: watch.detail(run))

    return router


def pages(shell: Shell, watch: Watch) -> APIRouter:
    """For people."""
    router = APIRouter(default_response_class=HTMLResponse)

    @router.get("/")
    def first(request: Request) -> Response:
        found = watch.overview()
        drawn = overview.parts(found, session_of(request).csrf)
        return shell.page(request, FIRST, [overview.heading(found), *drawn.values()], "/events", FIRST)

    @router.get("/events", include_in_schema=False)
    def events(request: Request) -> Response:
        csrf = session_of(request).csrf
        return shell.stream(request, lambda: overview.parts(watch.overview(), csrf))

    @router.get("/runs/{run}")
    def one(request: Request, run: str) -> Response:
        found = _known(lambda: watch.detail(run))
        drawn = run_page.parts(found, session_of(request).csrf)
        return shell.page(request, found.info.run, list(drawn.values()), f"{overview.run_path(run)}/events")

    @router.get("/runs/{run}/events", include_in_schema=False)
    def run_events(request: Request, run: str) -> Response:
        csrf = session_of(request).csrf
        _known(lambda: watch.detail(run))
        return shell.stream(request, lambda: run_page.parts(watch.detail(run), csrf))

    @router.get("/runs/{run}/report.html")
    def report(request: Request, run: str) -> Response:
        session_of(request)
        data = _known(lambda: watch.report(run))
        name = f'attachment; filename="report-{run}.html"'
        return Response(data, media_type="text/html", headers={"content-disposition": name})

    @router.get(drift_page.PATH)
    def drift(request: Request) -> Response:
        return shell.page(request, drift_page.TITLE, drift_page.sections(watch.folder), here=drift_page.TITLE)

    @router.get(drift_page.PATH + "/{name}")
    def drift_of(request: Request, name: str) -> Response:
        return shell.page(
            request, drift_page.TITLE, drift_page.sections(watch.folder, name), here=drift_page.TITLE
        )

    @router.post("/runs/{run}/stop")
    def stop(run: str) -> Response:
        return _asked(watch, run, watch.stop)

    @router.post("/runs/{run}/resume")
    def resume(run: str) -> Response:
        return _asked(watch, run, watch.resume)

    return router


def _known(read: Callable[[], _T]) -> _T:
    try:
        return read()
    except DataError as fault:
        raise Refused(HTTPStatus.NOT_FOUND, f"Expected {fault.expected}; found {fault.found}.") from None


def _asked(watch: Watch, run: str, change: Callable[[str], Entry]) -> Response:
    """Ask it of the registry, then show the run. Which form it was, the guard has settled."""
    _known(lambda: watch.detail(run))
    try:
        entry = change(run)
    except DataError as fault:
        raise Refused(HTTPStatus.CONFLICT, f"Expected {fault.expected}; found {fault.found}.") from None
    return RedirectResponse(overview.run_path(entry.run), HTTPStatus.SEE_OTHER)
