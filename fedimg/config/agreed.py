"""A run's terms as plain values, and back: how they come to a site that has no part in the run's configuration."""

from __future__ import annotations

import json
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
        same = plain(terms) == dict(values)
    except (FedimgError, TypeError, RecursionError):
        same, terms = False, None
    if terms is None or not same:
        # a foreign text, whatever it says, does not stand in a log
        raise MessageError("the terms of a run", "values that are none", "install the coordinator's fedimg")
    return terms
