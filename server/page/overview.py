"""The first page: what goes on now, the sites, the runs."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from fedimg.metric_names import metric_name
from fedimg.report.blocks import Column, epsilon_text, section
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import Kind, cards, chip, dot, meter, moment, of, tiles
from server.page.models import Overview, RunInfo, SiteInfo
from server.registry import ACTIVE, Stage

_SOON_DAYS = 60
_KINDS: Mapping[str, Kind] = {
    Stage.QUEUED: "plain",
    Stage.GATHERING: "warning",
    Stage.RUNNING: "note",
    Stage.WAITING: "warning",
    Stage.CLOSING: "note",
    Stage.FINISHED: "good",
    Stage.STOPPED: "warning",
    Stage.FAILED: "danger",
}


def parts(found: Overview, csrf: str) -> dict[str, Markup]:
    """The page's parts, by the ids under which events replace them."""
    drawn = {"now": _now(found, csrf), "sites": _sites(found.sites), "runs": _runs(found.runs)}
    return {name: frame.part(name, content) for name, content in drawn.items()}


def heading(found: Overview) -> Markup:
    """What does not change while a server runs."""
    federation = found.federation
    chips = [
        chip(f"id {federation.id[:12]}…") if len(federation.id) > 12 else chip(f"id {federation.id}"),
        chip(f"fedimg {federation.version}"),
        chip(f"server's certificate until {federation.ends}"),
    ]
    return join([element("h1", "Federation"), element("div", chips, class_="meta")])


def run_path(run: str) -> str:
    """Where a run's page is."""
    return f"/runs/{quote(run, safe='')}"


def stage_chip(run: RunInfo) -> Markup:
    return chip(run.stage, _KINDS.get(run.stage, "plain"))


def buttons(run: RunInfo, csrf: str) -> Markup:
    """What may be asked of a run in its stage: to stop, or to go on."""
    if run.stage in (*ACTIVE, Stage.QUEUED):
        return frame.button(f"{run_path(run.run)}/stop", "Stop", csrf, danger=True)
    if run.stage in (Stage.STOPPED, Stage.FAILED):
        return frame.button(f"{run_path(run.run)}/resume", "Resume", csrf)
    return Markup("")


def privacy_text(run: RunInfo) -> Markup:
    """ε so far of ε declared; without a guarantee the mode alone."""
    if run.epsilon_declared is None:
        return element("span", run.privacy or "unknown")
    spent = epsilon_text(run.epsilon) if run.epsilon is not None else "0"
    return of(spent, f"{run.epsilon_declared:g}")


def _now(found: Overview, csrf: str) -> Markup:
    there = sum(site.connected for site in found.sites)
    active = next((run for run in reversed(found.runs) if run.stage in ACTIVE), None)
    waiting = sum(run.stage == Stage.QUEUED for run in found.runs)
    shown = [
        ("sites connected", of(str(there), str(len(found.sites))), f"bundle {found.federation.bundle}"),
        ("runs waiting", element("span", str(waiting)), f"{len(found.runs)} in all"),
    ]
    if active is None:
        idle = element("p", "No run is under way.", class_="nothing")
        return join([tiles(shown), section("Now", "", idle)])
    shown[1:1] = [("round", of(str(active.round), str(active.rounds)), "finished")]
    if active.epsilon_declared is not None:
        shown.insert(2, ("ε", privacy_text(active), "largest of the sites, of what the run declares"))
    title = element("h2", element("a", active.run, href=run_path(active.run)))
    head = element(
        "div",
        title,
        stage_chip(active),
        element("div", buttons(active, csrf), class_="actions"),
        class_="head",
    )
    reason = [element("p", active.reason, class_="reason")] if active.reason else []
    since = element("p", "changed ", moment(active.changed), class_="faint reason")
    return join([tiles(shown), element("section", head, reason, since)])


def _sites(sites: list[SiteInfo]) -> Markup:
    if not sites:
        nobody = element("p", "No members yet: sign their requests, then make a bundle.", class_="nothing")
        return section("Sites", "", nobody)
    columns = (
        Column("site", numeric=False),
        Column("link", numeric=False),
        Column("since (UTC)", numeric=False),
        Column("declared size"),
        Column("certificate ends", numeric=False),
    )
    rows = [
        (
            site.name,
            dot("connected" if site.connected else "not connected", on=site.connected),
            moment(site.since) if site.since else "",
            f"{site.weight:,}",
            _certificate(site),
        )
        for site in sites
    ]
    return section("Sites", "", cards(columns, rows))


def _certificate(site: SiteInfo) -> Markup:
    if site.certificate_days >= _SOON_DAYS:
        return element("span", site.certificate_ends)
    left = "ended" if site.certificate_days < 0 else f"in {site.certificate_days} days"
    return element(
        "span", f"{site.certificate_ends} ", chip(left, "warning" if left != "ended" else "danger")
    )


def _runs(runs: list[RunInfo]) -> Markup:
    if not runs:
        return section("Runs", "", element("p", "None was asked for yet.", class_="nothing"))
    columns = (
        Column("run", numeric=False),
        Column("state", numeric=False),
        Column("round"),
        Column("privacy", numeric=False),
        Column("ε"),
        Column("test"),
        Column("changed (UTC)", numeric=False),
    )
    rows = [
        (
            element("a", run.run, href=run_path(run.run)),
            stage_chip(run),
            element(
                "span", of(str(run.round), str(run.rounds)), meter(run.round, run.rounds, "rounds finished")
            ),
            run.privacy.replace("_", " "),
            privacy_text(run) if run.epsilon_declared is not None else "–",
            "–" if run.score is None else f"{metric_name(run.figure)} {run.score:.3f}",
            moment(run.changed),
        )
        for run in runs
    ]
    return section("Runs", "", cards(columns, rows))
