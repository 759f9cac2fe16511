"""Every reason for which an input can be held back has words, in the report and for the operator."""

from __future__ import annotations

import pytest

from fedimg.intake import REMEDIES
from fedimg.report.origins import REASONS
from fedimg.values import Quarantine


@pytest.mark.parametrize("words", [REASONS, REMEDIES], ids=["the report", "the operator's remedies"])
def test_every_reason_of_quarantine_has_words_of_its_own(words):
    assert [reason.value for reason in Quarantine if not words.get(reason, "").strip()] == []
    assert set(words) == set(Quarantine)
    assert len(set(words.values())) == len(words)
