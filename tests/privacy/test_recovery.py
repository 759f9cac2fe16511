"""After the loss of the disk: nothing that was reserved may be spent again, and no other history is taken."""

import shutil

import pytest

from fedimg.errors import BudgetExhausted, LedgerError, MessageError
from fedimg.privacy.chain import Head, head_of
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.ledger import Allowance, Ledger, LedgerTerms, verify

TERMS = LedgerTerms(10.0, 1e-5, 8)


class Plan:
    """A release at σ = 2, q = 1 costs 1 at order 8."""

    def __init__(self, digest="plan", count=3):
        self.digest = digest
        self.allowances = (Allowance("train", 2.0, 1.0, count, 1, "patients"),)


@pytest.fixture
def path(tmp_path, signing_key):
    """A ledger with a closed run of one charge, and an open one that has reserved 4 and spent 2."""
    ledger = Ledger.create(tmp_path / "l.sqlite", signing_key, TERMS)
    ledger.reserve("closed", Plan("p"))
    ledger.enrol("closed", {"patients": ["a" * 32]}, "5" * 16)
    ledger.charge("p", "train")
    ledger.close("closed")
    ledger.reserve("open", Plan())
    ledger.enrol("open", {"patients": ["a" * 32, "b" * 32]}, "5" * 16)
    for _ in range(2):
        ledger.charge("plan", "train")
    ledger.disconnect()
    return tmp_path / "l.sqlite"


def backed_up(path, signing_key, kind):
    if kind == "file":
        shutil.copy(path, path.with_name("backup"))
    else:
        ledger = Ledger.open(path, signing_key)
        path.with_name("backup").write_bytes(ledger.extract())
        ledger.disconnect()
    return path.with_name("backup")


def lost(path):
    for file in path.parent.glob(path.name + "*"):
        file.unlink()


@pytest.mark.parametrize("kind", ["file", "extract"])
def test_everything_reserved_counts_as_spent(path, signing_key, kind):
    backup = backed_up(path, signing_key, kind)
    live = Ledger.open(path, signing_key)
    live.reserve("open", Plan())
    live.charge("plan", "train")
    seen, reserved = live.head, live.last_reserved
    live.disconnect()
    lost(path)
    ledger = Ledger.recover(path, signing_key, backup, seen, reserved)
    assert ledger.statement.committed == pytest.approx(1 + 4)
    assert ledger.head.sequence == seen.sequence + 1
    assert ledger.last_reserved == reserved
    with pytest.raises(LedgerError, match="found a closed one"):
        ledger.reserve("open", Plan())
    # the server's check, an extract's, and the next opening
    statement = verify(ledger.extract(), signing_key.public_bytes)
    assert statement.head == ledger.head
    assert statement.committed == ledger.statement.committed
    ledger.reserve("next", Plan("next", count=2))
    ledger.enrol("next", {"patients": ["a" * 32, "new".zfill(32)]}, "5" * 16)
    ledger.charge("next", "train")
    there = ledger.present("train", ledger.seats(["a" * 32, "new".zfill(32)]))
    assert there.tolist() == [True, True]
    ledger.disconnect()
    for known in (seen, Head(3, b"?" * 32)):
        if known.sequence == 3:
            with pytest.raises(LedgerError, match="forked"):
                Ledger.open(path, signing_key, known)
        else:
            Ledger.open(path, signing_key, known).disconnect()
    with pytest.raises(LedgerError, match="forked"):
        Ledger.open(path, signing_key, Head(seen.sequence, b"?" * 32))


@pytest.mark.parametrize("told", [True, False])
def test_a_reservation_that_the_backup_does_not_know_writes_off_all_that_was_left(path, signing_key, told):
    backup = backed_up(path, signing_key, "file")
    live = Ledger.open(path, signing_key)
    live.reserve("unknown", Plan("u", count=1))
    seen, reserved = live.head, live.last_reserved
    live.disconnect()
    lost(path)
    ledger = Ledger.recover(path, signing_key, backup, seen, reserved if told else None)
    assert ledger.remaining == pytest.approx(0)
    assert ledger.statement.epsilon_left == pytest.approx(0)
    with pytest.raises(BudgetExhausted):
        ledger.reserve("next", Plan("next", count=1))
    ledger.disconnect()


