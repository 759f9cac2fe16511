"""What the pages show, as JSON; for a login's cookie, or for a program with the token as Bearer."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request

from sites.watch.console.actions import Actions
from sites.watch.console.pages import Known
from sites.watch.console.refusing import known_or_refused
from sites.watch.console.values import Alerts, Fault, Queue, StudyDetail, Worklist
from sites.watch.console.viewing import Viewing, who_asks
from sites.watch.console.worklist_reading import AlertState, Show

First = Annotated[int, Query(ge=0, le=10**9)]
Finding = Annotated[str, Query(max_length=200)]
_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": Fault}
    for status in (
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}


def api(known: Known, actions: Actions) -> APIRouter:
    router = APIRouter(prefix="/api", responses=_FAULTS)

    @router.get("/worklist")
    def worklist(request: Request, show: Show = "unread", first: First = 0) -> Worklist:
        """Studies: ordered as urgent first, then those raised by a model, then by arrival."""
        found = known.worklist(show, first)
        Viewing(actions, who_asks(request)).note("worklist", f"read it, {len(found.rows)} studies")
        return found

    @router.get("/studies/{study}")
    def study(request: Request, study: str) -> StudyDetail:
        """One study: its series, results, alerts, labels and course."""
        found = known_or_refused(lambda: known.study(study))
        Viewing(actions, who_asks(request)).note(study, "read the study's data")
        return found

    @router.get("/alerts")
    def alerts(
        request: Request, state: AlertState = "open", finding: Finding = "", first: First = 0
    ) -> Alerts:
        """Alerts, the open ones first."""
        found = known.alerts(state, finding, first)
        Viewing(actions, who_asks(request)).note("alerts", f"read them, {len(found.rows)} alerts")
        return found

    @router.get("/queue")
    def queue(request: Request) -> Queue:
        """Jobs, deliveries, workers, and what triage delays. Nothing of a patient but the studies' keys."""
        found = known.queue()
        Viewing(actions, who_asks(request)).note("queue", "read it")
        return found

    return router
