"""Pages and their events. All of it stands behind the shell's guard; who may look has been settled."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from fedimg.report.markup import Markup, element
from fedimg.web.shell import Shell, session_of
from sites.watch.console import (
    alerts_page,
    calibration_page,
    drift_page,
    models_page,
    queue_page,
    study_page,
    worklist_page,
)
from sites.watch.console.actions import Actions
from sites.watch.console.api import Finding, First
from sites.watch.console.files import OUTPUTS
from sites.watch.console.pages import Known
from sites.watch.console.refusing import known_or_refused
from sites.watch.console.viewing import Viewing, who_asks
from sites.watch.console.worklist_reading import AlertState, Show

LINKS = {
    "Worklist": "/",
    "Alerts": "/alerts",
    "Queue": "/queue",
    "Drift": "/drift",
    "Calibration": "/calibration",
    "Models": "/models",
    "Privacy": "/ledger",
}
Number = Annotated[int, Path(ge=0, le=1 << 53)]


def patients(shell: Shell, known: Known, actions: Actions) -> APIRouter:
    """Pages of patients' studies: each view is noted before it is sent."""
    router = APIRouter(default_response_class=HTMLResponse)

    def viewing(request: Request) -> Viewing:
        return Viewing(actions, who_asks(request))

    @router.get("/")
    def worklist(request: Request, show: Show = "unread", first: First = 0) -> Response:
        session_of(request)
        found = known.worklist(show, first)
        viewing(request).note("worklist", f"viewed it, {len(found.rows)} studies")
        drawn = worklist_page.parts(known.drawn_worklist(found, show))
        sections = [worklist_page.heading(show), *drawn.values()]
        return shell.page(request, "Worklist", sections, f"/events?show={show}&first={first}", "Worklist")

    @router.get("/events", include_in_schema=False)
    def worklist_events(request: Request, show: Show = "unread", first: First = 0) -> Response:
        session_of(request)
        return shell.stream(request, known.worklist_parts(viewing(request), show, first))

    @router.get("/studies/{study}")
    def study(request: Request, study: str) -> Response:
        csrf = session_of(request).csrf
        found = known_or_refused(lambda: known.study(study))
        viewing(request).note(study, "viewed the study")
        drawn = study_page.parts(found, csrf)
        where = f"/studies/{found.row.study}/events"
        return shell.page(request, "Study", list(drawn.values()), where, "Worklist")

    @router.get("/studies/{study}/events", include_in_schema=False)
    def study_events(request: Request, study: str) -> Response:
        csrf = session_of(request).csrf
        known_or_refused(lambda: known.study(study))
        return shell.stream(request, known.study_parts(viewing(request), study, csrf))

    @router.get("/alerts")
    def alerts(
        request: Request, state: AlertState = "open", finding: Finding = "", first: First = 0
    ) -> Response:
        session_of(request)
        found = known.alerts(state, finding, first)
        viewing(request).note("alerts", f"viewed them, {len(found.rows)} alerts")
        drawn = known.drawn_alerts(found, state, finding)
        sections = [element("h1", "Alerts"), alerts_page.filters(found, state, finding), *drawn.values()]
        where = alerts_page.path(state, finding, events=True, first=first)
        return shell.page(request, "Alerts", sections, where, "Alerts")

    @router.get("/alerts/events", include_in_schema=False)
    def alerts_events(
        request: Request, state: AlertState = "open", finding: Finding = "", first: First = 0
    ) -> Response:
        session_of(request)
        return shell.stream(request, known.alerts_parts(viewing(request), state, finding, first))

    @router.get("/results/{job}/{name}")
    def output(request: Request, job: Number, name: str) -> Response:
        session_of(request)
        study, path = known_or_refused(lambda: known.output(job, name))
        viewing(request).note(study, f"viewed {name} of job {job}")
        file = known_or_refused(lambda: known.open_output(path))
        media = OUTPUTS[name].media
        headers = {"content-length": str(file.size)}
        if media != "image/png":
            headers["content-disposition"] = f'attachment; filename="{job}-{name}"'
        return StreamingResponse(file.pieces(), HTTPStatus.OK, headers, media)

    return router


def numbers(shell: Shell, known: Known, actions: Actions) -> APIRouter:
    """Pages of jobs and models: nothing of a patient but the keys of studies, on the queue's."""
    router = APIRouter(default_response_class=HTMLResponse)

    def page(request: Request, title: str, here: str, parts: dict[str, Markup], events: str = "") -> Response:
        return shell.page(request, title, [element("h1", title), *parts.values()], events, here)

    @router.get("/queue")
    def queue(request: Request) -> Response:
        csrf = session_of(request).csrf
        found = known.queue()
        Viewing(actions, who_asks(request)).note("queue", "viewed it")
        drawn = queue_page.parts(found, known.clock(), csrf)
        return page(request, "Queue", "Queue", drawn, "/queue/events")

    @router.get("/queue/events", include_in_schema=False)
    def queue_events(request: Request) -> Response:
        csrf = session_of(request).csrf
        return shell.stream(request, known.queue_parts(Viewing(actions, who_asks(request)), csrf))

    @router.get("/drift")
    def drift(request: Request) -> Response:
        session_of(request)
        return page(request, "Drift", "Drift", drift_page.parts(known.drift()))

    @router.get("/calibration")
    def calibration(request: Request) -> Response:
        session_of(request)
        return page(request, "Calibration", "Calibration", calibration_page.parts(known.calibration()))

    @router.get("/models")
    def models(request: Request) -> Response:
        session_of(request)
        return page(request, "Models", "Models", models_page.model_parts(known.models()))

    @router.get("/ledger")
    def ledger(request: Request) -> Response:
        session_of(request)
        return page(request, "Privacy ledger", "Privacy", models_page.ledger_parts(*known.ledger()))

    return router
