"""Groups of patients that a model is measured by: closed public lists, and how a text becomes one of their codes.

A code is a place in a list of this module and nothing else: free text of a header or a table never passes. A site
keeps an image's codes in its home, as coarse as the steps here; which of them a run tells apart (`Grouping`) is part
of the run's terms, so that one intake serves any number of runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError

Codes = tuple[int, int, int]
"""Of `SEXES`, of `AGE_STEPS` plus one, of `MANUFACTURERS`; 0 for what is not known."""
ATTRIBUTES = ("sex", "age_band", "scanner")
UNKNOWN: Codes = (0, 0, 0)
SEXES = ("unknown", "female", "male", "other")
AGE_STEPS = (0, 1, 2, 5, 10, 12, 15, 18, *range(20, 91, 5))
"""Years at which a band may begin; who is 90 or older is in one."""
MANUFACTURERS = (
    *("unknown", "other", "ge", "siemens", "philips", "canon", "fujifilm", "hitachi", "agfa", "carestream"),
    *("samsung", "mindray", "konica_minolta", "hologic", "shimadzu", "united_imaging"),
    *("aurelia", "norwerk", "kitami", "brightwell", "castellan"),  # of generated hospitals; nobody's else
)
MOST_GROUPS = tuple(map(len, (SEXES, (0, *AGE_STEPS), MANUFACTURERS)))
"""Codes of each attribute are below."""
_OLDEST = 150.0
_LONGEST = 64  # of a value of VR LO: what follows is read by nobody
_WORDS = re.compile(r"[a-z]+")
_AGE = re.compile(r"(\d{1,3})(?:\.\d{1,6})?([dwmy]?)", re.ASCII)
_PER_YEAR = {"d": 365.25, "w": 365.25 / 7, "m": 12.0, "y": 1.0, "": 1.0}
_SEX = {"f": 1, "female": 1, "w": 1, "m": 2, "male": 2, "o": 3, "other": 3}
# The first words of what manufacturers write: (0008,0070) has no closed list of its own.
_MAKERS: dict[tuple[str, ...], str] = {
    ("ge",): "ge",
    ("gems",): "ge",
    ("general", "electric"): "ge",
    ("picker",): "philips",
    ("adac",): "philips",
    ("marconi",): "philips",
    ("toshiba",): "canon",
    ("fuji",): "fujifilm",
    ("acuson",): "siemens",
    ("kodak",): "carestream",
    ("medison",): "samsung",
    ("konica",): "konica_minolta",
    ("minolta",): "konica_minolta",
    ("lorad",): "hologic",
    ("united", "imaging"): "united_imaging",
    ("uih",): "united_imaging",
} | {(name,): name for name in MANUFACTURERS[2:] if "_" not in name}


def sex_code(text: str) -> int:
    """Of `SEXES`: F, M and O as in (0010,0040), or the words; anything else is unknown."""
    return _SEX.get(text[:_LONGEST].strip(" \0").lower(), 0)


def age_code(text: str) -> int:
    """Of an age string (037Y, 011M) or a number of years; 0 for anything else, and for what is no age."""
    found = _AGE.fullmatch(text[:_LONGEST].strip(" \0").lower())
    return age_code_of(float(found[1]) / _PER_YEAR[found[2]]) if found else 0


def age_code_of(years: float) -> int:
    """1 + the last of `AGE_STEPS` that is reached; 0 where nobody can be of that age."""
    if not (math.isfinite(years) and 0 <= years <= _OLDEST):
        return 0
    return int(np.searchsorted(AGE_STEPS, years, side="right"))


def maker_code(text: str) -> int:
    """Of `MANUFACTURERS`, by the first words; a text that begins with none of theirs is other, an empty one unknown."""
    short = text[:_LONGEST].strip(" \0")
    words = tuple(_WORDS.findall(short.lower()))
    if not short:
        return 0
    name = _MAKERS.get(words[:1]) or _MAKERS.get(words[:2]) or "other"
    return MANUFACTURERS.index(name)


def merged(said: Codes, read: Codes) -> Codes:
    """What a table says counts more than what a header does; where it says nothing the header counts."""
    first, second, third = (one or other for one, other in zip(said, read, strict=True))
    return first, second, third


def checked_codes(found: Any) -> Codes:
    """Codes as JSON has them. Raises ValueError for anything else."""
    if not (isinstance(found, list) and len(found) == len(ATTRIBUTES)) or not all(
        type(code) is int and 0 <= code < most for code, most in zip(found, MOST_GROUPS, strict=True)
    ):
        raise ValueError("no codes of groups")
    first, second, third = found
    return first, second, third


@dataclass(frozen=True)
class Grouping:
    """Which groups a run's evaluation tells apart: public, and equal at every site.

    Attributes:
        attributes: of `ATTRIBUTES`; none: no group is told apart.
        age_edges: years at which a band begins, of `AGE_STEPS`, the first 0.
        scanners: manufacturers that are groups of their own, of `MANUFACTURERS`; all others are one together.

    Every attribute has a group "unknown", so that each patient is in one.
    """

    attributes: tuple[str, ...] = ()
    age_edges: tuple[int, ...] = (0, 18, 40, 65)
    scanners: tuple[str, ...] = ("ge", "siemens", "philips", "canon", "fujifilm")

    def __post_init__(self) -> None:
        _check_list("evaluation.subgroups", self.attributes, ATTRIBUTES)
        _check_list("evaluation.scanners", self.scanners, MANUFACTURERS[2:])
        _check_list("evaluation.age_edges", self.age_edges, AGE_STEPS)
        if self.age_edges[:1] != (0,) or any(a >= b for a, b in pairwise(self.age_edges)):
            raise ConfigError(
                "evaluation.age_edges to begin with 0 and to rise", str(list(self.age_edges)), "correct it"
            )

    def groups(self, attribute: str) -> tuple[str, ...]:
        """Names of an attribute's groups, the last one "unknown"."""
        if attribute == "sex":
            return (*SEXES[1:], "unknown")
        if attribute == "scanner":
            return (*self.scanners, "other", "unknown")
        inner = (f"{low}-{high - 1}" for low, high in pairwise(self.age_edges))
        return (*inner, f"{self.age_edges[-1]}+", "unknown")

    def indices(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(N, 3) codes → (N, attributes): the place of each image's group among `groups`.

        A code that is in no list counts as unknown: what a site holds must not make its evaluation fail.
        """
        found = np.zeros((len(codes), len(self.attributes)), np.int64)
        for column, name in enumerate(self.attributes):
            place = ATTRIBUTES.index(name)
            table, own = self._table(name), codes[:, place]
            found[:, column] = table[np.where((own >= 0) & (own < len(table)), own, 0)]
        return found

    def _table(self, attribute: str) -> npt.NDArray[np.int64]:
        """By code the place of its group."""
        unknown = len(self.groups(attribute)) - 1
        if attribute == "sex":
            return np.array([unknown, *range(unknown)])
        if attribute == "scanner":
            named = [self.scanners.index(m) if m in self.scanners else unknown - 1 for m in MANUFACTURERS[1:]]
            return np.array([unknown, *named])
        return np.array([unknown, *np.searchsorted(self.age_edges, AGE_STEPS, side="right") - 1])


def _check_list(key: str, found: Sequence[Any], known: Sequence[Any]) -> None:
    if not set(found) <= set(known) or len(set(found)) < len(found):
        expected = f"{key}: different ones out of {', '.join(map(str, known))}"
        raise ConfigError(expected, ", ".join(map(str, found))[:200], "change it")
