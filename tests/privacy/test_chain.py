"""Missing, short, forked, unreadable, tampered with: each is refused, by the ledger that stands on the chain."""

import shutil
import sqlite3
import stat

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.errors import LedgerError
from fedimg.privacy.chain import START, link
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms

TERMS = LedgerTerms(10.0, 1e-5, 8)


class Plan:
    """Five training releases and one retry at σ = 4, q = 1: ρ = 6·8/(2·16) = 1.5 at order 8."""

    def __init__(self, digest="plan", count=5, retries=1, noise=4.0):
        self.digest = digest
        self.allowances = (Allowance("train", noise, 1.0, count, retries),)


@pytest.fixture
def ledger(tmp_path, signing_key):
    made = Ledger.create(tmp_path / "l.sqlite", signing_key, TERMS)
    yield made
    made.disconnect()


def reopened(tmp_path, signing_key, **options):
    again = Ledger.open(tmp_path / "l.sqlite", signing_key, **options)
    again.disconnect()
    return again


def test_a_site_has_one_ledger_and_it_is_its_own(ledger, tmp_path, signing_key):
    assert stat.S_IMODE((tmp_path / "l.sqlite").stat().st_mode) == 0o600
    with pytest.raises(LedgerError, match="no ledger here yet; found one that exists"):
        Ledger.create(tmp_path / "l.sqlite", signing_key, TERMS)
    with pytest.raises(LedgerError, match="no ledger file"):
        Ledger.open(tmp_path / "nowhere.sqlite", signing_key)
    assert not (tmp_path / "nowhere.sqlite").exists()


def damage(path, statement, *values):
    connection = sqlite3.connect(path)
    connection.executescript("DROP TRIGGER no_update; DROP TRIGGER no_delete;")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        (
            "UPDATE entries SET body = replace(body, '\"noise\":4.0', '\"noise\":9.0') WHERE sequence = 2",
            "of another type",
        ),
        (
            "UPDATE entries SET body = CAST(replace(body, ':4.0', ':9.0') AS BLOB) WHERE sequence = 2",
            "does not continue",
        ),
        ("DELETE FROM entries WHERE sequence = 3", "does not continue"),
        ("UPDATE entries SET sequence = 9 WHERE sequence = 4", "does not continue"),
        ("UPDATE entries SET signature = zeroblob(64) WHERE sequence = 4", "did not sign"),
        ("DELETE FROM entries", "no opening entry"),
        ("DROP TABLE entries", "unreadable"),
    ],
)
def test_every_way_of_tampering_is_refused(ledger, tmp_path, signing_key, statement, found):
    ledger.reserve("a", Plan())
    ledger.charge("plan", "train")
    ledger.charge("plan", "train")
    ledger.disconnect()
    damage(tmp_path / "l.sqlite", statement)
    with pytest.raises(LedgerError, match=found):
        reopened(tmp_path, signing_key)


def test_a_rewritten_chain_without_the_key_is_refused(ledger, tmp_path, signing_key):
    """An attacker who recomputes the digests still cannot sign them."""
    ledger.reserve("a", Plan())
    before = ledger._chain.bodies[0]
    ledger.disconnect()
    body = ledger._chain.bodies[1].replace(b'"noise":4.0', b'"noise":9.0')
    digest = link(link(START, before), body)
    damage(tmp_path / "l.sqlite", "UPDATE entries SET body = ?, digest = ? WHERE sequence = 2", body, digest)
    with pytest.raises(LedgerError, match="did not sign"):
        reopened(tmp_path, signing_key)


def test_bytes_that_are_no_database_and_another_sites_ledger_are_refused(ledger, tmp_path, signing_key):
    ledger.disconnect()
    with pytest.raises(LedgerError, match="did not sign"):
        reopened(tmp_path, SigningKey.from_bytes(b"x" * 32))
    (tmp_path / "l.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="unreadable"):
        reopened(tmp_path, signing_key)


def test_a_rollback_and_a_fork_show_by_the_head_seen_before(ledger, tmp_path, signing_key):
    ledger.reserve("a", Plan())
    ledger.disconnect()
    backup = tmp_path / "backup"
    shutil.copy(tmp_path / "l.sqlite", backup)
    forward = Ledger.open(tmp_path / "l.sqlite", signing_key)
    forward.reserve("a", Plan())
    forward.charge("plan", "train")
    seen = forward.head
    forward.disconnect()
    reopened(tmp_path, signing_key, known_head=seen)
    shutil.copy(backup, tmp_path / "l.sqlite")
    with pytest.raises(LedgerError, match="2 entries where 3 were seen before: it was rolled back"):
        reopened(tmp_path, signing_key, known_head=seen)
    forked = Ledger.open(tmp_path / "l.sqlite", signing_key)
    forked.reserve("b", Plan("other"))
    forked.disconnect()
    with pytest.raises(LedgerError, match="another entry 3 than the one seen before: the ledger was forked"):
        reopened(tmp_path, signing_key, known_head=seen)


def test_a_second_writer_makes_the_first_refuse(ledger, tmp_path, signing_key):
    ledger.reserve("a", Plan())
    other = Ledger.open(tmp_path / "l.sqlite", signing_key)
    other.reserve("b", Plan("other"))
    other.disconnect()
    with pytest.raises(LedgerError, match="entries written by another process"):
        ledger.charge("plan", "train")
    assert ledger.statement.runs["a"].charged == {}


def test_entries_cannot_be_changed_through_the_connection(ledger, tmp_path):
    connection = sqlite3.connect(tmp_path / "l.sqlite")
    for statement in ("UPDATE entries SET body = x''", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            connection.execute(statement)
    connection.close()
