"""Where the site key comes from: a file, a file named by the environment, or a key service's command.

The key itself is never an argument and never a variable: both are visible to other programs of
the machine. A command's output is read, used and not written anywhere.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from fedimg.crypto.keys import KEY_BYTES, SiteKey
from fedimg.errors import ConfigError, DataError

FILE_VARIABLE = "FEDIMG_SITE_KEY_FILE"
COMMAND_VARIABLE = "FEDIMG_SITE_KEY_COMMAND"
_TIMEOUT_S = 60


def find_site_key(named: Path | None, environment: Mapping[str, str]) -> SiteKey | None:
    """The site key, or None where nothing names one.

    Args:
        named: a key file from the command line; it goes before the environment.
        environment: may hold FEDIMG_SITE_KEY_FILE (a path) or FEDIMG_SITE_KEY_COMMAND (a command
            without a shell, whose output is the key: 32 bytes, or 64 hexadecimal digits).

    Raises DataError where the file or the command gives no key, ConfigError where the environment
    names both.
    """
    file, command = environment.get(FILE_VARIABLE), environment.get(COMMAND_VARIABLE)
    if named is not None:
        return SiteKey.load(named)
    if file and command:
        remedy = f"unset {FILE_VARIABLE} or {COMMAND_VARIABLE}"
        raise ConfigError("one source of the site key", "two in the environment", remedy)
    if file:
        return SiteKey.load(Path(file))
    return SiteKey.from_bytes(_output_of(command)) if command else None


def key_file(named: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file that `find_site_key` reads, if it reads one."""
    file = environment.get(FILE_VARIABLE)
    return named if named is not None else Path(file) if file else None


def _output_of(command: str) -> bytes:
    remedy = f"try {COMMAND_VARIABLE} by hand: its output must be 32 bytes or 64 hexadecimal digits"
    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        raise DataError("a key command that runs", "one that does not", remedy) from None
    if done.returncode:
        raise DataError("a key command that succeeds", f"exit code {done.returncode}", remedy)
    if len(done.stdout) == KEY_BYTES:
        return done.stdout
    try:
        key = bytes.fromhex(done.stdout.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise DataError("a key of 32 bytes from the key command", "another length", remedy)
    return key
