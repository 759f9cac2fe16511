"""Pin every wheel of a folder by its SHA-256: requirements.txt for pip, SHA256SUMS for everyone.

    python scripts/wheelhouse_index.py FOLDER [--extras EXTRAS]

Needs nothing but Python. Names of wheels: the binary distribution format's (name-version[-build]-python-abi-platform).
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[A-Za-z0-9_.!+]+)(-\d[A-Za-z0-9_.]*)?(-[A-Za-z0-9_.]+){3}\.whl",
    re.ASCII,
)
_OWN = "fedimg"


def requirements(folder: Path, extras: str = "") -> list[str]:
    """One line a wheel, the program's own last. Raises ValueError: no wheel of it, one distribution twice, other files."""
    lines: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        found = _WHEEL.fullmatch(path.name)
        if found is None:
            raise ValueError(f"expected wheels only; found {path.name}; remove it")
        name = re.sub(r"[-_.]+", "-", found["name"]).lower()  # as package indexes write names
        if name in lines:
            raise ValueError(f"expected one wheel of {name}; found two; make the folder again")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        wanted = f"[{extras}]" if extras and name == _OWN else ""
        lines[name] = f"{name}{wanted}=={found['version']} --hash=sha256:{digest}"
    if _OWN not in lines:
        raise ValueError(f"expected a wheel of {_OWN}; found none; make the folder again")
    own = lines.pop(_OWN)
    return [*(lines[name] for name in sorted(lines)), own]


def write(folder: Path, extras: str = "") -> int:
    """Both files; returns the number of wheels."""
    lines = requirements(folder, extras)
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", "utf-8")
    sums = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            sums.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (folder / "SHA256SUMS").write_text("".join(sums), "utf-8")
    return len(lines)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extras", default="")
    arguments = parser.parse_args()
    try:
        write(arguments.folder, arguments.extras)
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
