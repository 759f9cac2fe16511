"""A *simulated* site's open sum as bytes, where an engine gives its steps to different processes.

Keys and seed are in it: it travels inside the one machine of a simulation, in memory, and a real site never makes it.
"""

from __future__ import annotations

import json
from typing import Any

from fedimg.crypto.agreement import AgreementKey
from fedimg.crypto.keys import SigningKey
from fedimg.errors import MessageError
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.site import SumSite, SumState


def dumped(site: SumSite) -> bytes:
    state = site.state
    value: dict[str, Any] = {
        "cipher": state.cipher.private_bytes.hex() if state.cipher else None,
        "mask": state.mask.private_bytes.hex() if state.mask else None,
        "seed": state.seed.hex(),
        "keys": {index: [part.hex() for part in pair] for index, pair in state.keys.items()},
        "sharing": state.sharing,
        "shares": {index: [part.hex() for part in pair] for index, pair in state.shares.items()},
        "input": None if state.input is None else [part.hex() for part in state.input],
        "survivors": state.survivors,
        "shown": [part.hex() for part in state.shown],
        "answers": [part.hex() for part in state.answers],
        "bound": state.bound.hex(),
        "excess": [key.hex() for key in state.excess],
        "over": state.over,
    }
    return json.dumps(value).encode()


def loaded(data: bytes, plan: SumPlan, label: str, name: str, identity: SigningKey) -> SumSite:
    """Raises MessageError for bytes that `dumped` did not make."""
    try:
        value = json.loads(data)
        pairs = {
            field: {int(index): _pair(pair) for index, pair in value[field].items()}
            for field in ("keys", "shares")
        }
        state = SumState(
            cipher=_key(value["cipher"]),
            mask=_key(value["mask"]),
            seed=bytes.fromhex(value["seed"]),
            keys=pairs["keys"],
            sharing=[int(index) for index in value["sharing"]],
            shares=pairs["shares"],
            input=None if value["input"] is None else _pair(value["input"]),
            survivors=[int(index) for index in value["survivors"]],
            shown=[bytes.fromhex(part) for part in value["shown"]],
            answers=[bytes.fromhex(part) for part in value["answers"]],
            bound=bytes.fromhex(value["bound"]),
            excess=[bytes.fromhex(key) for key in value["excess"]],
            over=bool(value["over"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MessageError("the state of a sum", "other bytes", "the site sits this sum out") from None
    return SumSite(plan, label, name, identity, state)


def _key(private: str | None) -> AgreementKey | None:
    return None if private is None else AgreementKey(bytes.fromhex(private))


def _pair(values: list[str]) -> tuple[bytes, bytes]:
    first, second = (bytes.fromhex(value) for value in values)
    return first, second
