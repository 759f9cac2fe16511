"""Many files as one sealed file for one reader, signed by its maker: backups of a home, released studies.

Inside the sealed stream (`crypto.sealed_stream`), integers big endian:

    u32, JSON         facts: canonical, at most 64 KiB; `sender` is the maker's Ed25519 key, hex
    u64, u64          number of files, and the sum of their sizes
    for each file     u16 and its name, u64 its size, 32 bytes SHA-256
    64                signature: Ed25519 (RFC 8032) by `sender`
    the files' bytes, in the same order, with nothing between and nothing behind

Signed are, framed: "fedimg archive 1", the purpose, the SHA-256 of the stream's header (in which the reader's sealed key
is, so that a reader cannot hand on what was signed as if it had been for another) and that of all before the signature.

Names are ASCII parts of letters, digits, `.`, `_` and `-` that begin with none of the last three, joined by `/`; they
rise, so that none comes twice, and none lies below another. There are no links, modes, times or owners.
"""

from fedimg.archive.layout import Entry, read_public_key, written_public_key
from fedimg.archive.reading import Archive
from fedimg.archive.writing import Member, Written, write

__all__ = ["Archive", "Entry", "Member", "Written", "read_public_key", "write", "written_public_key"]
