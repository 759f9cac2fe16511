"""Memory that is freed stays with the process: the next file of its size faults in no fresh pages."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_CODE = """
import resource, sys
from fedimg.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for turn in range(300):
    if turn == 50:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [bytes(1 << 19) + b"x" for _ in range(3)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, which is not here")
def test_freed_memory_is_used_again():
    assert faults("keep") < 1000
    assert faults("let go") > 10_000


def test_a_child_of_the_intake_imports_no_torch():
    """Each child would pay over a second of processor time for it."""
    code = "import sys, fedimg.intake.pool; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
