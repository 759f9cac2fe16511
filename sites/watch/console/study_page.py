"""One study: what came in, what each model did or why not, what it found, and what became of it."""

from __future__ import annotations

from fedimg.report.blocks import Column, section
from fedimg.report.markup import Markup, element, join
from fedimg.web import frame
from fedimg.web.parts import cards, chip
from sites.watch.console import alerts_page
from sites.watch.console.drawing import (
    day,
    facts,
    nothing,
    person,
    priority_mark,
    score_text,
    span,
    state_chip,
    when,
)
from sites.watch.console.files import OUTPUTS
from sites.watch.console.values import Happened, LookInfo, ResultInfo, SeriesInfo, StudyDetail

_PREVIEW = "preview.png"
_FOLLOWS = {
    "owed": "the picture of what the score rests on follows",
    "making": "the picture of what the score rests on is being made",
    "failed": "the picture of what the score rests on could not be made; what was called stands",
}


def parts(found: StudyDetail, csrf: str) -> dict[str, Markup]:
    """The page's parts, by the ids under which events replace them."""
    drawn = {
        "study": _head(found, csrf),
        "findings": _findings(found, csrf),
        "series": _series(found.series),
        "results": _results(found.results),
        "labels": _labels(found, csrf),
        "timeline": _timeline(found.timeline),
    }
    return {name: frame.part(name, content) for name, content in drawn.items()}


def title(found: StudyDetail) -> str:
    return person(found.row.patient.name) or "Study"


def _head(found: StudyDetail, csrf: str) -> Markup:
    row, patient = found.row, found.row.patient
    said = [priority_mark(row.priority, stat=row.stat), state_chip(row.state)]
    said += [chip("images missing", "warning")] if row.completeness == "partial" else []
    said += [chip("read", "good")] if row.read_at is not None else []
    read = frame.button(f"/studies/{row.study}/read", "Mark as read", csrf)
    act = element("div", read if row.read_at is None else Markup(""), class_="actions")
    about = facts(
        [
            ("patient", join([patient.id])),
            ("accession", patient.accession),
            ("study", " ".join(one for one in (patient.modalities, patient.body_parts) if one)),
            ("ordered", patient.description),
            ("date", day(patient.date)),
            ("images", f"{row.images:,}"),
            ("arrived", when(row.first_at)),
            (
                "found complete",
                "" if found.completed_at is None else _times(found.completed_at, found.revision),
            ),
            ("why", row.reason),
            ("study UID", element("span", found.study_uid, class_="uid")),
        ],
        across=True,
    )
    crumb = element("p", element("a", "← Worklist", href="/"), class_="crumb")
    head = element("div", element("h1", title(found)), said, act, class_="head")
    return join([crumb, head, element("section", element("h2", "Study"), about)])


def _times(at: float, revision: int) -> Markup:
    again = f", {revision} times: images came late" if revision > 1 else ""
    return join([when(at), again])


def _findings(found: StudyDetail, csrf: str) -> Markup:
    shown = [one for one in found.alerts if one.state != "superseded"]
    if shown:
        drawn = element("div", [alerts_page.card(one, csrf) for one in shown], class_="findings")
    elif found.row.looked:
        drawn = nothing(
            f"Looked at by {', '.join(found.row.looked)}: nothing was called. That is no reading of the study."
        )
    else:
        drawn = nothing("No model has looked at it yet.")
    own = [one for one in found.results if one.current and not one.shadow]
    pictures = [one for one in own if _PREVIEW in one.outputs]
    side = [_preview(one) for one in pictures[:2]]
    side += [_no_preview(one) for one in own if one.picture in _FOLLOWS and one not in pictures]
    content = element("div", drawn, element("div", side), class_="side") if side else drawn
    return section("Findings", "", content)


def _preview(one: ResultInfo) -> Markup:
    words = "; ".join(dict.fromkeys(place.where for place in one.places if place.where))
    alt = f"Preview by {one.model}" + (f": {words}" if words else "")
    picture = element("img", src=f"/results/{one.job}/{_PREVIEW}", alt=alt, class_="preview")
    return element(
        "figure", picture, element("figcaption", f"{one.model}: preview, not for diagnostic use. {words}")
    )


def _no_preview(one: ResultInfo) -> Markup:
    """Instead of a picture: that it follows, or that there will be none. The alert does not wait for it."""
    return nothing(f"{one.model}: {_FOLLOWS[one.picture]}" + (f" ({one.why})." if one.why else "."))


