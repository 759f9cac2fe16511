"""A comparison as files: `comparison.json`, `.csv`, `.md`, `.svg` and the page `comparison.html`, which holds all of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedimg.compare.figure import figure, standalone
from fedimg.compare.rows import (
    METRICS,
    NAMES,
    Comparison,
    Row,
    Score,
    bytes_written,
    epsilon_written,
    metrics_of,
)
from fedimg.durable import write_durably
from fedimg.report import blocks
from fedimg.report.blocks import Column, bullets, epsilon_text, scientific, section, table
from fedimg.report.markup import Markup, element, join
from fedimg.report.page import document

NAME = "comparison"
_COSTS = ("training", "a site sent", "ε spent", "δ", "privacy")
_TITLE = "Learners compared"
_WHAT = (
    (
        "Bytes were counted as the messages went over the exchange, those of secure sums and of evaluations at the sites "
        "included, the frames of a link (TLS, gRPC) not; shown is the site that sent most, comparison.json has each."
    ),
    (
        "Time is that of the rounds: the sites' steps one after the other in one process, the messages and the sums. Intake, "
        "loading and computing fixed features come before it, measuring the model after it."
    ),
    (
        "ε is for one {unit}, added or removed, over the row's whole run, and δ its chance of more. Each row is one run: "
        "differences smaller than its interval, or than another run's noise would make, say nothing."
    ),
)


def columns(metrics: Sequence[str] = METRICS) -> tuple[str, ...]:
    return ("learner", "ε", *(NAMES[name] for name in metrics), *_COSTS)


COLUMNS = columns()
"""Of classes."""


_CLASSES = (
    "Class 1 is positive from a probability of ½ (of several classes the likeliest, and recall and F1 are means over "
    "classes). AUROC knows no threshold."
)
_METRICS = {
    "classification": _CLASSES,
    "multilabel": _CLASSES,
    "regression": "Errors are in the number's own units.",
    "segmentation": (
        "Dice and IoU are over all of a patient's images, in patients with a finding; recall is the share of them in whom "
        "some of it is found, specificity the share of the others in whom nothing is."
    ),
    "detection": (
        "Sensitivity is the share of findings whose box holds a detection's centre, at so many false positives (FP) an "
        "image; FROC its mean at ⅛ to 8; AP the average precision of boxes."
    ),
}
_BASELINES = (
    "Rows with ε = 0 learn nothing: no site was asked, nothing of its patients is in them, and their time is that of the "
    "public set's images."
)


def write(comparison: Comparison, out: Path) -> tuple[Path, ...]:
    """Write every form below `out`, which there must be; each file is the old one or the new one."""
    out.mkdir(parents=True, exist_ok=True)
    chart = figure(comparison.rows)
    texts = {
        "json": json.dumps(comparison.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "csv": as_csv(comparison.rows),
        "md": as_markdown(comparison, pictured=chart is not None),
        "html": as_page(comparison),
    }
    if chart is not None:
        texts["svg"] = standalone(chart)
    for ending, text in texts.items():
        write_durably(out / f"{NAME}.{ending}", text, mode=0o644)
    return tuple(out / f"{NAME}.{ending}" for ending in texts)


def cells(row: Row, metrics: Sequence[str] = METRICS) -> list[str]:
    """A row of the table for people, in the order of `columns`."""
    opening = [row.learner, epsilon_written(row.epsilon_asked)]
    if row.state != "finished":
        return [*opening, *["–"] * (len(metrics) + len(_COSTS) - 1), row.mode]
    return [
        *opening,
        *(_score(row.scores.get(name)) for name in metrics),
        "–" if row.seconds is None else _seconds(row.seconds),
        "–" if row.sent is None else bytes_written(row.sent),
        "none promised" if row.epsilon is None else epsilon_text(row.epsilon),
        "–" if row.delta is None else "0" if row.delta == 0 else scientific(row.delta),
        f"{row.mode}, secure sums" if row.secagg == "pairwise" else row.mode,
    ]


def said_of(row: Row) -> str:
    """What stands beside a row in words: strengths and limits, or why it has no numbers."""
    if row.state == "failed":
        return f"failed: {row.reason}"
    if row.state == "waiting":
        return "not run yet"
    return f"+ {row.words.strengths}. − {row.words.limits}."


def notes_of(comparison: Comparison) -> tuple[str, ...]:
    """What the numbers are, and what a reader should not take them for."""
    units = sorted({row.unit for row in comparison.rows if row.private}) or ["patient"]
    places = sorted({row.measured_on for row in comparison.rows if row.measured_on})
    where = f"Metrics are of the {' and of the '.join(places)}"
    tasks = dict.fromkeys(row.task for row in comparison.rows if row.state == "finished")
    said = " ".join(dict.fromkeys(_METRICS[task] for task in tasks if task in _METRICS))
    baselines = any(row.baseline for row in comparison.rows)
    return (
        *([f"{where}. {said}"] if places else []),
        *([_BASELINES] if baselines else []),
        *(text.format(unit=" or ".join(units)) for text in _WHAT),
        *comparison.notes,
    )


def as_csv(rows: Sequence[Row]) -> str:
    """One line a row, numbers unrounded."""
    stream = io.StringIO()
    ends = [f"{name}{end}" for name in metrics_of(rows) for end in ("", "_low", "_high")]
    head = [
        "learner",
        "model",
        "task",
        "epsilon_asked",
        "privacy",
        "state",
        "rounds",
        *ends,
        "training_seconds",
    ]
    head += ["bytes_sent_most", "bytes_sent_all", "epsilon_spent", "delta", "unit", "run"]
    head += ["strengths", "limits", "reason"]
    writer = csv.DictWriter(stream, head, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        line: dict[str, Any] = row.as_dict()
        for name, score in row.scores.items():
            line |= {name: score.value, f"{name}_low": score.low, f"{name}_high": score.high}
        line["bytes_sent_most"] = row.sent
        line["bytes_sent_all"] = sum(row.bytes_sent.values()) if row.bytes_sent else None
        writer.writerow(line)
    return stream.getvalue()


def as_markdown(comparison: Comparison, *, pictured: bool = True) -> str:
    """The table, what all of it cost, and each learner in words."""
    lines = [f"# {_TITLE}", ""]
    lines += [f"`{comparison.asked}`", ""] if comparison.asked else []
    lines += [*markdown_table(comparison.rows), ""]
    lines += [f"![{_TITLE}]({NAME}.svg)", ""] if pictured else []
    lines += ["## What it costs together", "", *(f"- {text}" for text in comparison.cost), ""] * bool(
        comparison.cost
    )
    lines += ["## In words", "", *(f"- **{name}**: {text}" for name, text in in_words(comparison.rows)), ""]
    lines += ["## What the numbers are", "", *(f"- {text}" for text in notes_of(comparison))]
    return "\n".join(lines) + "\n"


def markdown_table(rows: Sequence[Row]) -> list[str]:
    metrics = metrics_of(rows)
    written, names = [[_escaped(cell) for cell in cells(row, metrics)] for row in rows], columns(metrics)
    head = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return [*head, *(f"| {' | '.join(line)} |" for line in written)]


def in_words(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Each learner once, and each row that failed or waits."""
    found = {row.learner: said_of(row) for row in rows if row.state == "finished"}
    return [*found.items(), *((row.name, said_of(row)) for row in rows if row.state != "finished")]


