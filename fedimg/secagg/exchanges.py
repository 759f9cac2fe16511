"""One secure sum over the wire: five exchanges, the coordinator's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedimg.errors import MessageError
from fedimg.secagg.coordinator import SumCoordinator
from fedimg.secagg.encoding import OpenedSum
from fedimg.secagg.plan import SumPlan
from fedimg.secagg.request import INPUT_STEP, SumRequest, unpack_answer

Exchange = Callable[[Mapping[str, bytes]], Mapping[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class SumOver:
    """An opened sum, and which answers were discarded on the way and why."""

    opened: OpenedSum
    refused: Mapping[str, str]


def secure_sum(
    plan: SumPlan,
    request: SumRequest,
    names: tuple[str, ...],
    exchange: Exchange,
    accept: Callable[[str, tuple[str, ...]], None],
) -> SumOver:
    """Ask, add up, open.

    Args:
        request: the first question; its instructions go with the third.
        names: the sites that are asked.
        accept: judges the ledger entries that stand behind a site's input; raises MessageError.

    Raises:
        VoidSumError: fewer than t sites were left at some step; nothing was opened.
    """
    coordinator = SumCoordinator(plan, request.label, request.instructions)
    steps = (coordinator.keys, coordinator.sharing, coordinator.survivors, coordinator.confirmed)
    messages: Mapping[str, bytes] = dict.fromkeys((name for name in names if name in plan.identities), b"")
    refused: dict[str, str] = {}

    def asked(step: int) -> dict[str, bytes]:
        instructions = request.instructions if step == INPUT_STEP else b""
        questions = {
            name: SumRequest(request.round, request.task, step, message, instructions).to_bytes()
            for name, message in messages.items()
        }
        found = {}
        for name, data in exchange(questions).items():
            if data is None or name not in questions:
                continue
            try:
                answer, releases = unpack_answer(data)
                if releases:
                    accept(name, releases)
            except MessageError as refusal:
                refused[name] = str(refusal)
                continue
            found[name] = answer
        return found

    for number, take in enumerate(steps):
        messages = take(asked(number))
    opened = coordinator.opened(asked(len(steps)))
    return SumOver(opened, refused | coordinator.refused)
