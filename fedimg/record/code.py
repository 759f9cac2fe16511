"""Which program made a record: a digest of the installed source files that anyone can recompute.

It is the SHA-256 of the lines that `sha256sum` prints for the package's Python files, in byte order of their
names. In the folder that holds the package:

    find fedimg -name '*.py' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from fedimg.federation.conversation import Program


def digest_of(package: Path) -> str:
    """Hex digest of the Python files below a package's folder, names relative to the folder that holds it."""
    names = sorted(
        (path.relative_to(package.parent).as_posix().encode(), path) for path in package.rglob("*.py")
    )
    total = hashlib.sha256()
    for name, path in names:
        total.update(hashlib.sha256(path.read_bytes()).hexdigest().encode() + b"  " + name + b"\n")
    return total.hexdigest()


def program() -> Program:
    """The one that runs here, as both ends of a federation name it."""
    found = installed()
    return Program(found["fedimg"], found["digest"])


@lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Version and code digest of the program that runs."""
    return {"fedimg": version("fedimg"), "digest": digest_of(Path(__file__).parent.parent)}