def as_page(comparison: Comparison) -> str:
    """One self-contained page, under the guarantee of `render` of a run's report."""
    rows, chart = comparison.rows, figure(comparison.rows)
    heading = element(
        "header",
        element("h1", _TITLE),
        element("p", comparison.asked, class_="meta") if comparison.asked else "",
        [_notice(f"{row.name} failed", row.reason) for row in comparison.failed],
    )
    drawn = [blocks.figure(chart, wide=True)] if chart is not None else []
    metrics = metrics_of(rows)
    numbers = [Column(name, numeric=name not in ("learner", "privacy")) for name in columns(metrics)]
    described = [[name, text] for name, text in in_words(rows)]
    sections = [
        heading,
        section(
            "Side by side",
            "",
            *drawn,
            table(numbers, [[_folded(cell) for cell in cells(row, metrics)] for row in rows]),
        ),
        section("What it costs together", "", bullets(comparison.cost)) if comparison.cost else Markup(""),
        section(
            "In words",
            "Strengths and limits of each kind of model; the numbers above say what came of them here.",
            table([Column("learner", numeric=False), Column("", numeric=False)], described),
        ),
        section("What the numbers are", "", bullets(notes_of(comparison))),
    ]
    return document(_TITLE, sections)


def _notice(title: str, text: str) -> Markup:
    return element("div", element("strong", title), element("p", text), class_="notice danger", role="note")


def _score(score: Score | None) -> str:
    if score is None:
        return "–"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def _folded(cell: str) -> str:
    """An interval below its value, so that a page holds all columns."""
    value, bracket, interval = cell.partition(" [")
    return join([value, element("br"), element("span", f"[{interval}", class_="faint")]) if bracket else cell


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
