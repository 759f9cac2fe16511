"""A run's terms as plain values, and back: how they come to a site that has no part in the run's configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from fedimg.config import strict
from fedimg.errors import FedimgError, MessageError
from fedimg.terms import Terms


def plain(terms: Terms) -> dict[str, Any]:
    """The terms as JSON values, of which `read` makes equal terms."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(terms), default=list))
    return values


def read(values: Mapping[str, Any]) -> Terms:
    """Judged as strictly as a configuration. Raises MessageError for values that are no terms."""
    try:
        terms = strict.build(Terms, values)
        same = plain(terms) == dict(values) and _bounded(terms)
    except (FedimgError, ArithmeticError, TypeError, ValueError, RecursionError):
        same, terms = False, None
    if terms is None or not same:
        # a foreign text, whatever it says, does not stand in a log
        raise MessageError("the terms of a run", "values that are none", "install the coordinator's fedimg")
    return terms


def _bounded(terms: Terms) -> bool:
    """Whether these are numbers that a run can have: what is beyond is meant to keep a site busy, not to train.

    A file of weights is the coordinator's: sites get parameters, and no path of theirs is named from afar.
    """
    privacy, imaging = terms.privacy, terms.imaging
    counts = (
        (terms.rounds, 10**6),
        (privacy.rounds * max(1, privacy.local_steps), 10**6),
        (privacy.evaluations, 10**4),
        (privacy.retry_allowance or 0, 10**6),
        (privacy.images_per_patient, 10**4),
        (math.prod(imaging.image_size), 2**28),
        (imaging.augmentation.copies, 10**3),
        (math.prod(terms.measure.shape), 10**6),
    )
    return terms.model.weights is None and all(found <= most for found, most in counts)
