"""What several pages draw alike: a patient, a priority, a state, how long ago, a score against its threshold."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from fedimg.monitoring.worklist import URGENCY
from fedimg.report.markup import Markup, element, join
from fedimg.web.parts import Kind, chip, moment
from sites.watch.console.values import Patient

_STATES: dict[str, tuple[str, Kind]] = {
    "arriving": ("arriving", "note"),
    "queued": ("in queue", "note"),
    "running": ("being analysed", "note"),
    "analysed": ("analysed", "plain"),
    "not_analysed": ("not analysed", "warning"),
    "failed": ("failed", "danger"),
    "raised": ("raised", "danger"),
    "delivered": ("delivered", "danger"),
    "acknowledged": ("acknowledged", "warning"),
    "confirmed": ("confirmed", "good"),
    "dismissed": ("dismissed", "plain"),
    "superseded": ("superseded", "plain"),
    "done": ("analysed", "plain"),
    "not analysed": ("not analysed", "warning"),
}
_MOST_URGENT = max(URGENCY.values())
OPEN = ("raised", "delivered")
SETTLED = ("confirmed", "dismissed", "superseded")


def state_chip(state: str) -> Markup:
    text, kind = _STATES.get(state, (state, "plain"))
    return chip(text, kind)


def priority_mark(priority: int, *, stat: bool) -> Markup:
    """In words and with a sign: never by colour alone."""
    if stat:
        return element("span", "● STAT", class_="chip strong")
    if priority > 0:
        title = f"raised by a model, urgency {priority} of {_MOST_URGENT}"
        return element(
            "span", f"{'▲' * min(priority, _MOST_URGENT)} raised", class_="chip danger", title=title
        )
    return element("span", "routine", class_="faint")


def patient_cell(patient: Patient, href: str = "") -> Markup:
    name = person(patient.name) or "no name"
    shown = element("a", name, href=href) if href else element("span", name)
    return join([shown, element("span", patient.id, class_="under")])


def study_cell(patient: Patient) -> Markup:
    """Modality and body part, then what was ordered."""
    what = " ".join(part for part in (patient.modalities, patient.body_parts) if part) or "unknown"
    return join([element("span", what), element("span", patient.description, class_="under")])


def person(name: str) -> str:
    """A DICOM person name (PS3.5 6.2.1) for people: its first group, "Family, Given Middle"."""
    family, *rest = [part.strip() for part in name.partition("=")[0].split("^")]
    given = " ".join(part for part in rest[:2] if part)
    return ", ".join(part for part in (family, given) if part)


def day(text: str) -> str:
    """A DICOM date as ISO writes it; another text as it is."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def ago(at: float, now: float) -> Markup:
    """How long ago, coarse enough that a page does not change every second; the moment itself on hovering."""
    return _ago(at, _span(max(0.0, now - at)))


def span(seconds: float | None) -> str:
    """A duration in words."""
    if seconds is None:
        return "without end"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else _span(seconds)


def when(at: float) -> Markup:
    """The moment, in UTC."""
    return moment(iso(at))


def iso(at: float) -> str:
    """A moment beyond what a calendar has is left empty."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return ""


def score_text(score: float, threshold: float | None) -> str:
    """A score beside what it is held against."""
    if threshold is None:
        return f"{score:.2f}, no threshold"
    sign = "≥" if score >= threshold else "<"
    digits = 2 if abs(score - threshold) >= 0.005 or score == threshold else 4
    return f"{score:.{digits}f} {sign} {threshold:.{digits}f}"


def facts(rows: list[tuple[str, str]], *, across: bool = False) -> Markup:
    """Names and values, one below the other or three in a row; what is empty is left out."""
    drawn = [part for name, value in rows if value for part in (element("dt", name), element("dd", value))]
    return element("dl", drawn, class_="facts across" if across else "facts")


def nothing(text: str) -> Markup:
    return element("p", text, class_="nothing")


def pages(path: str, first: int, shown: int, total: int, most: int) -> Markup:
    """Ways to the rest of a long list; empty for a short one. `path`: up to the number that is put behind it."""
    if total <= shown and not first:
        return Markup("")
    links = []
    if first:
        links.append(element("a", "← before", href=f"{path}{max(0, first - most)}", rel="prev"))
    links.append(element("span", f"{first + 1 if shown else 0}–{first + shown} of {total:,}"))
    if first + shown < total:
        links.append(element("a", "after →", href=f"{path}{first + most}", rel="next"))
    return element("nav", links, class_="pages", aria_label="More of the list")


@lru_cache(4096)
def _ago(at: float, text: str) -> Markup:
    written = iso(at)
    title = written.replace("T", " ").replace("+00:00", " UTC")
    return element("time", text, datetime=written or None, title=title or None, class_="nowrap")


def _span(seconds: float) -> str:
    if seconds < 60:
        return "< 1 min"
    for size, unit, below in ((60, "min", 90 * 60), (3600, "h", 48 * 3600)):
        if seconds < below:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