def test_nothing_is_written_off_where_nothing_is_missing(path, signing_key):
    backup = backed_up(path, signing_key, "file")
    live = Ledger.open(path, signing_key)
    seen = live.head
    live.disconnect()
    lost(path)
    ledger = Ledger.recover(path, signing_key, backup, seen)
    assert ledger.statement.committed == pytest.approx(1 + 4)
    assert ledger.statement.lost == 0
    ledger.disconnect()


def test_a_backup_of_another_history_or_site_is_refused_and_a_ledger_is_never_overwritten(path, signing_key):
    backup = backed_up(path, signing_key, "extract")
    with pytest.raises(LedgerError, match="one that exists"):
        Ledger.recover(path, signing_key, backup, Head(9, bytes(32)))
    lost(path)
    with pytest.raises(LedgerError, match="it is of a fork"):
        Ledger.recover(path, signing_key, backup, Head(3, bytes(32)))
    with pytest.raises(LedgerError, match="did not sign"):
        Ledger.recover(path, type(signing_key).from_bytes(b"x" * 32), backup, Head(9, bytes(32)))
    for content in (b"", b"{}", b"SQLite format 3\0 and no more"):
        backup.write_bytes(content)
        with pytest.raises(LedgerError):
            Ledger.recover(path, signing_key, backup, Head(9, bytes(32)))
    with pytest.raises(LedgerError, match="no readable backup"):
        Ledger.recover(path, signing_key, path.with_name("nothing"), Head(9, bytes(32)))
    assert not list(path.parent.glob("*l.sqlite*"))


def test_an_old_ledger_is_refused_by_the_head_that_the_server_keeps(path, signing_key, tmp_path):
    """Put back whole, log and records included: every signature holds, and only the head shows it."""
    shutil.copy(path, tmp_path / "old")
    live, heads = Ledger.open(path, signing_key), KeptHeads(tmp_path / "heads.json")
    live.reserve("open", Plan())
    heads.joined("a", live.head, live.last_reserved)
    name = live.charge("plan", "train")
    heads.accept("a", [name])
    live.disconnect()
    again = KeptHeads(tmp_path / "heads.json")
    assert again.known("a") == live.head
    shutil.copy(tmp_path / "old", path)
    Ledger.open(path, signing_key).disconnect()  # nobody else could tell
    with pytest.raises(LedgerError, match="it was rolled back"):
        Ledger.open(path, signing_key, again.known("a"))


def test_answers_of_a_ledger_that_was_put_back_are_discarded(tmp_path):
    heads = KeptHeads(tmp_path / "heads.json")
    first, second, third = (Head(n, bytes([n]) * 32).name for n in (4, 5, 6))
    heads.accept("a", [first, second])
    heads.accept("a", [first, second])  # the same bytes again, after a crash
    for old in ([first], [Head(5, b"?" * 32).name], [third, third]):
        with pytest.raises(MessageError, match="put back or forked"):
            heads.accept("a", old)
    heads.accept("a", [third])
    with pytest.raises(MessageError, match="releases named by their ledger's entries"):
        heads.accept("a", ["seven"])
    heads.accept("b", [first])
    (tmp_path / "heads.json").write_text("{")
    with pytest.raises(LedgerError, match="the heads that the server keeps"):
        KeptHeads(tmp_path / "heads.json")


def test_an_answer_that_was_on_its_way_when_the_site_ended_is_taken_up_and_a_forked_one_is_not(tmp_path):
    """The site has charged entries 5 and 6 and was killed; then something else was entered, and it joins again at 7."""

    def name(number, letter="a"):
        return f"{number}-{letter * 64}"

    heads = KeptHeads(tmp_path / "heads.json")
    heads.joined("north", head_of(name(4)), 4)
    heads.joined("north", head_of(name(7)), 4, (name(5), name(6)))
    heads.accept("north", (name(5), name(6)))
    assert heads.known("north") == head_of(name(7))
    for wrong in ((name(5, "b"), name(6)), (name(6), name(6, "b")), (name(3),)):
        with pytest.raises(MessageError, match="put back or forked"):
            heads.accept("north", wrong)
    heads.accept("north", (name(8),))
