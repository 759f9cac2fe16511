"""Virtual sites on Flower's simulation runtime on Ray (`flwr.simulation`).

Its `run_simulation` is announced as deprecated in favour of a command line; it is the only entry that takes apps from a
running program.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flwr.app import ConfigRecord, Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedimg.errors import FederationError
from fedimg.flower.payload import RECORD, content, message_to, payload

Exchange = Callable[[Mapping[str, bytes]], Mapping[str, bytes | None]]
Result = TypeVar("Result")
Answer = Callable[[int, bytes, bytes], tuple[bytes | None, bytes]]
_PARTITION, _STATE = "partition", "state"


def client_app(answer: Answer) -> ClientApp:
    """A Flower client whose every message is bytes in, bytes out.

    Args:
        answer: (number of the virtual site, instructions, what it kept) → (answer, or None to decline, what it
            keeps until the next message). It must not raise: Flower would put the exception's text into its log
            and on the wire.
    """
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        data = payload(message)
        kept = context.state.get(RECORD)
        state = kept[_STATE] if isinstance(kept, ConfigRecord) else b""
        reply, state = (
            answer(number, data, state if isinstance(state, bytes) else b"") if data else (None, b"")
        )
        context.state[RECORD] = ConfigRecord({_STATE: state})
        return Message(content(reply or b"", **{_PARTITION: number}), reply_to=message)

    return app


def grid_exchange(grid: Grid, node_of: Mapping[str, int], deadline_s: float) -> Exchange:
    """`server_round`'s exchange over a Flower grid."""
    site_of = {node: site for site, node in node_of.items()}

    def exchange(outgoing: Mapping[str, bytes]) -> dict[str, bytes | None]:
        messages = [message_to(node_of[site], data) for site, data in outgoing.items()]
        answers: dict[str, bytes | None] = dict.fromkeys(outgoing)
        for reply in grid.send_and_receive(messages, timeout=deadline_s):
            site = site_of.get(reply.metadata.src_node_id)
            if site in answers and reply.has_content():
                answers[site] = payload(reply) or None
        return answers

    return exchange


def run_on_ray(
    names: tuple[str, ...],
    answer: Answer,
    conduct: Callable[[Exchange], Result],
    *,
    cpus: int,
    deadline_s: float = 3600.0,
) -> Result:
    """Run `conduct` (the coordinator's loop) with virtual sites on Flower's Ray engine.

    Args:
        names: the sites; the n-th is Flower's partition n.
        answer: see `client_app`; it is pickled to Ray's worker processes.
        cpus: how many sites work at once, one CPU each.

    Raises:
        FederationError: Ray is not installed, or the virtual sites did not start.
        Whatever `conduct` raises.
    """
    try:
        from flwr.simulation import run_simulation
    except ImportError:
        raise FederationError("the Ray engine", "no Ray", "pip install 'fedimg[ray]'") from None
    outcome: list[Result] = []
    failure: list[BaseException] = []
    server = ServerApp()

    @server.main()
    def main(grid: Grid, _context: Context) -> None:
        try:
            outcome.append(conduct(grid_exchange(grid, _find_sites(grid, names), deadline_s)))
        except BaseException as error:  # noqa: BLE001 - handed to the caller, out of this thread
            failure.append(error)

    resources: dict[str, dict[str, Any]] = {
        "client_resources": {"num_cpus": 1},
        "init_args": {"num_cpus": cpus, "log_to_driver": False},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(server, client_app(answer), len(names), backend_config=resources)
    if failure:
        raise failure[0]
    if not outcome:
        raise FederationError("a finished run on Ray", "none", "read Ray's log, or use engine=inprocess")
    return outcome[0]


def _find_sites(grid: Grid, names: tuple[str, ...], patience_s: float = 120.0) -> dict[str, int]:
    """Node ids are random and appear late: wait for all, then ask each which partition it is."""
    end = time.monotonic() + patience_s
    while len(nodes := list(grid.get_node_ids())) < len(names):
        if time.monotonic() > end:
            raise FederationError(
                f"{len(names)} virtual sites on Ray", f"{len(nodes)}", "give Ray more CPUs or memory"
            )
        time.sleep(0.05)
    replies = grid.send_and_receive([message_to(node, b"") for node in nodes], timeout=patience_s)
    found = {
        names[number]: reply.metadata.src_node_id
        for reply in replies
        if reply.has_content() and isinstance(number := reply.content[RECORD][_PARTITION], int)
    }
    if set(found) != set(names):
        raise FederationError(
            f"{len(names)} virtual sites on Ray", f"{len(found)} that answer", "read Ray's log"
        )
    return found
