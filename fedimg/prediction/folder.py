"""A folder of anybody's DICOM files → a table of what a model said of each series, and its objects."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from fedimg.dicom.arrival import Arrival, examine
from fedimg.dicom.refusal import Quarantined
from fedimg.durable import write_durably
from fedimg.errors import DataError
from fedimg.prediction.loading import Model
from fedimg.prediction.predicting import predict
from fedimg.prediction.results import Prediction
from fedimg.prediction.routing import routed
from fedimg.prediction.writing import write_outputs

TABLE = "predictions.csv"
ANALYSED, NOT_ANALYSED = "analysed", "not analysed"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One series, or with empty UIDs so many files that are none.

    Attributes:
        state: "analysed" or "not analysed". reason: why not; of an analysed one, what could not be written.
        called: 1 or 0. where: in words. outputs: the folder of its objects, below the table's.
    """

    study_uid: str
    series_uid: str
    images: int
    state: str
    reason: str = ""
    finding: str = ""
    score: float | None = None
    threshold: float | None = None
    called: int | None = None
    where: str = ""
    size_mm: float | None = None
    outputs: str = ""


def predict_folder(
    model: Model, source: Path, out: Path, progress: Progress, *, always: bool = False
) -> list[Row]:
    """Write `out/predictions.csv` and `out/<study>/` for each study of which something was called; the rows.

    `out` exists and is empty. Links are not followed. What was done by an interruption is in the table.
    Args: always: outlines and pictures also of what was not called.

    Raises DataError for a folder without one readable DICOM file.
    """
    files = sorted(_files(source))
    studies, refused = _examined(files, progress)
    if not studies:
        raise DataError(
            "a folder with DICOM files", f"{len(files)} files, none of them readable", "name another"
        )
    rows = [Row("", "", count, NOT_ANALYSED, reason) for reason, count in sorted(refused.items())]
    try:
        for number, own in enumerate(studies.values(), start=1):
            rows += _of_study(model, own, out, always=always)
            progress("predicting, studies", number, len(studies))
    finally:
        write_durably(out / TABLE, table_of(rows))
    return rows


def table_of(rows: Sequence[Row]) -> str:
    """CSV with a header; an empty cell is what there is none of."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([one.name for one in fields(Row)])
    writer.writerows(["" if cell is None else cell for cell in astuple(row)] for row in rows)
    return text.getvalue()


def study_folder(study_uid: str) -> str:
    """Names a study's folder without saying its UID."""
    return hashlib.sha256(study_uid.encode()).hexdigest()[:16]


def _files(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (path for name in names if not (path := Path(here) / name).is_symlink())


def _examined(
    files: Sequence[Path], progress: Progress
) -> tuple[dict[str, list[tuple[Path, Arrival]]], Counter[str]]:
    """By study, in the order of their first file; and how many files are none, by reason."""
    studies: dict[str, list[tuple[Path, Arrival]]] = {}
    refused: Counter[str] = Counter()
    for number, path in enumerate(files, start=1):
        try:
            arrival = examine(path)
            studies.setdefault(arrival.study_uid, []).append((path, arrival))
        except Quarantined as refusal:
            refused[f"{refusal.detail} ({refusal.reason.value})"] += 1
        progress("reading, files", number, len(files))
    return studies, refused


def _of_study(model: Model, own: Sequence[tuple[Path, Arrival]], out: Path, *, always: bool) -> Iterator[Row]:
    chosen = routed(model, [arrival for _, arrival in own])
    study = own[0][1].study_uid
    series: dict[str, list[Path]] = {}
    for path, arrival in own:
        series.setdefault(arrival.series_uid, []).append(path)
    for uid, files in series.items():
        if uid in chosen.others:
            yield Row(study, uid, len(files), NOT_ANALYSED, chosen.others[uid])
            continue
        try:
            yield _of_series(model, study, files, out, always=always)
        except DataError as fault:
            yield Row(study, uid, len(files), NOT_ANALYSED, fault.found)


def _of_series(model: Model, study: str, files: Sequence[Path], out: Path, *, always: bool) -> Row:
    analysis = predict(model, files, always_where=always)
    said, reason, where = analysis.prediction, "", ""
    if said.called or always:
        folder = out / study_folder(study)
        folder.mkdir(mode=0o700, exist_ok=True)
        written = write_outputs(analysis, folder, always=always)
        reason, where = "; ".join(written.why_not), folder.name
    return _row(said, study, len(files), reason, where)


def _row(said: Prediction, study: str, images: int, reason: str, outputs: str) -> Row:
    one = said.found[0] if said.found else None
    return Row(
        study,
        said.series_uid,
        images,
        ANALYSED,
        reason,
        "" if one is None else one.finding,
        round(said.score, 6),
        None if said.threshold is None else round(said.threshold, 6),
        int(said.called),
        "" if one is None else one.where,
        None if one is None or one.size_mm is None else round(one.size_mm, 1),
        outputs,
    )
