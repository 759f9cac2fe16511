"""What is said of one file. Every word is this program's own: none was read from the file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

UNKNOWN = "unknown"


class By(StrEnum):
    """What decided, the surest first: attributes and codes of the header, words of its texts, the image."""

    HEADER = "header"
    TEXT = "text"
    IMAGE = "image"
    NOTHING = "nothing"


class Because(StrEnum):
    """Why an answer is as it is. A file that cannot be sorted has a code of `Quarantine` instead."""

    COMPLETE = "complete"
    NO_VIEW = "no_view"
    NO_BODY_PART = "no_body_part"
    NO_MODALITY = "no_modality"
    BELOW_THRESHOLD = "below_threshold"
    NOT_LEARNT = "not_learnt"
    HEADER_AND_TEXT_DIFFER = "header_and_text_differ"
    TEXT_AMBIGUOUS = "text_ambiguous"


class Asked(StrEnum):
    """The three questions, as the table's columns call them."""

    MODALITY = "modality"
    BODY_PART = "body_part"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Said:
    """One question's answer and what gave it."""

    value: str = UNKNOWN
    by: By = By.NOTHING

    @property
    def known(self) -> bool:
        return self.value != UNKNOWN


@dataclass(frozen=True, slots=True)
class Answer:
    """All three.

    Attributes:
        confidence: probability of what the image decided; None where the image decided nothing. Headers and
            words have none: what is written there is right or wrong, and how often nobody has said.
        reason: a code of `Because` or, of a file that cannot be sorted, of `Quarantine`.
    """

    modality: Said = Said()
    body_part: Said = Said()
    view: Said = Said()
    confidence: float | None = None
    reason: str = ""

    @property
    def decided_by(self) -> By:
        """The least sure of what gave an answer."""
        order = list(By)
        given = [said.by for said in (self.modality, self.body_part, self.view) if said.known]
        return max(given, key=order.index, default=By.NOTHING)

    def because(self, told: str = "") -> Self:
        """With its reason: the first question without an answer, else what else there is to tell."""
        missing = {
            Because.NO_MODALITY: self.modality,
            Because.NO_BODY_PART: self.body_part,
            Because.NO_VIEW: self.view,
        }
        first = next((reason for reason, said in missing.items() if not said.known), Because.COMPLETE)
        return replace(self, reason=told or str(first))
