"""The shape of a release record, checked whole before any of it is used (`docs/release-record.md`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fedimg.errors import DataError
from fedimg.models.origin import DECLARED_PUBLIC, GENERATED, METHODS, UNKNOWN

RECORD_FORMAT, PART_FORMAT = "fedimg-release-record-3", "fedimg-site-part-1"
Check = Callable[[Any, str], None]

_HEX = re.compile(r"(?:[0-9a-f]{2})+")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_MOST = 10**9
_LARGEST = 1e12  # beyond are infinities and NaN too


def fault(where: str, expected: str) -> DataError:
    """A field that is not what the format says, named by its path. Never quotes the value."""
    return DataError(
        f"{where} of a release record to be {expected}", "something else", "ask for the record again"
    )


def name(value: Any, where: str) -> None:
    if not (isinstance(value, str) and _NAME.fullmatch(value)):
        raise fault(where, "a text of 1 to 200 characters")


def hexes(length: int) -> Check:
    """Lower-case hexadecimal digits of so many bytes."""

    def check(value: Any, where: str) -> None:
        if not (isinstance(value, str) and len(value) == 2 * length and _HEX.fullmatch(value)):
            raise fault(where, f"{length} bytes in hexadecimal digits")

    return check


def count(value: Any, where: str) -> None:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise fault(where, "a whole number from 0")


def number(value: Any, where: str) -> None:
    if type(value) not in (int, float) or not abs(value) <= _LARGEST:
        raise fault(where, "a finite number")


def flag(value: Any, where: str) -> None:
    if type(value) is not bool:
        raise fault(where, "true or false")


def one_of(*choices: str) -> Check:
    def check(value: Any, where: str) -> None:
        if value not in choices:
            raise fault(where, " or ".join(choices))

    return check


def maybe(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None:
            inner(value, where)

    return check


def each(inner: Check, most: int = 100_000) -> Check:
    def check(value: Any, where: str) -> None:
        if not isinstance(value, list) or len(value) > most:
            raise fault(where, f"a list of at most {most}")
        for position, item in enumerate(value):
            inner(item, f"{where}[{position}]")

    return check


def fields(inner: Mapping[str, Check], *, others: Check | None = None) -> Check:
    """An object with exactly these fields; `others` judges further ones where they are allowed."""

    def check(value: Any, where: str) -> None:
        if not isinstance(value, dict):
            raise fault(where, "an object")
        for missing in sorted(inner.keys() - value.keys()):
            raise fault(f"{where}.{missing}".lstrip("."), "there")
        for found in sorted(value.keys()):
            path = f"{where}.{found if found in inner else '(a field)'}".lstrip(".")
            if found in inner:
                inner[found](value[found], path)
            elif others is None:
                raise fault(path, "one that this version of the format knows")
            else:
                others(value[found], path)

    return check


def counts(value: Any, where: str) -> None:
    """Numbers by kind of release."""
    if not isinstance(value, dict) or len(value) > 16:
        raise fault(where, "counts by kind of release")
    for kind, found in value.items():
        name(kind, where)
        count(found, where)


def plain(value: Any, where: str, depth: int = 4) -> None:
    """Any JSON value of little depth: results of audits, whose fields are their own."""
    if isinstance(value, dict | list):
        if depth == 0:
            raise fault(where, "of less depth")
        for item in value.values() if isinstance(value, dict) else value:
            plain(item, where, depth - 1)
    elif isinstance(value, float):
        number(value, where)
    elif value is not None and not isinstance(value, str | int):
        raise fault(where, "a JSON value")


_CODE = fields({"fedimg": name, "digest": hexes(32)})
_CLAIM = fields({"mode": name, "private": flag, "unit": one_of("patient", "image", "client")}, others=plain)
_AUDIT = fields(
    {"audit": name, "verdict": one_of("pass", "fail"), "seconds": number},
    others=plain,
)
_LEDGER = fields(
    {
        "scratch": flag,
        "epsilon_max": number,
        "delta": number,
        "order": count,
        "earlier_runs": count,
        "commitment": hexes(32),
    }
)
PART = fields(
    {
        "format": one_of(PART_FORMAT),
        "run": name,
        "site": name,
        "terms": hexes(32),
        "code": _CODE,
        "claim": _CLAIM,
        "plan": maybe(fields({}, others=plain)),
        "charged": maybe(counts),
        "ledger": maybe(_LEDGER),
        "data": maybe(fields({"commitment": hexes(32), "secret": name})),
        "left_after_round": maybe(count),
    }
)
_STARTING = fields(
    {
        "file": hexes(32),
        "data": one_of(GENERATED, DECLARED_PUBLIC, UNKNOWN),
        "method": maybe(one_of(*METHODS)),
        "source": maybe(name),
        "source_digest": maybe(hexes(32)),
        "fedimg": maybe(name),
        "architecture": maybe(hexes(32)),
        "seed": maybe(count),
    }
)


def _start(value: Any, where: str) -> None:
    """Where the first weights came from: all that a file says of itself, or nothing of it."""
    _STARTING(value, where)
    said = {value[name] is not None for name in value.keys() - {"file", "data"}}
    if said != {value["data"] != UNKNOWN}:
        raise fault(where, "said as a whole, or unknown")


SIGNED_PART = fields({"part": PART, "key": maybe(hexes(32)), "signature": maybe(hexes(64))})
RECORD = fields(
    {
        "run": name,
        "created": name,
        "simulated": flag,
        "insecure_test_mode": flag,
        "terms": hexes(32),
        "rounds": count,
        "secagg": maybe(
            fields(
                {
                    "name": name,
                    "colluders": count,
                    "sums": each(fields({"sites": count, "threshold": count}), 10_000),
                }
            )
        ),
        "claim": fields(
            {
                "mode": name,
                "private": flag,
                "unit": one_of("patient", "image", "client"),
                "adjacency": name,
                "epsilon": maybe(number),
                "delta": maybe(number),
                "max_sites_per_patient": count,
            }
        ),
        "tuning": fields({"policy": one_of("every_run_charged"), "point": count, "points": count}),
        "code": _CODE,
        "model": fields(
            {
                "name": name,
                "parameters": count,
                "architecture": hexes(32),
                "weights": hexes(32),
                "start": maybe(_start),
            }
        ),
        "sites": each(SIGNED_PART),
        "audits": each(_AUDIT, 1000),
    }
)
_DOCUMENT = fields({"format": name, "record": RECORD, "key": hexes(32), "signature": hexes(64)})


def check(document: Any) -> None:
    """Judge a whole document. Raises DataError: foreign, of another version, or not of this shape."""
    if not isinstance(document, dict) or not isinstance(document.get("format"), str):
        raise DataError(
            f"a release record, format {RECORD_FORMAT}",
            "another kind of file",
            "name a run's folder, or the record.json in it",
        )
    if document["format"] != RECORD_FORMAT:
        raise DataError(
            f"a release record of format {RECORD_FORMAT}",
            "a record of another version"
            if document["format"].startswith("fedimg-release-record-")
            else "a file of another format",
            "verify it with the version of fedimg that wrote it",
        )
    _DOCUMENT(document, "")
