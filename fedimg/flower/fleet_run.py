"""The messages of one run over the fleet connection: bytes out, bytes back, with a deadline for each site."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from flwr.app import Message, MessageType, Metadata
from flwr.app.message import make_message, remove_content_from_message
from flwr.common.constant import SUPERLINK_NODE_ID, SubStatus
from flwr.server.superlink.linkstate import LinkState
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store import NoObjectInStoreError

from fedimg.flower.payload import MOST_OBJECTS, content, payload

_POLL_S = 0.02
# Whoever moves bytes, however slowly, is waited for; but not for more than so many deadlines.
_MOST_DEADLINES = 10


class Server(Protocol):
    """What a run needs of its server."""

    state: LinkState

    def node_of(self, site: str) -> int: ...
    def connections(self) -> dict[str, str]: ...
    def moved(self, site: str) -> float:
        """When bytes of a message last went to or came from a site, by `time.monotonic`; 0 for never."""
        ...

    def new_run(self) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """A message on its way: to whom, and since when that node has been connected."""

    site: str
    since: str


class FleetRun:
    """Bytes out, bytes back. A site that is gone, or comes back meanwhile, has no answer."""

    def __init__(self, server: Server) -> None:
        self._server, self._state = server, server.state
        self._run, self._task = server.new_run()

    def exchange(
        self, outgoing: Mapping[str, bytes], deadline_s: float, waiting: Callable[[], None] = lambda: None
    ) -> dict[str, bytes | None]:
        """Ask the named members and wait until all have answered, are gone, or have used up their time.

        Args:
            deadline_s: that a site may have. It counts from the last bytes of a message that went to the site or came
                from it, so that a large model on a slow line is not cut off; in all it is ten times as long at most.
            waiting: called again and again meanwhile. What it raises ends the exchange, and nothing is left of it.
        """
        begun = time.monotonic()
        if not self._state.acknowledge_task_heartbeat(self._task):
            # to Flower a run that was silent for a minute has failed; a coordinator may well compute for longer
            self._run, self._task = self._server.new_run()
        answers: dict[str, bytes | None] = dict.fromkeys(outgoing)
        connected = self._server.connections()
        open_messages: dict[str, _Asked] = {}
        arriving: dict[str, Message] = {}
        try:
            for site, data in outgoing.items():
                if site in connected and (sent := self._send(site, data, deadline_s)):
                    open_messages[sent] = _Asked(site, connected[site])
            while open_messages:
                waiting()
                self._take(open_messages, arriving, answers)
                self._drop(open_messages, arriving, begun, deadline_s)
                self._state.acknowledge_task_heartbeat(self._task)
                time.sleep(_POLL_S)
        finally:
            for asked in list(open_messages):
                self._give_up(asked, open_messages, arriving)
        return answers

    def end(self) -> None:
        self._state.finish_task(self._task, SubStatus.COMPLETED, "")

    def _take(
        self, open_messages: dict[str, _Asked], arriving: dict[str, Message], answers: dict[str, bytes | None]
    ) -> None:
        for reply in self._state.get_message_res(message_ids=set(open_messages), run_id=self._run):
            arriving[reply.metadata.reply_to_message_id] = reply
        for asked, reply in list(arriving.items()):
            if (received := self._received(reply)) is not None:
                answers[open_messages.pop(asked).site] = received or None
                self._state.object_store.delete(arriving.pop(asked).metadata.message_id)
                self._forget(asked)

    def _drop(
        self, open_messages: dict[str, _Asked], arriving: dict[str, Message], begun: float, deadline_s: float
    ) -> None:
        """Give up those whose time is over, and those who are gone before their answer began to arrive."""
        connected, now = self._server.connections(), time.monotonic()
        for asked, about in list(open_messages.items()):
            since = max(begun, self._server.moved(about.site))
            late = now - since > deadline_s or now - begun > _MOST_DEADLINES * deadline_s
            gone = asked not in arriving and connected.get(about.site) != about.since
            if late or gone:
                self._give_up(asked, open_messages, arriving)

    def _give_up(self, asked: str, open_messages: dict[str, _Asked], arriving: dict[str, Message]) -> None:
        del open_messages[asked]
        if (reply := arriving.pop(asked, None)) is not None:
            self._state.object_store.delete(reply.metadata.message_id)
        self._forget(asked)

    def _send(self, site: str, data: bytes, deadline_s: float) -> str | None:
        """The message's id; None where Flower refuses it."""
        metadata = Metadata(
            run_id=self._run,
            message_id="",
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=self._server.node_of(site),
            reply_to_message_id="",
            group_id="",
            created_at=time.time(),
            ttl=_MOST_DEADLINES * deadline_s + 60,
            message_type=MessageType.TRAIN,
        )
        message = make_message(metadata, content(data))
        metadata.__dict__["_message_id"] = message.object_id
        session = self._state.start_session(self._run)  # Flower ends it with the last part
        with no_object_id_recompute():
            objects = get_all_nested_objects(message)
            stored, missing = self._state.store_message_and_object_tree(
                remove_content_from_message(message), get_object_tree(message), session
            )
            for name in missing:
                self._state.store_object(self._run, session, name, objects[name].deflate())
        return message.metadata.message_id if stored else None

    def _received(self, reply: Message) -> bytes | None:
        """An answer whose parts are all here; empty for one that says nothing or cannot be read; None until then."""
        if reply.has_error():
            return b""
        name, store = reply.metadata.message_id, self._state.object_store
        try:
            parts = [tree.object_id for tree in iterate_object_tree(store.get_object_tree(name))]
            found = {part: self._state.get_object(self._run, part) for part in parts[:MOST_OBJECTS]}
            if len(parts) <= MOST_OBJECTS and not all(found.values()):
                return None
            return _read(name, {part: data for part, data in found.items() if data})
        except NoObjectInStoreError:
            return b""

    def _forget(self, message: str) -> None:
        self._state.delete_messages(message_ins_ids={message})
        self._state.object_store.delete(message)


def _read(name: str, parts: dict[str, bytes]) -> bytes:
    """The bytes in an answer; none in what is no answer."""
    try:
        found = inflate_object_from_contents(name, parts)
    except Exception:  # noqa: BLE001 - Flower's reader met a site's bytes: whatever it says, they are no answer
        return b""
    return payload(found) if isinstance(found, Message) else b""
