"""Which attribute may be in a release, and what becomes of its value: tables as data, with a digest.

A profile gives every attribute a row: in `train`, an allow-list, per kind of sequence item; in the
profiles of PS3.15, which `ps315` compiles, per SOP class and path. What has no row is dropped. The
actions are those of PS3.15 E.1: K keep (numbers and registered UIDs, form checked), C clean (closed
vocabulary, coded meaning, moved date, age band), U keyed UID, D dummy, constant or pseudonym, Z
empty, X drop.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

from pydicom._uid_dict import UID_dictionary

from fedimg.errors import ConfigError

Action = Literal["D", "Z", "X", "K", "C", "U"]
Temporal = Literal["REMOVED", "MODIFIED"]

PROFILES = ("train", "ps315-basic", "ps315-research")
# Designators under which SNOMED-RT identifiers were written (PS3.16 section 8.1).
_SCHEME_ALIASES = {"SNM3": "SRT", "99SDM": "SRT"}
CONSTANTS = frozenset({"patient_key", "yes", "method", "method_codes", "temporal", "burned_in"})
# Rules of action C that no vocabulary stands behind.
CLEANERS = frozenset({"age_band", "age_cap", "date", "datetime", "time", "descriptor", "device"})
NUMERIC = frozenset(
    {"DS", "IS", "US", "SS", "UL", "SL", "FL", "FD", "AT", "SV", "UV", "OW"}
    | {"OB or OW", "US or SS", "US or OW", "US or SS or OW"}
)


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute of one context.

    Attributes:
        tag: as a 32-bit number; of a private element without its block. vr: the dictionary's ("OB or
            OW" where it leaves a choice). choices: the same, apart.
        maximum: most values, None without bound. rule: name of a vocabulary, context, cleaner or constant.
        allowed: the closed vocabulary behind action C, upper case; None for other rules.
        kind: what the engine does with a value, from action, VR and rule.
        fallback: X, Z or D for a value that K or C refuses; of a kept sequence D says that it stays even
            where its items came out empty. source: what made the row so.
    """

    tag: int
    vr: str
    maximum: int | None
    keyword: str
    action: Action
    rule: str | None
    allowed: frozenset[str] | None = None
    fallback: Action = "X"
    source: str = "profile"
    kind: str = field(init=False)
    choices: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _kind(self))
        object.__setattr__(self, "choices", tuple(self.vr.split(" or ")))


def _kind(row: Row) -> str:
    if row.action == "K":
        return "items" if row.vr == "SQ" else "registered" if row.vr == "UI" else "number"
    if row.action == "C":
        if row.rule == "code":
            return "codes" if row.vr == "SQ" else "code_part"
        return row.rule if row.rule in CLEANERS and row.rule is not None else "words"
    if row.action == "D":
        return "dummy" if row.rule == "dummy" else "constant"
    return {"U": "keyed", "Z": "empty", "X": "drop"}[row.action]


Rows = Mapping[int, Row]


class Context:
    """The rows that hold in one kind of data set or item.

    Args:
        rows: of this context; they go before those of `base`.
        inside: the context of a kept sequence's items.
    """

    __slots__ = ("_base", "_children", "_inside", "_rows", "name")

    def __init__(self, name: str, rows: Rows, base: Rows, inside: Callable[[Row], Context]) -> None:
        self.name, self._rows, self._base, self._inside = name, rows, base, inside
        self._children: dict[int, Context] = {}

    def get(self, tag: int) -> Row | None:
        """The row of a public attribute; None for what the profile does not know."""
        return self._rows.get(tag) or self._base.get(tag)

    def inside(self, row: Row) -> Context:
        """The context of the items of this row's sequence."""
        found = self._children.get(row.tag)
        if found is None:
            found = self._children[row.tag] = self._inside(row)
        return found


class TableRow(NamedTuple):
    """One row of the compiled table, for people: `fedimg deidentify table`."""

    context: str
    tag: str
    keyword: str
    vr: str
    action: str
    rule: str
    otherwise: str
    source: str


@dataclass(frozen=True, slots=True)
class Profile:
    """A table, loaded and checked.

    Attributes:
        digest: SHA-256 over all tables that decide about a release, hex. edition: their sources.
        contexts: name → tag → row, whatever the SOP class. root: SOP class → context of its data set.
        overlays: SOP class → the rows in which its contexts differ from `contexts`.
        code: context of coded items. codes: coding scheme → value → meaning.
        terms: words that a descriptor may hold. private: (group, creator) → element → row.
        object_types: SOP class → route; a class that is not in it is quarantined.
        temporal: what (0028,0303) says. keep_times: whether times of day stay with moved dates.
    """

    name: str
    version: int
    edition: str
    digest: str
    contexts: Mapping[str, Rows]
    root: Callable[[str], Context]
    codes: Mapping[str, Mapping[str, str]]
    confidentiality_codes: tuple[str, ...]
    object_types: Mapping[str, str]
    code: Context
    temporal: Temporal = "REMOVED"
    terms: frozenset[str] = frozenset()
    private: Mapping[tuple[int, str], Rows] = field(default_factory=dict)
    keep_times: bool = False
    overlays: Callable[[str], Iterator[tuple[str, Rows]]] = lambda _: iter(())

    def meaning(self, scheme: str, code: str) -> str | None:
        """Code meaning in the closed vocabulary, or None for a code outside it."""
        return self.codes.get(_SCHEME_ALIASES.get(scheme, scheme), {}).get(code)

    def table(self, sop_classes: Collection[str] = ()) -> Iterator[TableRow]:
        """Every row of the contexts that hold for all objects, and of the safe private elements.

        Of each of `sop_classes` also the rows in which its IOD makes a difference, by path.
        """
        for name, rows in self.contexts.items():
            yield from (_table_row(name, row) for row in rows.values())
        for sop_class in sop_classes:
            for path, rows in self.overlays(sop_class):
                yield from (_table_row(f"{sop_class}/{path}", row) for row in rows.values())
        for (_, creator), rows in self.private.items():
            yield from (_table_row(f"private {creator}", row) for row in rows.values())


