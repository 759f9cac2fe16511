"""The queue: what waits, what failed, what could not be sent, and what an order by urgency costs whom."""

from __future__ import annotations

from fedimg.report.blocks import Column, bytes_text, section
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip, tiles
from sites.watch.console.drawing import ago, nothing, priority_mark, span
from sites.watch.console.values import DeliveryInfo, JobInfo, Queue, Running, WaitInfo


def parts(found: Queue, now: float, csrf: str) -> dict[str, Markup]:
    """The page's parts, by the ids under which events replace them."""
    drawn = {
        "now": _tiles(found),
        "dead": _dead(found.dead, now, csrf),
        "jobs": _jobs(found, now),
        "due": _due(found.due, now),
        "process": _process(found.process, now),
        "waits": _waits(found.waits),
    }
    return {name: frame.part(name, content) for name, content in drawn.items()}


def _tiles(found: Queue) -> Markup:
    jobs, sent = found.jobs, found.deliveries
    return tiles(
        [
            ("running", f"{jobs.get('running', 0):,}", "jobs"),
            ("queued", f"{jobs.get('queued', 0):,}", "jobs, ordered as urgent first"),
            ("failed", f"{jobs.get('failed', 0):,}", f"of {sum(jobs.values()):,} jobs in all"),
            ("to send", f"{sent.get('due', 0):,}", f"{sent.get('done', 0):,} sent"),
            ("dead letters", f"{sent.get('dead', 0):,}", "given up after many tries"),
        ]
    )


def _study(key: str) -> Markup:
    return element("a", f"{key[:12]}…" if len(key) > 12 else key, href=f"/studies/{key}", class_="uid")


def _dead(found: list[DeliveryInfo], now: float, csrf: str) -> Markup:
    if not found:
        return section(
            "Dead letters", "", nothing("Everything that was given up has been sent again, or nothing was.")
        )
    columns = [
        Column("target", numeric=False),
        Column("what", numeric=False),
        Column("study", numeric=False),
        Column("tries"),
        Column("made", numeric=False),
        Column("why", numeric=False),
        Column("action", numeric=False),
    ]
    rows = [
        [
            one.target,
            one.kind,
            _study(one.study),
            str(one.attempts),
            ago(one.made_at, now),
            one.why,
            frame.button(f"/deliveries/{one.delivery}/again", "Try again", csrf),
        ]
        for one in found
    ]
    lead = "What they hold has not reached its target."
    return section("Dead letters", lead, cards(columns, rows, caption="Deliveries that were given up"))


def _due(found: list[DeliveryInfo], now: float) -> Markup:
    if not found:
        return section("To be sent", "", nothing("Nothing waits."))
    columns = [
        Column(head, numeric=head == "tries") for head in ("target", "what", "study", "tries", "next", "why")
    ]
    rows = [
        [
            one.target,
            one.kind,
            _study(one.study),
            str(one.attempts),
            "now" if one.next_at <= now else f"in {span(one.next_at - now)}",
            one.why,
        ]
        for one in found
    ]
    return section("To be sent", "", cards(columns, rows, caption="Deliveries that are due"))


def _jobs(found: Queue, now: float) -> Markup:
    columns = [
        Column(head, numeric=head == "tries")
        for head in ("study", "priority", "model", "state", "since", "tries")
    ]
    rows = [_job(one, now) for one in (*found.running, *found.queued)]
    waiting = (
        cards(columns, rows, caption="Jobs that run or wait, in the order in which they are taken")
        if rows
        else nothing("No job waits.")
    )
    drawn = [section("Jobs", _pictures(found.pictures), waiting)]
    if found.failed:
        heads = [
            Column(head, numeric=head == "tries") for head in ("study", "model", "failed", "tries", "why")
        ]
        failed = [
            [
                _study(one.study),
                _model(one),
                ago(one.finished_at or one.queued_at, now),
                str(one.attempts),
                one.reason,
            ]
            for one in found.failed
        ]
        lead = "Their studies are on the worklist as not analysed: read them as ever."
        drawn.append(section("Failed jobs", lead, cards(heads, failed, caption="The latest failed jobs")))
    return join(drawn)


def _pictures(found: dict[str, int]) -> str:
    """Of what calls rest on: they wait until no study does."""
    owed, failed = found.get("owed", 0) + found.get("making", 0), found.get("failed", 0)
    said = [f"Pictures that follow their alerts: {owed:,}."] if owed else []
    return " ".join([*said, f"Pictures that could not be made: {failed:,}."] if failed else said)


def _job(one: JobInfo, now: float) -> list[str]:
    running = one.state == "running"
    return [
        _study(one.study),
        priority_mark(one.priority, stat=one.stat),
        _model(one),
        chip("running", "note") if running else chip("queued"),
        ago(one.started_at if running and one.started_at is not None else one.queued_at, now),
        str(one.attempts),
    ]


def _model(one: JobInfo) -> str:
    return f"{one.model} (shadow)" if one.shadow else one.model


def _process(found: Running | None, now: float) -> Markup:
    if found is None:
        return section(
            "Workers and spool", "", nothing("The watcher does not run: nothing is received or analysed.")
        )
    columns = [Column(head, numeric=head == "done") for head in ("worker", "does", "done", "since")]
    rows = [[one.name, one.state, f"{one.done:,}", ago(one.since, now)] for one in found.workers]
    free = bytes_text(found.free_bytes)
    size = f", {bytes_text(found.spool_bytes)}" if found.spool_bytes else ""
    low = found.free_bytes <= 2 * found.least_bytes
    spool = element(
        "p",
        f"Spool: {found.spool_files:,} files{size}; {free} free. ",
        f"Nothing is taken any more at {bytes_text(found.least_bytes)}. " if found.least_bytes else "",
        chip("⚠ little room", "danger") if low and found.least_bytes else Markup(""),
    )
    drawn = cards(columns, rows, caption="Worker processes") if rows else nothing("No worker.")
    return section("Workers and spool", "", drawn, spool)


def _waits(found: list[WaitInfo]) -> Markup:
    title = "What triage delays"
    if not found:
        return section(title, "", nothing("Too little was seen in the last 24 hours to say."))
    columns = [
        Column("queue", numeric=False),
        Column("studies an hour"),
        Column("of them urgent"),
        Column("time for one"),
        Column("busy"),
        Column("wait, urgent"),
        Column("wait, routine"),
        Column("wait without triage"),
    ]
    rows = [
        [
            one.what,
            f"{one.per_hour:.1f}",
            f"{one.urgent_share:.0%}",
            span(one.service_s),
            f"{one.busy:.0%}",
            span(one.urgent_s),
            span(one.routine_s),
            span(one.in_order_s),
        ]
        for one in found
    ]
    lead = (
        "Measured over the last 24 hours, mean waits of a queue with priorities in the long run: routine "
        "ρs/((1 − ρₕ)(1 − ρ)), urgent ρs/(1 − ρₕ), in order of arrival ρs/(1 − ρ). What urgent studies gain, "
        "routine ones pay."
    )
    return section(
        title, lead, cards(columns, rows, caption="Mean waits with and without an order by urgency")
    )
