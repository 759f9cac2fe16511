"""Drift: the streams of each model at the last look, and the looks. Numbers of images, not of people."""

from __future__ import annotations

from fedimg.report.blocks import Column, table
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip
from sites.watch.console.charts import sparkline
from sites.watch.console.drawing import nothing, when
from sites.watch.console.drift_reading import Drifting, LookTaken, StreamInfo

_LEAD = (
    "Each stream's latest studies against those that the model was released for. The chance of any false alarm, over all "
    "streams and looks of the horizon together, is bounded: see alpha in the settings."
)


def parts(found: list[Drifting]) -> dict[str, Markup]:
    drawn = [_model(number, one) for number, one in enumerate(found)]
    content = drawn or [element("section", nothing("No model is active."))]
    return {"drift": frame.part("drift", *content)}


def _model(number: int, one: Drifting) -> Markup:
    alarms = one.looks[0].alarms if one.looks else ()
    if not one.looks:
        mark = chip("not looked yet", "plain")
    elif alarms:
        streams = "1 stream" if len(alarms) == 1 else f"{len(alarms)} streams"
        mark = chip(f"⚠ drift in {streams}", "danger")
    else:
        mark = chip("no drift found", "good")
    head = element("div", element("h2", one.model.title), mark, chip(one.model.role), class_="head")
    count = element(
        "p",
        f"{one.measured:,} {'study' if one.measured == 1 else 'studies'} measured. {_LEAD if not number else ''}",
        class_="lead",
    )
    streams_drawn = _streams(one.streams) if one.streams else nothing("Nothing was measured yet.")
    return element("section", head, count, streams_drawn, _looks(number, one.looks))


def _streams(streams: list[StreamInfo]) -> Markup:
    columns = [
        Column("stream", numeric=False),
        Column("alarm", numeric=False),
        Column("p at the last look"),
        Column("effect"),
        Column("latest values", numeric=False),
    ]
    rows = [
        [
            one.name,
            _alarm(one),
            "–" if one.p is None else f"{one.p:.2g}",
            "–" if one.effect is None else f"{one.effect:+.2f}",
            sparkline(one.values, one.name),
        ]
        for one in streams
    ]
    return cards(columns, rows, caption="Streams, those with an alarm first")


def _alarm(one: StreamInfo) -> Markup:
    if one.alarm:
        return chip("⚠ alarm", "danger")
    return element("span", "not tested" if one.p is None else "none", class_="faint")


def _looks(number: int, looks: list[LookTaken]) -> Markup:
    if not looks:
        return Markup("")
    columns = [
        Column("look (UTC)", numeric=False),
        Column("after studies"),
        Column("streams"),
        Column("alarms", numeric=False),
    ]
    rows = [
        [join([when(one.at)]), f"{one.studies:,}", str(one.streams), ", ".join(one.alarms) or "none"]
        for one in looks
    ]
    drawn = table(columns, rows, caption="The latest looks")
    summary = element("summary", f"{len(looks)} {'look' if len(looks) == 1 else 'looks'}")
    return element("details", summary, drawn, id=f"looks-{number}")
