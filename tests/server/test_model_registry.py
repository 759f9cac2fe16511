"""The registry of models: what may become of a model, by several processes at once, whatever is killed."""

import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedimg.errors import ConfigError, DataError
from server.model_facts import Guarantee, ModelFacts, SitePrivacy
from server.model_registry import FILE, MOST_WHO, MOST_WHY, ModelRegistry, ModelState
from tests.server.releasing import version

FACTS = ModelFacts(
    "nodule", "1", "11" * 32, "22" * 32, "run-1", "2026-01-30T11:00:00+00:00", "A model.", "classification", "tumour",
    (), ("CT",), (), 0.25, None, Guarantee("per_site", "patient", 1, 3.0, 1e-4),
    (SitePrivacy("alder", 2.5, 1e-4, 10.0, 1e-4, 0, signed=True), SitePrivacy("birch", 3.0, 1e-4, None, None, None, signed=False)),
    "33" * 32, "44" * 32,
)  # fmt: skip
TWO, OTHER = version(FACTS, "2"), version(FACTS, "1", name="heart", weights="55" * 32)


@pytest.fixture
def registry(tmp_path):
    with ModelRegistry(tmp_path) as found:
        yield found


def states(found):
    return {one.title: one.state.value for one in found.all()}


def test_a_model_is_a_candidate_then_released_then_superseded(registry):
    assert registry.add(FACTS, "ada").state is ModelState.CANDIDATE
    registry.add(TWO, "ada")
    registry.add(OTHER, "ada")
    registry.release(FACTS.digest, "ada", "good on the public set")
    registry.release(OTHER.digest, "ada")
    assert states(registry) == {"heart 1": "released", "nodule 2": "candidate", "nodule 1": "released"}
    found = registry.release(TWO.digest, "bob")
    assert found.facts == TWO
    assert states(registry) == {"heart 1": "released", "nodule 2": "released", "nodule 1": "superseded"}
    history = registry.model(FACTS.digest).history
    assert [(one.state.value, one.who, one.why) for one in history] == [
        ("candidate", "ada", ""),
        ("released", "ada", "good on the public set"),
        ("superseded", "bob", "version 2 was released"),
    ]
    assert [one.at for one in history] == sorted(one.at for one in history)


def test_a_version_that_is_withdrawn_makes_way_for_the_one_before_it(registry):
    for facts in (FACTS, TWO):
        registry.add(facts, "ada")
        registry.release(facts.digest, "ada")
    registry.withdraw(TWO.digest, "ada", "misses what lies at the border")
    assert states(registry) == {"nodule 2": "withdrawn", "nodule 1": "superseded"}  # no version by itself
    registry.release(FACTS.digest, "ada", "back to it")
    assert states(registry) == {"nodule 2": "withdrawn", "nodule 1": "released"}


def test_what_was_withdrawn_stays_so(registry):
    registry.add(FACTS, "ada")
    registry.withdraw(FACTS.digest, "ada", "a candidate may be, too")
    with pytest.raises(DataError, match="one that is withdrawn"):
        registry.release(FACTS.digest, "ada")
    with pytest.raises(DataError, match="one that is withdrawn"):
        registry.withdraw(FACTS.digest, "ada", "again")
    assert registry.add(FACTS, "ada").state is ModelState.WITHDRAWN
    assert len(registry.model(FACTS.digest).history) == 2


def test_a_released_one_is_not_released_again(registry):
    registry.add(FACTS, "ada")
    registry.release(FACTS.digest, "ada")
    with pytest.raises(DataError, match="found one that is released"):
        registry.release(FACTS.digest, "ada")


def test_one_version_is_one_bundle_for_good(registry):
    registry.add(FACTS, "ada")
    assert registry.add(FACTS, "bob").history[0].who == "ada"  # known already: nothing is added
    from dataclasses import replace

    other = replace(FACTS, digest="99" * 32)
    with pytest.raises(DataError, match=f"those of the bundle {FACTS.digest[:16]}"):
        registry.add(other, "bob")
    registry.withdraw(FACTS.digest, "ada", "why")
    with pytest.raises(DataError, match="a name and version that no other bundle has"):
        registry.add(other, "bob")  # not even then
    assert len(registry.all()) == 1


@pytest.mark.parametrize(
    ("who", "why"),
    [("", "x"), ("   ", "x"), ("a" * (MOST_WHO + 1), "x"), ("a\u202eb", "x"), ("a", ""), ("a", " \n"), ("a", "w" * (MOST_WHY + 1)), ("a", "x\x00")],
)  # fmt: skip
def test_who_and_why_are_words(registry, who, why):
    registry.add(FACTS, "ada")
    with pytest.raises(ConfigError):
        registry.withdraw(FACTS.digest, who, why)
    assert registry.model(FACTS.digest).state is ModelState.CANDIDATE


def test_words_of_several_lines_become_one(registry):
    registry.add(FACTS, "ada")
    found = registry.withdraw(FACTS.digest, " Ada  Lovelace ", "first\n second")
    assert (found.history[-1].who, found.history[-1].why) == ("Ada Lovelace", "first second")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE history SET state = 'released'",
        "DELETE FROM history",
        "UPDATE model SET facts = '{}'",
        "DELETE FROM model",
        "INSERT INTO history (digest, state, who, why, at) VALUES ('{digest}', 'released', 'x', '', 'now')",
        "INSERT INTO history (digest, state, who, why, at) VALUES ('{digest}', 'withdrawn', 'x', '', 'now')",
        "INSERT INTO history (digest, state, who, why, at) VALUES ('none', 'candidate', 'x', '', 'now')",
        "INSERT INTO history (digest, state, who, why, at) VALUES ('{digest}', 'blessed', 'x', '', 'now')",
    ],
)
def test_the_file_itself_refuses_what_must_not_be(registry, statement):
    registry.add(FACTS, "ada")
    registry.withdraw(FACTS.digest, "ada", "why")
    before = registry.all()
    with pytest.raises(sqlite3.IntegrityError):
        registry._connection.execute(statement.replace("{digest}", FACTS.digest))
    assert registry.all() == before


