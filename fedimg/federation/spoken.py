"""Short codes that two people compare by telephone, so that no channel between their machines has to be trusted."""

from __future__ import annotations

import hashlib
import hmac

from fedimg.crypto.keys import framed

# Crockford's base 32: no I, L, O, U, so that nothing is misread.
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MISREAD = str.maketrans("OIL", "011")
_GROUPS, _GROUP = 5, 5


def spoken_code(domain: str, *parts: bytes) -> str:
    """125 bits of scrypt (RFC 7914) over a hash of the framed parts, as five groups of five letters.

    Two lists of parts with one code take 2⁶² tries to find, even for someone who may choose both; each try takes 16 MiB
    and some hundredths of a second.
    """
    # the hash is of one length: scrypt pads a password with zeros
    parts_hash = hashlib.sha256(framed(parts)).digest()
    found = hashlib.scrypt(parts_hash, salt=domain.encode(), n=1 << 14, r=8, p=1, maxmem=1 << 25, dklen=32)
    number = int.from_bytes(found, "big")
    letters = "".join(_LETTERS[number >> (251 - 5 * i) & 31] for i in range(_GROUPS * _GROUP))
    return "-".join(letters[i : i + _GROUP] for i in range(0, len(letters), _GROUP))


def same_code(typed: str, code: str) -> bool:
    """Whether a person typed the code, in any case, with any hyphens and spaces, and O for 0 or I and L for 1."""
    return hmac.compare_digest(_plain(typed), _plain(code))


def _plain(code: str) -> bytes:
    return "".join(code.split()).replace("-", "").upper().translate(_MISREAD).encode(errors="replace")
