"""The release record of a model: what was promised, by whom, at what cost; signed, and checked offline."""

from __future__ import annotations

from fedimg.record.build import ModelFacts, RunFacts, signed_record
from fedimg.record.checks import Check
from fedimg.record.commitments import Opening
from fedimg.record.model import FILE as MODEL_FILE
from fedimg.record.model import weights_digest
from fedimg.record.parts import SiteFacts, opening, signed_part, unsigned_part
from fedimg.record.plans import plan_from_json
from fedimg.record.verify import Evidence, Verification, read, verify

FILE = "record.json"

__all__ = [
    "FILE",
    "MODEL_FILE",
    "Check",
    "Evidence",
    "ModelFacts",
    "Opening",
    "RunFacts",
    "SiteFacts",
    "Verification",
    "opening",
    "plan_from_json",
    "read",
    "signed_part",
    "signed_record",
    "unsigned_part",
    "verify",
    "weights_digest",
]