def test_one_that_is_none(registry):
    for ask in (
        lambda: registry.model("00" * 32),
        lambda: registry.named("nodule", "1"),
        lambda: registry.release("x", "a"),
    ):
        with pytest.raises(DataError, match="a model of this federation"):
            ask()


def test_a_file_that_is_no_registry_or_another_programs_is_told(tmp_path):
    (tmp_path / FILE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(DataError, match="a registry of models"):
        ModelRegistry(tmp_path)
    (tmp_path / FILE).unlink()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DataError, match="version 7"):
        ModelRegistry(tmp_path)


def test_a_locked_registry_is_told_from_a_broken_one(tmp_path, monkeypatch):
    def locked(*_arguments, **_options):
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("server.model_registry.sqlite3.connect", locked)
    with pytest.raises(DataError, match="change nothing by hand"):
        ModelRegistry(tmp_path)


def test_facts_that_were_changed_by_somebody_are_refused(tmp_path):
    for text in ("{}", "[", '{"name": 3}', FACTS.to_text().replace('"tumour"', "null")):
        with pytest.raises(DataError, match="a model as it was registered"):
            ModelFacts.from_text(text)


def test_only_its_owner_may_read_it(tmp_path):
    with ModelRegistry(tmp_path) as found:
        found.add(FACTS, "ada")
        files = list(tmp_path.glob(f"{FILE}*"))
        assert len(files) == 3  # with its log and the log's index
        assert {path.stat().st_mode & 0o077 for path in files} == {0}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    epsilons=st.lists(st.none() | st.floats(0.01, 100), min_size=1, max_size=4),
    why=st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=50),
)
def test_what_is_kept_is_read_back_equal(epsilons, why):
    from dataclasses import replace

    sites = tuple(
        SitePrivacy(f"s{k}", e, e and 1e-5, None, None, None, signed=True) for k, e in enumerate(epsilons)
    )
    facts = replace(FACTS, sites=sites, description=why, remarks=(why,))
    assert ModelFacts.from_text(facts.to_text()) == facts


class Life(RuleBasedStateMachine):
    """Whatever is asked in whatever order: at most one version of a name is released, and histories only grow."""

    @initialize()
    def begin(self):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.registry = ModelRegistry(Path(self.folder.name))
        self.seen = {}

    def teardown(self):
        self.registry.close()
        self.folder.cleanup()

    @rule(number=st.integers(1, 4))
    def add(self, number):
        self.registry.add(version(FACTS, str(number)), "ada")

    @precondition(lambda self: self.registry.all())
    @rule(data=st.data(), withdraw=st.booleans())
    def change(self, data, withdraw):
        one = data.draw(st.sampled_from(self.registry.all()))
        allowed = {"candidate", "released", "superseded"} if withdraw else {"candidate", "superseded"}
        try:
            if withdraw:
                self.registry.withdraw(one.facts.digest, "ada", "why")
            else:
                self.registry.release(one.facts.digest, "ada")
        except DataError:
            assert one.state.value not in allowed
        else:
            assert one.state.value in allowed

    @invariant()
    def one_is_released_and_nothing_is_forgotten(self):
        found = self.registry.all()
        assert sum(one.state is ModelState.RELEASED for one in found) <= 1
        for one in found:
            before = self.seen.get(one.facts.digest, ())
            assert one.history[: len(before)] == before
            self.seen[one.facts.digest] = one.history


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)


def test_several_connections_release_and_one_version_is_left(tmp_path):
    with ModelRegistry(tmp_path) as first:
        for number in range(8):
            first.add(version(FACTS, str(number)), "ada")

    def release(numbers):
        with ModelRegistry(tmp_path) as own:
            for number in numbers:
                own.release(version(FACTS, str(number)).digest, f"thread {numbers}")

    threads = [threading.Thread(target=release, args=(range(k, 8, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with ModelRegistry(tmp_path) as found:
        assert sorted(states(found).values()) == ["released"] + ["superseded"] * 7


def test_a_writer_that_is_killed_leaves_all_of_a_change_or_nothing(tmp_path):
    """A release is two entries: the one that is superseded and the one that takes its place. Never one without the other."""
    program = (
        "import sys; from pathlib import Path\n"
        "from server.model_registry import ModelRegistry\n"
        "registry = ModelRegistry(Path(sys.argv[1]))\n"
        "one, two = sorted(found.facts.digest for found in registry.all())\n"
        "while True:\n"
        "    for digest in (one, two):\n"
        "        print(digest, len(registry.release(digest, 'child').history), flush=True)\n"
    )
    for after in (1, 4, 9):
        folder = tmp_path / str(after)
        folder.mkdir()
        with ModelRegistry(folder) as registry:
            for facts in (FACTS, TWO):
                registry.add(facts, "ada")
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
        )
        told = [child.stdout.readline() for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        told += [line for line in child.stdout if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        with ModelRegistry(folder) as registry:
            found = {one.facts.digest: one for one in registry.all()}
            assert sorted(one.state.value for one in found.values()) in (
                ["released", "superseded"],
                ["candidate", "released"],
            )
            last = dict(line.split() for line in told)
            assert all(len(found[digest].history) >= int(count) for digest, count in last.items())
            registry.withdraw(FACTS.digest, "ada", "and it goes on")
