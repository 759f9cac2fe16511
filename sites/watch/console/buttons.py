"""What a person does at the console. Which form it was, the guard has settled; the centre does it and notes who."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from fedimg.web.refusal import Refused
from sites.watch.console.actions import REASONS, Actions
from sites.watch.console.pages import Known
from sites.watch.console.queue_reading import has_delivery
from sites.watch.console.refusing import done_or_refused, known_or_refused
from sites.watch.console.routes import Number
from sites.watch.console.viewing import who_asks


def buttons(known: Known, actions: Actions, changed: Callable[[], None]) -> APIRouter:
    """`changed`: called after each, so that other readers see it at once."""
    router = APIRouter(default_response_class=HTMLResponse)

    def done(act: Callable[[], None], where: str) -> Response:
        done_or_refused(act)
        changed()
        return RedirectResponse(where, HTTPStatus.SEE_OTHER)

    def of_alert(alert: str, act: Callable[[], None]) -> Response:
        study = known_or_refused(lambda: known.study_of_alert(alert))
        return done(act, f"/studies/{study}")

    @router.post("/alerts/{alert}/acknowledge")
    def acknowledge(request: Request, alert: str) -> Response:
        return of_alert(alert, lambda: actions.acknowledge(alert, who_asks(request)))

    @router.post("/alerts/{alert}/confirm")
    def confirm(request: Request, alert: str) -> Response:
        return of_alert(alert, lambda: actions.confirm(alert, who_asks(request)))

    @router.post("/alerts/{alert}/dismiss")
    def dismiss(request: Request, alert: str) -> Response:
        reason = request.state.form.get("reason", "")
        if reason not in REASONS:
            raise Refused(HTTPStatus.BAD_REQUEST, "Choose one of the reasons.")
        return of_alert(alert, lambda: actions.dismiss(alert, reason, who_asks(request)))

    @router.post("/studies/{study}/read")
    def read(request: Request, study: str) -> Response:
        known_or_refused(lambda: known.study(study))
        return done(lambda: actions.read(study, who_asks(request)), f"/studies/{study}")

    @router.post("/studies/{study}/label")
    def label(request: Request, study: str) -> Response:
        found = known_or_refused(lambda: known.study(study))
        finding, present = request.state.form.get("finding", ""), request.state.form.get("present", "")
        if finding not in found.findings or present not in ("present", "absent"):
            raise Refused(HTTPStatus.BAD_REQUEST, "Choose one of the findings, and whether it is present.")
        here, who = present == "present", who_asks(request)
        return done(lambda: actions.label(study, finding, here, who), f"/studies/{study}")

    @router.post("/deliveries/{delivery}/again")
    def again(request: Request, delivery: Number) -> Response:
        if not known.reading.read(has_delivery(delivery)):
            raise Refused(HTTPStatus.NOT_FOUND, "Expected a delivery of this site; found another number.")
        return done(lambda: actions.again(delivery, who_asks(request)), "/queue")

    return router
