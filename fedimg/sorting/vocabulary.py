"""The public table of words: what texts and terms of standards say of body part, view and modality.

`tables/vocabulary.json` holds defined terms of PS3.16 annex L and words in English, German, French and
Spanish. Nothing of a text is kept but the table's own name for what it says.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

_NO_LETTER = re.compile(r"[^a-z0-9]+")
_LANGUAGES = ("en", "de", "fr", "es")
_LONGEST_TEXT = 512  # characters: a description is a line, not a report


class Heard(NamedTuple):
    """What a text says: `value` None where it says nothing, or two things that do not go together."""

    value: str | None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class _Phrase:
    words: tuple[str, ...]
    value: str

    def at(self, tokens: tuple[str, ...], start: int) -> bool:
        there = tokens[start : start + len(self.words)]
        return len(there) == len(self.words) and all(map(_says, self.words, there))


def _says(word: str, token: str) -> bool:
    return token.startswith(word[:-1]) if word.endswith("*") else token == word


@dataclass(frozen=True)
class Lexicon:
    """One question's words, by their first word; `terms` are whole values of coded attributes."""

    terms: Mapping[str, str]
    phrases: Mapping[str, tuple[_Phrase, ...]]
    open_phrases: tuple[_Phrase, ...]

    def of_term(self, text: str) -> str | None:
        """What a defined term (BodyPartExamined, ViewPosition) stands for."""
        return self.terms.get(_joined(text))

    def hear(self, text: str) -> Heard:
        """What a free text says."""
        tokens = tokens_of(text)
        hits = [
            (start, start + len(phrase.words), phrase.value)
            for start, token in enumerate(tokens)
            for phrase in (*self.phrases.get(token, ()), *self.open_phrases)
            if phrase.at(tokens, start)
        ]
        kept = {
            value
            for start, end, value in hits
            if not any(s <= start and end <= e and e - s > end - start for s, e, _ in hits)
        }
        return _one_of(kept)


def tokens_of(text: str) -> tuple[str, ...]:
    """Words without case, accents and punctuation; letters and digits that touch stay together."""
    plain = unicodedata.normalize("NFKD", text[:_LONGEST_TEXT].casefold())
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return tuple(word for word in _NO_LETTER.split(plain) if word)


def lexicon(question: str) -> Lexicon:
    """The words of `body_part`, `projection`, `plane` or `modality`."""
    return _lexicons()[question]


def listed(name: str) -> Any:
    """A list or mapping of the table by its name."""
    return _table()[name]


def _one_of(values: set[str]) -> Heard:
    """The most particular of several values, if the others all hold it; what they are together; or none."""
    if len(values) <= 1:
        return Heard(next(iter(values), None))
    table = _table()
    for value in sorted(values):
        if values - {value} <= set(table["within"].get(value, ())):
            return Heard(value)
    particular = {v for v in values if not any(v in table["together"].get(w, ()) for w in values)}
    whole = next((w for w, parts in table["together"].items() if values <= {w, *parts}), None)
    if whole is not None and (len(particular) == 1 or whole not in values):
        return Heard(whole)
    return Heard(None, ambiguous=True)


def _joined(text: str) -> str:
    return "".join(tokens_of(text))


@cache
def _table() -> Mapping[str, Any]:
    path = resources.files("fedimg.sorting").joinpath("tables", "vocabulary.json")
    table: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


@cache
def _lexicons() -> Mapping[str, Lexicon]:
    return {name: _built(_table()[name]) for name in ("body_part", "projection", "plane", "modality")}


def _built(entries: Mapping[str, Mapping[str, Iterable[str]]]) -> Lexicon:
    terms = {_joined(term): value for value, entry in entries.items() for term in entry["terms"]}
    phrases: dict[str, list[_Phrase]] = {}
    with_any_ending: list[_Phrase] = []
    for value, entry in entries.items():
        spoken = {tuple(_words(text)) for language in _LANGUAGES for text in entry[language]}
        for words in sorted(spoken):
            phrase = _Phrase(words, value)
            if words[0].endswith("*"):
                with_any_ending.append(phrase)
            else:
                phrases.setdefault(words[0], []).append(phrase)
    return Lexicon(terms, {first: tuple(found) for first, found in phrases.items()}, tuple(with_any_ending))


def _words(text: str) -> list[str]:
    """Tokens of a table's phrase; umlauts are written both ways in headers, which `tokens_of` folds into one."""
    stars = [word.endswith("*") for word in text.split()]
    words = list(tokens_of(text.replace("*", "")))
    if any(stars):
        words[-1] += "*"
    return words
