"""Missing, short, forked, unreadable, tampered with: each is refused, by the ledger that stands on the chain."""

import shutil
import sqlite3
import stat

import pytest

from fedimg.crypto.keys import SigningKey
from fedimg.errors import BudgetExhausted, LedgerError
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


@pytest.fixture
def other(ledger, tmp_path, signing_key):
    """The same ledger in another process, as far as it can tell."""
    ledger.reserve("a", Plan())
    opened = Ledger.open(tmp_path / "l.sqlite", signing_key)
    yield opened
    opened.disconnect()


def test_a_second_writer_for_the_same_run_makes_the_first_refuse(ledger, other):
    other.reserve("a", Plan())
    other.charge("plan", "train")
    for _ in range(2):  # and does not take it up again by itself
        with pytest.raises(
            LedgerError, match=r"entries for this run written by another|reserve the plan before"
        ):
            ledger.charge("plan", "train")
    assert ledger.statement.runs["a"].charged == {"train": 1}
    ledger.reserve("a", Plan())
    ledger.charge("plan", "train")
    assert ledger.statement.runs["a"].charged == {"train": 2}


def test_runs_of_two_processes_take_turns_on_one_chain(ledger, other, tmp_path, signing_key):
    """Each decides on every entry that there is, whoever wrote it."""
    other.reserve("b", Plan("other"))
    for turn in (ledger, other, other, ledger):
        turn.charge("plan" if turn is ledger else "other", "train")
    other.close("b")
    ledger.close("a")
    statement = reopened(tmp_path, signing_key).statement
    assert {name: run.charged["train"] for name, run in statement.runs.items()} == {"a": 2, "b": 2}
    assert statement.head.sequence == 1 + 2 + 4 + 2
    assert ledger.statement.committed == pytest.approx(statement.committed)


def test_what_another_process_has_reserved_does_not_fit_twice(ledger, other):
    """The budget at order 8 is 10 − conv; both runs fit alone, not together."""
    most = int(ledger.remaining)  # one release at σ = 2 costs 1
    other.reserve("b", Plan("other", count=most - 1, retries=0, noise=2.0))
    with pytest.raises(BudgetExhausted, match="a plan costing at most"):
        ledger.reserve("c", Plan("third", count=2, retries=0, noise=2.0))
    assert set(ledger.statement.runs) == {"a", "b"}
    with pytest.raises(LedgerError, match="reserve the plan before round 1"):
        ledger.charge("third", "train")


def test_a_file_that_was_put_back_under_an_open_ledger_is_not_written_on(ledger, other, tmp_path):
    """Entries that this process has written itself are gone."""
    ledger.charge("plan", "train")
    damage(tmp_path / "l.sqlite", "DELETE FROM entries WHERE sequence = 3")
    with pytest.raises(LedgerError, match="put back or forked"):
        ledger.charge("plan", "train")


def test_a_link_and_a_file_that_others_may_read_are_no_ledger(ledger, tmp_path, signing_key):
    ledger.disconnect()
    file, link_there = tmp_path / "l.sqlite", tmp_path / "link.sqlite"
    link_there.symlink_to(file)
    with pytest.raises(LedgerError, match="found a link"):
        Ledger.open(link_there, signing_key)
    file.chmod(0o640)
    with pytest.raises(LedgerError, match="found one of mode 0640"):
        Ledger.open(file, signing_key)


def test_entries_cannot_be_changed_through_the_connection(ledger, tmp_path):
    connection = sqlite3.connect(tmp_path / "l.sqlite")
    for statement in ("UPDATE entries SET body = x''", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="append only"):
            connection.execute(statement)
    connection.close()
