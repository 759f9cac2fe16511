"""One JSON value, one string of bytes: what is signed, and how a document is read before it is believed.

Canonical: UTF-8, keys in order of code points, no spaces, numbers as Python writes them (shortest digits that
read back the same), no NaN and no infinity. A reader parses the document, checks it against its schema, encodes
it again and verifies the signature over those bytes.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fedimg.crypto.keys import SigningKey, framed
from fedimg.crypto.keys import verify as verify_signature
from fedimg.errors import DataError

MOST_BYTES = 16 * 2**20


def encode(value: Any) -> bytes:
    """The canonical bytes of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.encode()


def decode(data: bytes, what: str) -> Any:
    """A JSON value from bytes that nobody vouches for; `what` names it in errors.

    Raises:
        DataError: too long, not JSON, a key twice in one object, or a number that JSON does not have.
    """
    remedy = f"ask for the {what} again"
    if len(data) > MOST_BYTES:
        raise DataError(f"a {what} of at most {MOST_BYTES // 2**20} MiB", "a longer file", remedy)

    def unknown(_name: str) -> NoReturn:
        raise DataError(f"a {what} in JSON", "a number that is none (NaN or infinity)", remedy)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise DataError(f"a {what} in which every field stands once", "a field that stands twice", remedy)
        return found

    try:
        found = json.loads(data.decode(), parse_constant=unknown, object_pairs_hook=once)
        encode(found)  # half of a surrogate pair is JSON, and no text
    except (ValueError, RecursionError):
        raise DataError(f"a {what} in JSON", "bytes that are not", remedy) from None
    return found


def decode_canonical(data: bytes, what: str) -> Any:
    """The same, of nothing but canonical bytes and a line feed: one document, one string of bytes."""
    found = decode(data, what)
    if encode(found) != data.removesuffix(b"\n"):
        raise DataError(
            f"a {what} as it was written", "one that was written anew", f"ask for the {what} again"
        )
    return found


def sign(value: Any, key: SigningKey, domain: str) -> str:
    """Ed25519 over the framed domain and canonical bytes, hex."""
    return key.sign(framed([domain.encode(), encode(value)])).hex()


def signed_by(value: Any, key: str, signature: str, domain: str) -> bool:
    """Whether the signature is that key's, both hex, over exactly this value."""
    try:
        public, found = bytes.fromhex(key), bytes.fromhex(signature)
    except ValueError:
        return False
    if (public.hex(), found.hex()) != (
        key,
        signature,
    ):  # one way to write them, so that no other bytes verify
        return False
    return verify_signature(public, found, framed([domain.encode(), encode(value)]))
