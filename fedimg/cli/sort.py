"""`fedimg sort`: which modality, body part and view each file of a mixed folder shows."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedimg.cli.console import Arguments, print_json, print_table, progress, verb_parser
from fedimg.errors import ConfigError

if TYPE_CHECKING:
    from fedimg.sorting import Listed
    from fedimg.sorting.answer import Asked
    from fedimg.sorting.table import Labels

_ABOUT = (
    "Sort a folder of DICOM, NIfTI, PNG and JPEG files by modality, body part and view: by headers, then by their "
    "words, then by a look at the image; what is not sure stays unknown. OUT/manifest.csv says it of each file and "
    "can be data.labels. Nothing leaves this machine, and the source is not changed."
)
_QUESTIONS = ("modality", "body_part", "view")


def run(argv: Sequence[str]) -> int:
    arguments = _parser().parse_args(argv)
    source, out = arguments.source, arguments.out
    if source.is_dir():
        _check_apart(source, out)
    from fedimg.durable import fresh_folder, write_durably
    from fedimg.sorting import Sorter, classifier, sort_folder
    from fedimg.sorting.table import left_out, table_of
    from fedimg.sorting.tree import place

    threshold = classifier.THRESHOLD if arguments.threshold is None else arguments.threshold
    sorter, labels = Sorter(threshold, look=not arguments.headers_only), _labels(arguments)
    with fresh_folder(out) as folder, progress() as report:
        listed = list(sort_folder(source, sorter, lambda done, total: report("sorting", done, total)))
        write_durably(folder / "manifest.csv", table_of(listed, labels))
        write_durably(folder / "left_out.csv", left_out(listed))
        if arguments.tree is not None:
            placed = place(listed, folder, arguments.tree, lambda done, total: report("placing", done, total))
            write_durably(folder / "sorted.csv", placed)
    _tell(listed, labels, as_json=arguments.json)
    return 0


def _parser() -> Arguments:
    parser = verb_parser("sort", _ABOUT)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a folder of image files")
    parser.add_argument("out", type=Path, metavar="OUT", help="a new folder (0700), outside of SOURCE")
    about = (
        "the files again under OUT/sorted/modality/body_part/view, under numbers: as hard links, or as copies"
    )
    parser.add_argument("--tree", choices=("link", "copy"), help=about)
    about = "fill the column label with this answer, to learn it"
    parser.add_argument("--label", choices=_QUESTIONS, help=about)
    about = "take labels (and patient_id, site, split) over from this table, by path"
    parser.add_argument("--labels", type=Path, metavar="FILE", help=about)
    about = "leave the label empty where the answer is another, as in --only modality=CR; may be repeated"
    parser.add_argument("--only", action="append", default=[], metavar="QUESTION=VALUE", help=about)
    about = "least probability at which an image decides; 0.95 if absent"
    parser.add_argument("--threshold", type=float, help=about)
    parser.add_argument("--headers-only", action="store_true", help="do not look at images")
    parser.add_argument("--json", action="store_true", help="the summary as one JSON object on stdout")
    return parser


def _check_apart(source: Path, out: Path) -> None:
    one, other = source.resolve(), out.resolve()
    if one == other or one in other.parents or other in one.parents:
        remedy = "name a new folder outside of the source"
        raise ConfigError("SOURCE and OUT apart", "one within the other", remedy)


def _labels(arguments: Any) -> Labels:
    from fedimg.sorting.answer import Asked
    from fedimg.sorting.table import Labels, earlier_table

    only: dict[Asked, str] = {}
    for word in arguments.only:
        question, _, value = word.partition("=")
        if question not in _QUESTIONS or not value:
            raise ConfigError(f"--only {'|'.join(_QUESTIONS)}=VALUE", word, "as in --only modality=CR")
        only[Asked(question)] = value
    of = Asked(arguments.label) if arguments.label is not None else None
    return Labels(of, earlier_table(arguments.labels) if arguments.labels is not None else None, only)


def _tell(listed: Sequence[Listed], labels: Labels, *, as_json: bool) -> None:
    """Counts only: names and paths stand in the tables."""
    from fedimg.sorting.table import values_of

    refused, kinds, reasons = 0, Counter[tuple[str, ...]](), Counter[str]()
    for entry in listed:
        reasons[entry.answer.reason] += 1
        by = str(entry.answer.decided_by)
        if entry.answer.modality.known or entry.answer.body_part.known:
            kinds[(*values_of(entry.answer).values(), by)] += 1
        else:
            refused += 1
    labelled = sum(bool(labels.cells(entry).get("label")) for entry in listed if entry.relative is not None)
    names = (*_QUESTIONS, "decided_by")
    rows = [{**dict(zip(names, kind, strict=True)), "files": n} for kind, n in sorted(kinds.items())]
    because = [{"reason": reason, "files": n} for reason, n in sorted(reasons.items())]
    if as_json:
        found = {"files": len(listed), "without_answer": refused, "labelled": labelled}
        print_json({**found, "kinds": rows, "reasons": because})
        return
    print_table(rows, (*names, "files"))
    sys.stdout.write("\n")
    print_table(because, ("reason", "files"))
    told = f"; {labelled} with a label" if labels.columns else ""
    sys.stdout.write(
        f"\n{len(listed)} files, {refused} without an answer{told}; manifest.csv says it of each\n"
    )
