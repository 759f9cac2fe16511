"""Node keys as Flower has them."""

from __future__ import annotations

from pathlib import Path

from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedimg.crypto.link_keys import NodeKey, public_key

CLOCK_AHEAD_S = float(SYSTEM_TIME_TOLERANCE)
CLOCK_BEHIND_S = float(TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE)
"""Each request says when it was signed: a site whose clock is further ahead of the server's, or behind it, is refused."""


def public_bytes(public_pem: str) -> bytes:
    """The form in which Flower compares public keys."""
    return public_key_to_bytes(public_key(public_pem))


def signing(node_key: Path) -> tuple[NodeAuthHttpInterceptor, bytes]:
    """What signs each request with the node key, and its public key as Flower has it.

    Raises DataError where the file is none, or others can read it.
    """
    node = NodeKey.load(node_key)
    key = node.private_key
    return NodeAuthHttpInterceptor(key, key.public_key()), public_bytes(node.public_pem)
