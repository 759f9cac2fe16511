"""Two processes charge one ledger at the same time: one after the other, and nothing is lost or counted twice."""

import os
import subprocess
import sys
from pathlib import Path

from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Ledger, LedgerTerms

CHARGES = 40
CHARGING = """
import sys
from pathlib import Path
from fedimg.crypto.keys import SigningKey
from fedimg.privacy.ledger import Allowance, Ledger

class Plan:
    digest = "plan of " + sys.argv[3]
    allowances = (Allowance("train", 20.0, 1.0, int(sys.argv[4]), 0),)

ledger = Ledger.open(Path(sys.argv[1]), SigningKey.load(Path(sys.argv[2])))
sys.stdin.readline()
ledger.reserve(sys.argv[3], Plan)
for _ in range(int(sys.argv[4])):
    print(ledger.charge(Plan.digest, "train"))
ledger.disconnect()
"""


def test_charges_of_two_processes_are_serialised(tmp_path):
    file, key = tmp_path / "l.sqlite", SigningKey.create(tmp_path / "signing.key")
    Ledger.create(file, key, LedgerTerms(10.0, 1e-5, 8)).disconnect()
    command = [sys.executable, "-P", "-c", CHARGING, str(file), str(tmp_path / "signing.key")]
    children = [
        subprocess.Popen(
            [*command, run, str(CHARGES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"PYTHONPATH": "."},
        )
        for run in ("a", "b")
    ]
    for child in children:  # both have the ledger open before either begins
        child.stdin.write("go\n")
        child.stdin.flush()
    names = [child.communicate()[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    ledger = Ledger.open(file, key)  # verifies every digest and signature
    statement = ledger.statement
    ledger.disconnect()
    assert {name: run.charged for name, run in statement.runs.items()} == {
        "a": {"train": CHARGES},
        "b": {"train": CHARGES},
    }
    assert len({*names[0], *names[1]}) == 2 * CHARGES  # no two releases under one entry
    assert statement.head.sequence == 1 + 2 + 2 * CHARGES
