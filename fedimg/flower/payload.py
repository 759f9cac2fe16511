"""A Flower message that is bytes in one record, and nothing else."""

from __future__ import annotations

from flwr.app import ConfigRecord, Message, MessageType, RecordDict

RECORD, _PAYLOAD = "fedimg", "payload"
MOST_OBJECTS = 8  # of a message: itself, its content, one record


def content(data: bytes, **more: int) -> RecordDict:
    """`data`, and what else an engine has to say to itself."""
    record = ConfigRecord({_PAYLOAD: data})
    record.update(more)
    return RecordDict({RECORD: record})


def message_to(node: int, data: bytes) -> Message:
    return Message(content(data), dst_node_id=node, message_type=MessageType.TRAIN)


def payload(message: Message) -> bytes:
    """The bytes; none of a message of another form."""
    record = message.content.get(RECORD) if message.has_content() else None
    data = record.get(_PAYLOAD) if isinstance(record, ConfigRecord) else None
    return data if isinstance(data, bytes) else b""
