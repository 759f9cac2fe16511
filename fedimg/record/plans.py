"""A site's plan as it stands in a record: written whole, so that every figure of the claim follows from it."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from fedimg.errors import DataError, FedimgError
from fedimg.privacy.plan import PrivacyPlan, PrivacyRequest

# What dataclass annotations allow in JSON; a bool is never a number.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}
# Beyond these no plan is meant; they keep a hostile record from costing hours to recompute.
_MOST_RELEASES = 10**6


def plan_from_json(value: Any) -> PrivacyPlan:
    """Inverse of `PrivacyPlan.as_json`, strictly. Raises DataError for anything that no plan is."""
    refused = DataError("the plan of a site", "values that are none", "ask for the record again")
    try:
        request = PrivacyRequest(**_typed(value["request"], PrivacyRequest))
        numbers = {name: found for name, found in value.items() if name != "request"}
        infinite = {n: math.inf for n, found in numbers.items() if found is None and n.startswith("epsilon")}
        plan = PrivacyPlan(request=request, **_typed(numbers | infinite, PrivacyPlan, without="request"))
        releases = sum(allowance.most for allowance in plan.allowances)
    except (AttributeError, KeyError, TypeError, ValueError, FedimgError, OverflowError):
        raise refused from None
    if not (0 < plan.sampling_rate <= 1 and plan.declared_patients >= 1 and releases <= _MOST_RELEASES):
        raise refused
    return plan


def _typed(values: dict[str, Any], kind: type, without: str = "") -> dict[str, Any]:
    known = {item.name: str(item.type) for item in fields(kind) if item.name != without}
    if values.keys() != known.keys():
        raise ValueError("other fields")
    for name, value in values.items():
        allowed = tuple(t for part in known[name].split(" | ") for t in _TYPES.get(part, (str,)))
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise TypeError("another type")
        if isinstance(value, float) and math.isnan(value):
            raise ValueError("no number")
    return values
