"""Which attribute may be in a release, and what becomes of its value: tables as data, with a digest.

A profile is an allow-list in contexts: `root`, and one per kind of sequence item. Whatever a
context does not name is dropped (X). The other actions are those of PS3.15 E.1: K keep (numbers
and registered UIDs, form checked), C clean (closed vocabulary, coded meaning, age band), U keyed
UID, D constant or pseudonym, Z empty.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, cast

from pydicom._uid_dict import UID_dictionary

from fedimg.errors import ConfigError

Action = Literal["D", "Z", "X", "K", "C", "U"]

PROFILES = ("train",)
# Designators under which SNOMED-RT identifiers were written (PS3.16 section 8.1).
_SCHEME_ALIASES = {"SNM3": "SRT", "99SDM": "SRT"}
_CONSTANTS = frozenset({"patient_key", "yes", "method", "method_codes", "removed"})


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of one context.

    Attributes:
        tag: as a 32-bit number. vr: the dictionary's ("OB or OW" where it leaves a choice).
        maximum: most values, None without bound. rule: name of a vocabulary, context or constant.
        allowed: the closed vocabulary behind action C, upper case; None for other rules.
    """

    tag: int
    vr: str
    maximum: int | None
    keyword: str
    action: Action
    rule: str | None
    allowed: frozenset[str] | None = None


Context = Mapping[int, Row]


@dataclass(frozen=True, slots=True)
class Profile:
    """A table, loaded and checked.

    Attributes:
        digest: SHA-256 over all tables that decide about a release, hex. edition: their sources.
        contexts: name → tag → row. codes: coding scheme → value → meaning.
        object_types: SOP class → route; a class that is not in it is quarantined.
    """

    name: str
    version: int
    edition: str
    digest: str
    contexts: Mapping[str, Context]
    codes: Mapping[str, Mapping[str, str]]
    confidentiality_codes: tuple[str, ...]
    object_types: Mapping[str, str]

    def meaning(self, scheme: str, code: str) -> str | None:
        """Code meaning in the closed vocabulary, or None for a code outside it."""
        return self.codes.get(_SCHEME_ALIASES.get(scheme, scheme), {}).get(code)


@cache
def load_profile(name: str) -> Profile:
    """A shipped profile. Raises ConfigError for an unknown name or a table that contradicts itself."""
    if name not in PROFILES:
        raise ConfigError(f"a profile among {', '.join(PROFILES)}", "another name", "choose one of them")
    table, codes, roles = (_read(f"{part}.json") for part in (name, "codes", "uid_roles"))
    canonical = json.dumps([table, codes, roles], sort_keys=True, separators=(",", ":")).encode()
    contexts = {key: _context(key, rows, table, roles) for key, rows in table["contexts"].items()}
    return Profile(
        name=table["profile"],
        version=table["version"],
        edition=table["edition"],
        digest=hashlib.sha256(canonical).hexdigest(),
        contexts=MappingProxyType(contexts),
        codes=codes,
        confidentiality_codes=tuple(table["confidentiality_codes"]),
        object_types=table["object_types"],
    )


@cache
def registered_uids() -> frozenset[str]:
    """UIDs that PS3.6 annex A registers: public constants, the only UIDs that stand in a release unkeyed."""
    return frozenset(UID_dictionary)


def _read(name: str) -> dict[str, Any]:
    text = resources.files("fedimg.dicom").joinpath("tables", name).read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def _context(name: str, rows: list[list[str]], table: Mapping[str, Any], roles: Mapping[str, str]) -> Context:
    context: dict[int, Row] = {}
    for tag, vr, multiplicity, keyword, action, *rest in rows:
        rule = rest[0] if rest else None
        words = table["vocabularies"].get(rule) if action == "C" else None
        row = Row(
            int(tag, 16),
            vr,
            _maximum(multiplicity),
            keyword,
            cast("Action", action),
            rule,
            frozenset(words) if words is not None else None,
        )
        if not _consistent(row, table, roles) or row.tag in context:
            found = f"{keyword} in context {name}"
            raise ConfigError("a profile table without contradictions", found, "restore the shipped table")
        context[row.tag] = row
    return MappingProxyType(context)


def _maximum(multiplicity: str) -> int | None:
    last = multiplicity.rpartition("-")[2]
    return int(last) if last.isdigit() else None


def _consistent(row: Row, table: Mapping[str, Any], roles: Mapping[str, str]) -> bool:
    """Whether a row says something the engine knows how to do, and says it of a public attribute."""
    if row.tag >> 16 & 1 or row.tag >> 16 in (0x0002, 0x0004):
        return False
    if row.vr == "SQ" and row.action == "K":
        return row.rule in table["contexts"]
    if row.action == "C":
        return row.allowed is not None or row.rule in ("code", "age_band")
    if row.vr == "UI":
        role = roles.get(row.keyword)
        return (row.action, row.rule, role) in {("U", None, "keyed"), ("K", "registered", "registered")}
    if row.action == "K":
        return row.vr in _NUMERIC and row.rule is None
    if row.action == "D":
        return row.rule is None or row.rule in _CONSTANTS
    return row.action == "Z"


_NUMERIC = frozenset(
    {"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AT", "OW", "OB or OW", "US or SS", "US or OW"}
)
