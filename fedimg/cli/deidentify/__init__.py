"""`fedimg deidentify`: keys, a folder's way across the identity boundary, proof of it, and the ways back."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from fedimg.cli.console import Arguments, verb_parser
from fedimg.errors import ConfigError

_ABOUT: Final = "De-identify a folder, prove it, and decide on what was held back."
_CODES: Final = (
    "exit codes: 0 every input has a decision (released, or in quarantine with a reason); "
    "1 the run failed or was not finished; 2 arguments, configuration or key; "
    "4 data: no such folder, a full disk, or receipts, signatures or released files that do not hold; "
    "130 interrupted. A run that did not end with 0 is finished by the same command."
)
_KEYS: Final = (
    "The site key comes from deid.key=FILE, else from the file that FEDIMG_SITE_KEY_FILE names, else from "
    "the output of the command in FEDIMG_SITE_KEY_COMMAND (a key service). It lies outside IN and OUT and "
    "is never an argument."
)


def run(argv: Sequence[str]) -> int:
    parser = verb_parser("deidentify", _ABOUT)
    parser.epilog = f"{_KEYS} {_CODES}"
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="keygen|plan|run|verify|report|review|table|reidentify"
    )
    for add in (_keygen, _plan, _run, _verify, _report, _review, _table, _reidentify):
        add(actions)
    arguments, rest = parser.parse_known_args(argv)
    if rest and (not hasattr(arguments, "words") or any(word.startswith("-") for word in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    words = [*(getattr(arguments, "words", None) or ()), *rest]  # argparse leaves those behind an option over
    arguments.overrides = [word for word in words if word.lstrip("+").startswith("deid")]
    arguments.words = [word for word in words if word not in arguments.overrides]
    if arguments.words and arguments.action != "review":
        raise ConfigError("overrides of deid", arguments.words[0], "see `fedimg deidentify --help`")
    work: Callable[[Any], int] = arguments.work
    return work(arguments)


def _action(actions: Any, name: str, about: str, module: str) -> Arguments:
    def work(arguments: argparse.Namespace) -> int:
        from importlib import import_module

        return int(getattr(import_module(f"fedimg.cli.deidentify.{module}"), name)(arguments))

    parser: Arguments = actions.add_parser(name, help=about, description=about, epilog=f"{_KEYS} {_CODES}")
    parser.set_defaults(work=work)
    return parser


def _overrides(parser: Arguments) -> None:
    about = "deid.profile=ps315-basic, deid.project=…, deid.head=…; `fedimg config` lists them"
    parser.add_argument("words", nargs="*", metavar="deid.…=value", help=about)


def _json(parser: Arguments) -> None:
    parser.add_argument("--json", action="store_true", help="JSON on stdout")


def _keygen(actions: Any) -> None:
    about = "make a site key: 32 random bytes in a new file of mode 0600"
    _action(actions, "keygen", about, "keys").add_argument("file", type=Path)


def _plan(actions: Any) -> None:
    plan = _action(actions, "plan", "say what a run would do with every input; nothing is written", "take")
    plan.add_argument("source", type=Path, metavar="IN", help="folder of DICOM, NIfTI, PNG and JPEG files")
    _overrides(plan)
    _json(plan)


def _run(actions: Any) -> None:
    about = "de-identify every file of a folder: OUT/released, OUT/quarantine and a receipt for each"
    take = _action(actions, "run", about, "take")
    take.add_argument("source", type=Path, metavar="IN", help="folder of DICOM, NIfTI, PNG and JPEG files")
    about = "a new or empty folder, that of an earlier run, or a site's home"
    take.add_argument("out", type=Path, metavar="OUT", help=about)
    _overrides(take)
    take.add_argument("--workers", type=int, metavar="N", help="processes; deid.workers if absent")
    _json(take)


def _verify(actions: Any) -> None:
    about = "check receipts, signature and every released byte; exit code 4 if one does not hold"
    check = _action(actions, "verify", about, "prove")
    check.add_argument("out", type=Path, metavar="OUT", help="what a run filled, or a site's home")
    about = (
        "public key known beforehand (64 hexadecimal digits, or a file). Without it the one in OUT is taken, "
        "and a forger of all of OUT is not found"
    )
    check.add_argument("--key", help=about)
    about = "with --run: which receipts of this home a run's release record was about"
    check.add_argument("--commitment", metavar="HEX", help=about)
    check.add_argument("--run", metavar="ID", help="the run of --commitment")
    _json(check)


def _report(actions: Any) -> None:
    about = "write a page with exact counts and images before and after; confidential, mode 0600"
    page = _action(actions, "report", about, "page")
    page.add_argument("out", type=Path, metavar="OUT", help="what a run filled, or a site's home")
    about = "report.html in a home if absent; outside of OUT where OUT is not a home"
    page.add_argument("--file", type=Path, metavar="FILE.html", help=about)
    page.add_argument(
        "--input", type=Path, metavar="IN", help="the folder that the run took in: its originals"
    )
    about = "deid.key=FILE and the other overrides that the run had"
    page.add_argument("words", nargs="*", metavar="deid.…=value", help=about)


def _review(actions: Any) -> None:
    review = _action(
        actions, "review", "list what was held back, look at it, release it or let it go", "review"
    )
    review.add_argument("out", type=Path, metavar="OUT")
    what = "list | preview N FILE.png | release N | discard N"
    about = "and deid.key=FILE and the other overrides that the run had"
    review.add_argument("words", nargs="*", metavar=what, help=about)
    review.add_argument("--position", type=int, metavar="N", help="only this input")
    review.add_argument("--input", type=Path, metavar="IN", help="the folder that the run took in")
    review.add_argument("--frame", type=int, default=0, help="of a preview")
    review.add_argument("--reason", help="no-text, technical-text or coincidence")
    review.add_argument("--reviewer", default="", help="name or number of whoever decides")
    _json(review)


def _table(actions: Any) -> None:
    table = _action(actions, "table", "print the compiled table of a profile", "prove")
    table.add_argument("--profile", default="train")
    table.add_argument("--csv", action="store_true")
    _json(table)


def _reidentify(actions: Any) -> None:
    about = "find the patient behind a pseudonym among candidates; the look-up is logged first"
    find = _action(actions, "reidentify", about, "keys")
    find.add_argument("out", type=Path, metavar="OUT")
    find.add_argument("--pseudonym", required=True, metavar="FI…")
    find.add_argument(
        "--candidates", required=True, type=Path, metavar="FILE", help="CSV: patient_id[,issuer]"
    )
    find.add_argument("--custodian", required=True, help="who looks it up; goes into the log")
    _overrides(find)
    _json(find)
