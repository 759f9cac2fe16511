"""Kill -9 while a ledger is made: afterwards there is none, or a whole one, and nothing to remove by hand."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.errors import LedgerError
from fedimg.privacy import chain, chain_file
from fedimg.privacy.ledger import Ledger, LedgerTerms

TERMS = LedgerTerms(10.0, 1e-5, 8)
DYING = """
import os, signal, sys
from pathlib import Path
from fedimg.crypto.keys import SigningKey
from fedimg.privacy import chain, chain_file
from fedimg.privacy.ledger import Ledger, LedgerTerms

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

place, name, ledger, key = sys.argv[1:]
setattr({"chain": chain, "file": chain_file, "os": chain_file.os, "key": SigningKey}[place], name, die)
Ledger.create(Path(ledger), SigningKey.load(Path(key)), LedgerTerms(10.0, 1e-5, 8))
"""


@pytest.fixture
def key(tmp_path):
    return SigningKey.create(tmp_path / "signing.key")


@pytest.mark.parametrize(
    ("place", "name", "made"),
    [
        ("key", "sign", False),  # the tables are there, the opening entry is not
        ("os", "link", False),  # whole, but under its other name
        ("file", "sync_folder", True),
        ("chain", "connect", True),  # about to be opened for the first time
    ],
)
def test_a_kill_at_any_step_leaves_no_half_made_ledger(tmp_path, key, place, name, made):
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, "-P", "-c", DYING, place, name, str(path), str(tmp_path / "signing.key")]
    ended = subprocess.run(
        command, cwd=Path(__file__).parents[2], env=os.environ | {"PYTHONPATH": "."}, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert path.exists() == made
    ledger = (Ledger.open if made else lambda *a: Ledger.create(*a, TERMS))(path, key)
    assert ledger.terms == TERMS
    assert ledger.head.sequence == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ledger.disconnect()
    if not made:
        assert sorted(p.name for p in tmp_path.iterdir()) == ["ledger.sqlite", "signing.key"]


def test_of_two_that_make_a_ledger_at_once_one_is_refused(tmp_path, key, monkeypatch):
    """Both saw that there was none; the second to finish must not replace the first."""
    path = tmp_path / "ledger.sqlite"
    write = chain.write_new

    def overtaken(partial, first):
        write(partial, first)
        monkeypatch.setattr(chain, "write_new", write)
        Ledger.create(tmp_path / "other.sqlite", key, LedgerTerms(5.0, 1e-5, 8)).disconnect()
        os.rename(tmp_path / "other.sqlite", path)  # noqa: PTH104 - the other process's name for it

    monkeypatch.setattr(chain, "write_new", overtaken)
    with pytest.raises(LedgerError, match="no ledger here yet; found one that exists"):
        Ledger.create(path, key, TERMS)
    ledger = Ledger.open(path, key)
    assert ledger.terms.epsilon_max == 5.0
    ledger.disconnect()


def test_the_log_of_a_ledger_that_is_gone_is_a_ledger_that_exists(tmp_path, key):
    """Entries may stand in the write-ahead log alone; a fresh budget beside them would be a rollback."""
    (tmp_path / "ledger.sqlite-wal").write_bytes(b"entries")
    with pytest.raises(LedgerError, match="found one that exists"):
        Ledger.create(tmp_path / "ledger.sqlite", key, TERMS)


def test_a_folder_that_cannot_be_written_is_refused_and_left_clean(tmp_path, key, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(chain_file.os, "link", full)
    with pytest.raises(LedgerError, match="a folder that cannot be written"):
        Ledger.create(tmp_path / "ledger.sqlite", key, TERMS)
    assert [p.name for p in tmp_path.iterdir()] == ["signing.key"]