def _table_row(context: str, row: Row) -> TableRow:
    tag = f"({row.tag >> 16:04X},{row.tag & 0xFFFF:04X})"
    return TableRow(context, tag, row.keyword, row.vr, row.action, row.rule or "", row.fallback, row.source)


@cache
def load_profile(name: str, *, keep_times: bool = False) -> Profile:
    """A shipped profile. `keep_times`: times of day stay with moved dates (ps315-research only).

    Raises ConfigError for an unknown name, an option that the profile does not have, or a table
    that contradicts itself.
    """
    if name not in PROFILES:
        raise ConfigError(f"a profile among {', '.join(PROFILES)}", "another name", "choose one of them")
    if keep_times and name != "ps315-research":
        raise ConfigError(
            "a profile that keeps dates", f"{name} with times of day kept", "choose ps315-research"
        )
    if name != "train":
        from fedimg.dicom import ps315

        return ps315.compiled(name, keep_times=keep_times)
    return _train()


def _train() -> Profile:
    from fedimg.dicom import e1_1

    table, codes, roles = (read_table(part) for part in ("train", "codes", "uid_roles"))
    rows = {key: _rows(key, listed, table, roles) for key, listed in table["contexts"].items()}
    contexts: dict[str, Context] = {}

    def inside(row: Row) -> Context:
        named = "code" if row.rule == "code" else "method_code" if row.rule == "method_codes" else row.rule
        return contexts[named or "code"]

    def asked(sop_class: str) -> Rows:
        return e1_1.asked(rows["root"], e1_1.types_of(sop_class).get((), {}))

    contexts |= {key: Context(key, of_context, {}, inside) for key, of_context in rows.items()}
    return Profile(
        name=table["profile"],
        version=table["version"],
        edition=table["edition"],
        digest=digest_of(table, codes, roles, read_table("attribute_types")),
        contexts=MappingProxyType(rows),
        root=lru_cache(maxsize=64)(lambda sop_class: Context("root", asked(sop_class), rows["root"], inside)),
        codes=codes,
        confidentiality_codes=tuple(table["confidentiality_codes"]),
        object_types=table["object_types"],
        code=contexts["code"],
        overlays=lambda sop_class: iter([("", asked(sop_class))]),
    )


@cache
def registered_uids() -> frozenset[str]:
    """UIDs that PS3.6 annex A registers: public constants, the only UIDs that stand in a release unkeyed."""
    return frozenset(UID_dictionary)


def digest_of(*tables: Any) -> str:
    """SHA-256 over the canonical JSON of tables, hex."""
    canonical = json.dumps(tables, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(canonical).hexdigest()


def read_table(name: str) -> Any:
    """A shipped table, as JSON gives it."""
    text = resources.files("fedimg.dicom").joinpath("tables", f"{name}.json").read_text(encoding="utf-8")
    return json.loads(text)


def maximum_of(multiplicity: str) -> int | None:
    """The most values that a VM allows; None without bound ("1-n", "2-2n")."""
    last = multiplicity.rpartition("-")[2]
    return int(last) if last.isdigit() else None


def _rows(name: str, rows: list[list[str]], table: Mapping[str, Any], roles: Mapping[str, str]) -> Rows:
    context: dict[int, Row] = {}
    for tag, vr, multiplicity, keyword, action, *rest in rows:
        rule = rest[0] if rest else None
        words = table["vocabularies"].get(rule) if action == "C" else None
        row = Row(
            int(tag, 16),
            vr,
            maximum_of(multiplicity),
            keyword,
            cast("Action", action),
            rule,
            frozenset(words) if words is not None else None,
            "D" if vr == "SQ" and action == "K" else "X",
        )
        if not _consistent(row, table, roles) or row.tag in context:
            found = f"{keyword} in context {name}"
            raise ConfigError("a profile table without contradictions", found, "restore the shipped table")
        context[row.tag] = row
    return MappingProxyType(context)


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
        return row.vr in NUMERIC and row.rule is None
    if row.action == "D":
        return row.rule is None or row.rule == "dummy" or row.rule in CONSTANTS
    return row.action == "Z"