def _series(found: list[SeriesInfo]) -> Markup:
    columns = [
        Column(head, numeric=head == "images") for head in ("series", "of", "images", "from", "models")
    ]
    rows = [
        [
            join(
                [one.description or f"series {number}", element("span", one.series_uid, class_="under uid")]
            ),
            " ".join(part for part in (one.modality, one.body_part) if part) or "unknown",
            f"{one.images:,}",
            one.source,
            element("ul", [_look(look) for look in one.looks], class_="chips") if one.looks else "",
        ]
        for number, one in enumerate(found, start=1)
    ]
    if not rows:
        return section("Series", "", nothing("No image is kept of this study."))
    return section("Series", "", cards(columns, rows, caption="Series, and what each model did with it"))


def _look(look: LookInfo) -> Markup:
    shadow = " (shadow)" if look.shadow else ""
    reason = element("span", f" {look.reason}", class_="faint") if look.reason else Markup("")
    return element("li", f"{look.model}{shadow} ", state_chip(look.state), reason)


def _results(found: list[ResultInfo]) -> Markup:
    if not found:
        return section("Results", "", nothing("No result yet."))
    heads = ("model", "score", "by finding", "where", "time", "files")
    columns = [Column(head, numeric=False) for head in heads]
    lead = "Scores are calibrated probabilities. A call is a score at or above the threshold; the rest was looked at."
    rows = [_result(one) for one in found]
    return section("Results", lead, cards(columns, rows, caption="What each model found"))


def _result(one: ResultInfo) -> list[str]:
    kind = chip("called", "danger") if one.called else chip("looked at", "plain")
    marks = [kind]
    marks += [chip("shadow: not shown to others", "note")] if one.shadow else []
    marks += [] if one.current else [chip("void: images came late", "warning")]
    classes = [element("li", f"{name} {score:.3f}") for name, score in sorted(one.scores.items())]
    places = [
        element(
            "li", f"{place.meaning or place.finding} {place.score:.2f}: {_place(place.where, place.size_mm)}"
        )
        for place in one.places
    ]
    files = [
        element("li", element("a", known.title, href=f"/results/{one.job}/{name}", download=""))
        for name, known in OUTPUTS.items()
        if name in one.outputs and known.title
    ]
    score = element("span", score_text(one.score, one.threshold), class_="nowrap")
    return [
        join([one.model, element("span", f"{one.digest[:16]}…", class_="under uid")]),
        join([score, " ", element("span", marks, class_="chips")]),
        element("ul", classes, class_="chips") if classes else "",
        element("ul", places, class_="chips") if places else "",
        join([when(one.finished_at), element("span", f"took {span(one.seconds)}", class_="under")]),
        element("ul", files, class_="chips") if files else "",
    ]


def _place(where: str, size_mm: float | None) -> str:
    return where + (f", {size_mm:.0f} mm" if size_mm is not None else "")


def _labels(found: StudyDetail, csrf: str) -> Markup:
    """What a person found: of studies without an alert too, since only those tell what was missed."""
    if not found.findings:
        return Markup("")
    said = {one.finding: one for one in found.labels}
    rows = []
    for name in found.findings:
        label = said.get(name)
        now = "not said" if label is None else "present" if label.present else "absent"
        buttons = [
            _label_button(found.row.study, name, present, csrf)
            for present in (True, False)
            if label is None or label.present is not present
        ]
        rows.append([name, now, element("div", buttons, class_="chips")])
    columns = [Column(head, numeric=False) for head in ("finding", "a person found it", "say")]
    lead = "It calibrates the models at this site, and stays here."
    return section("What a person found", lead, cards(columns, rows, caption="Findings as people saw them"))


def _label_button(study: str, finding: str, present: bool, csrf: str) -> Markup:
    word = "present" if present else "absent"
    hidden = {"csrf": csrf, "finding": finding, "present": word}
    return element(
        "form",
        [element("input", type="hidden", name=name, value=value) for name, value in hidden.items()],
        element("button", word, type="submit", class_="quiet", aria_label=f"{finding} is {word}"),
        method="post",
        action=f"/studies/{study}/label",
        class_="inline",
    )


def _timeline(found: list[Happened]) -> Markup:
    lines = [
        element(
            "li",
            when(one.at),
            element("span", one.what, [f", {one.about}"] if one.about else [], _by(one.who)),
        )
        for one in found
    ]
    return section("Course", "Times are UTC.", element("ol", lines, class_="timeline"))


def _by(who: str) -> Markup:
    return element("span", f" by {who}", class_="faint") if who else Markup("")
