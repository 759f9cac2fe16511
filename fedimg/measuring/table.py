"""Samples → a CSV of measurements that stays at the site, with a rulebook's answer where one is given."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fedimg.dicom.refusal import Quarantined
from fedimg.errors import ConfigError, DataError
from fedimg.imaging.cleaning import Rejected
from fedimg.imaging.measurements import REGISTRY, measure
from fedimg.imaging.measurements.registry import Value, group_of, known
from fedimg.imaging.rules import Rulebook
from fedimg.measuring.samples import Sample
from fedimg.values import Quarantine

WARNING = "# patient data of this site, written by fedimg measure: no release, not to leave it"
_RULE = ("rule", "rule_class", "rule_score")
UNUSABLE = "unusable"


@dataclass(frozen=True)
class Measured:
    """Attributes: columns: of measurements. rows: one a sample, in order. reasons: of samples that were not measured."""

    columns: tuple[str, ...]
    rows: tuple[dict[str, Value], ...]
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def measured(self) -> int:
        return len(self.rows) - self.reasons.total()


def chosen(text: str | None) -> tuple[str, ...]:
    """`a,b`: names or groups of names, in the registry's order; all but radiomics where nothing is said.

    Raises ConfigError for what is neither.
    """
    groups: dict[str, list[str]] = {}
    for name in REGISTRY:
        groups.setdefault(group_of(name), []).append(name)
    radiomics = [name for part in ("intensity", "shape", "texture") for name in groups[part]]
    if text is None:
        return tuple(name for name in REGISTRY if name not in radiomics)
    wanted: set[str] = set()
    for part in (part.strip() for part in text.split(",")):
        if part == "radiomics":
            wanted |= set(radiomics)
        elif part in groups:
            wanted |= set(groups[part])
        else:
            try:
                known(part)
            except ConfigError as error:
                listed = ", ".join((*groups, "radiomics"))
                raise ConfigError(
                    f"names of measurements, or groups ({listed})", repr(part), error.remedy
                ) from None
            wanted.add(part)
    return tuple(name for name in REGISTRY if name in wanted)


def measured(
    samples: Sequence[Sample],
    names: Sequence[str],
    book: Rulebook | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Each sample's row; one that cannot be measured has its reason, a closed code, and stops no other."""
    asked = (*names, *(sorted(book.names - set(names)) if book is not None else ()))
    rows, reasons = list[dict[str, Value]](), Counter[str]()
    for number, sample in enumerate(samples, start=1):
        row: dict[str, Value] = {"file": sample.name, "patient": sample.patient}
        try:
            found = {name: value for name, value in measure(sample.open(), asked).items() if _finite(value)}
            row |= {name: found[name] for name in names if name in found}
            if book is not None:
                decision = book.decide(found)
                row |= dict(zip(_RULE, (decision.rule, decision.label, decision.score), strict=True))
        except (Quarantined, Rejected) as refusal:
            row["reason"] = refusal.reason.value
        except DataError:
            row["reason"] = UNUSABLE
        except Exception:  # noqa: BLE001 - one file may make a library fail in ways of its own
            row["reason"] = Quarantine.UNSAFE_STRUCTURE.value
        if "reason" in row:
            reasons[str(row["reason"])] += 1
        rows.append(row)
        if progress is not None:
            progress(number, len(samples))
    return Measured((*names, *(_RULE if book is not None else ())), tuple(rows), reasons)


def as_csv(table: Measured) -> str:
    """UTF-8, a line of warning first; empty cells are what a sample does not have."""
    stream = io.StringIO()
    stream.write(f"{WARNING}\n")
    writer = csv.DictWriter(
        stream, ("file", "patient", "reason", *table.columns), restval="", lineterminator="\n"
    )
    writer.writeheader()
    for row in table.rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return stream.getvalue()


def _finite(value: Value) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _harmless(value: Value) -> Value:
    """Text that a spreadsheet would run as a formula is text; so are the ends of lines in a file's name."""
    if not isinstance(value, str):
        return value
    plain = "".join(c if c.isprintable() else "?" for c in value)
    return f"'{plain}" if plain[:1] in ("=", "+", "-", "@") else plain
