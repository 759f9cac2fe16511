"""What the benchmarks share: the peers' own environment, and progress that leaves stdout alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def tell(text: str) -> None:
    """Progress goes to stderr, so that stdout holds the result alone."""
    print(text, file=sys.stderr, flush=True)


def peers_python(venv: Path, requirements: Sequence[str]) -> Path:
    """The peers' interpreter; the environment is made the first time."""
    python, stamp = venv / "bin" / "python", venv / ".benchmark-installed"
    wanted = "\n".join(requirements)
    if not (stamp.exists() and stamp.read_text() == wanted):
        tell(f"making {venv.name} (some minutes the first time)")
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *requirements], check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python
