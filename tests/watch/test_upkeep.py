"""Models come, go and are held against labels; one that is unfit changes nothing; old files go and findings stay."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from known_studies import outlining_bundle

from fedimg.crypto.keys import SigningKey
from fedimg.monitoring.assembly import Completeness
from sites.watch import bundles
from sites.watch.store.jobs import Finished
from sites.watch.upkeep import Upkeep, evaluated
from sites.watch.worker_process import NotReady, Unfit

KEY = SigningKey.from_bytes(bytes(range(32)))
NOW = 1_000_000.0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two releases of one model."""
    root = tmp_path_factory.mktemp("bundles")
    return [outlining_bundle(root / version, KEY, version=version) for version in ("1.0.0", "2.0.0")]


class Pool:
    """Remembers what it was given; refuses a folder that is named."""

    def __init__(self):
        self.given, self.unfit, self.late = [], None, 0

    def exchange(self, models):
        if self.unfit in models.folders:
            raise Unfit("one that cannot", self.unfit)
        if self.late:
            self.late -= 1
            raise NotReady
        self.given.append(models.folders)


@pytest.fixture
def upkeep(store, made):
    first, words = bundles.verified(made[0], [KEY.public_bytes])
    store.models.add(first, "test", 0.0)
    told = []
    one = Upkeep(
        store,
        Pool(),
        {first.digest: words},
        (KEY.public_bytes,),
        100.0,
        lambda *_, **__: None,
        lambda *about: told.append(about),
    )
    one.told = told
    return one


def roles(store):
    return {one.version: one.role for one in store.models.all()}


def add(store, folder):
    one, _ = bundles.verified(folder, [KEY.public_bytes])
    store.models.add(one, "operator", 1.0)
    return one


def test_a_further_model_works_in_the_shadow_and_speaks_when_it_is_told(upkeep, store, made):
    upkeep.exchange(NOW)
    assert upkeep.pool.given == []
    second = add(store, made[1])
    upkeep.exchange(NOW)
    assert upkeep.pool.given == [(made[1], made[0])] or upkeep.pool.given == [(made[0], made[1])]
    assert set(upkeep.models) == {one.digest for one in store.models.all()}
    assert roles(store) == {"1.0.0": "active", "2.0.0": "shadow"}
    store.models.set_role(second.digest, "active", "operator", 2.0)
    assert roles(store) == {"1.0.0": "shadow", "2.0.0": "active"}


def test_the_log_says_once_who_speaks_from_now_on(upkeep, store, made):
    said = []
    upkeep.say = lambda event, loaded: said.append((event, dict(one.split()[-2:] for one in loaded)))
    upkeep.exchange(NOW)
    assert said == []  # the start has told it
    second = add(store, made[1])
    upkeep.exchange(NOW)
    store.models.set_role(second.digest, "active", "operator", 2.0)
    upkeep.exchange(NOW)
    upkeep.exchange(NOW)
    assert said == [
        ("models", {"1.0.0": "(active)", "2.0.0": "(shadow)"}),
        ("models", {"1.0.0": "(shadow)", "2.0.0": "(active)"}),
    ]


def test_one_that_workers_cannot_use_is_retired_and_the_former_speaks_again(upkeep, store, made):
    second = add(store, made[1])
    store.models.set_role(second.digest, "active", "operator", 2.0)
    upkeep.pool.unfit = made[1]
    upkeep.exchange(NOW)
    assert roles(store) == {"1.0.0": "active", "2.0.0": "retired"}
    assert len(upkeep.models) == 1
    upkeep.pool.unfit = None
    upkeep.exchange(NOW)
    assert upkeep.pool.given == [], "what was refused is not tried until a person asks for it"


def test_a_load_that_is_slow_retires_nobody_and_one_that_fails_again_and_again_does(
    upkeep, store, made, monkeypatch
):
    second = add(store, made[1])
    upkeep.pool.late = 2
    upkeep.exchange(NOW)
    upkeep.exchange(NOW)
    assert upkeep.pool.late == 1, "not at once again: a machine that is busy would be more so"
    assert roles(store) == {"1.0.0": "active", "2.0.0": "shadow"}
    monkeypatch.setattr("sites.watch.upkeep._PAUSE_S", 0.0)
    upkeep._late = (*upkeep._late[:2], 0.0)
    upkeep.exchange(NOW)
    upkeep.exchange(NOW)
    assert second.digest in upkeep.models
    store.models.set_role(second.digest, "retired", "operator", 3.0)
    upkeep.exchange(NOW)
    store.models.set_role(second.digest, "shadow", "operator", 4.0)
    upkeep.pool.late = 3
    for _ in range(3):
        assert roles(store)["2.0.0"] == "shadow"
        upkeep.exchange(NOW)
    assert roles(store) == {"1.0.0": "active", "2.0.0": "retired"}


def test_of_two_that_are_new_only_the_one_that_is_unfit_goes(upkeep, store, made, tmp_path):
    third = outlining_bundle(tmp_path / "third", KEY, version="3.0.0")
    add(store, made[1])
    add(store, third)
    upkeep.pool.unfit = third
    upkeep.exchange(NOW)
    assert roles(store) == {"1.0.0": "active", "2.0.0": "shadow", "3.0.0": "retired"}


def test_a_bundle_that_was_changed_since_is_refused(upkeep, store, made, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(made[1], copy)
    add(store, copy)
    (copy / "docs" / "README.md").chmod(0o600)
    (copy / "docs" / "README.md").write_text("another")
    upkeep.exchange(NOW)
    assert roles(store) == {"1.0.0": "active", "2.0.0": "retired"}


def looked(store, arrival, number, *, called, present):
    """A study that a model has scored and a person has labelled."""
    study, model = f"{number:032x}", store.models.all()[0].digest
    store.studies.received(study, arrival(1, study=f"1.2.{number}"), Path(f"/f/{number}"), "scp", NOW)
    revision = store.studies.completed(study, Completeness.COMPLETE, NOW)
    store.jobs.plan(study, model, "1.2.3.4", "1", shadow=False, revision=revision, at=NOW)
    store.jobs.finished(store.jobs.claim(NOW), Finished({}, {}, 0.9, 0.5, called, 0.1, {}, ()), NOW)
    store.studies.settle(study)
    store.studies.label(study, "ball", present, "reader", NOW)


def promise(store, target):
    """As if the model had been released with a promise."""
    with store.database.change() as change:
        change.execute(
            "UPDATE model SET metadata = json_set(metadata, '$.operating_point', json(?))",
            (f'{{"target": {target}}}',),
        )


@pytest.mark.parametrize(("hits", "kept"), [(40, True), (37, True), (30, False)])
def test_labels_are_held_against_the_promise(upkeep, store, arrival, hits, kept):
    promise(store, 0.95)
    for number in range(40):
        looked(store, arrival, number, called=number < hits, present=True)
    looked(store, arrival, 40, called=True, present=False)
    found = evaluated(store, store.models.all()[0])
    assert (found.positives, found.hits, found.negatives, found.false_alarms) == (40, hits, 1, 1)
    assert found.kept is kept
    upkeep.evaluate(NOW)
    upkeep.evaluate(NOW + 3600)
    assert len(upkeep.told) == (0 if kept else 1), "told once a day"
    assert len(store.database.rows("SELECT * FROM evaluation")) == 1
    upkeep.evaluate(NOW + 90_000)
    assert len(store.database.rows("SELECT * FROM evaluation")) == 2


def test_without_labels_nothing_is_said(upkeep, store):
    upkeep.evaluate(NOW)
    assert store.database.rows("SELECT * FROM evaluation") == []


def test_old_files_go_and_what_was_found_stays(upkeep, store, arrival, tmp_path):
    looked(store, arrival, 1, called=True, present=True)
    file = tmp_path / "image.dcm"
    file.write_bytes(b"x")
    with store.database.change() as change:
        change.execute("UPDATE instance SET path = ?", (str(file),))
    upkeep.remove_files(NOW + 50)
    assert file.exists()
    upkeep.remove_files(NOW + 200)
    assert not file.exists()
    assert len(store.database.rows("SELECT * FROM result")) == 1


def test_a_tick_does_all_of_it(upkeep, store, made):
    add(store, made[1])
    upkeep.tick(time.time())
    assert len(upkeep.models) == 2


def test_one_that_was_refused_is_tried_again_when_a_person_says_so(upkeep, store, made):
    second = add(store, made[1])
    upkeep.pool.unfit = made[1]
    upkeep.exchange(NOW)
    assert roles(store) == {"1.0.0": "active", "2.0.0": "retired"}
    upkeep.pool.unfit = None
    store.models.set_role(second.digest, "active", "operator", 2.0)
    upkeep.exchange(NOW)
    assert second.digest in upkeep.models
    assert store.models.speaking(upkeep.models)[second.digest] is False


def test_a_study_counts_once_whatever_number_of_findings_is_labelled(upkeep, store, arrival):
    one = store.models.all()[0]
    with store.database.change() as change:
        listed = '[{"class": "ball"}, {"class": "cube"}]'
        change.execute("UPDATE model SET metadata = json_set(metadata, '$.findings', json(?))", (listed,))
    looked(store, arrival, 1, called=True, present=True)
    store.studies.label(f"{1:032x}", "cube", False, "reader", NOW)
    found = evaluated(store, store.models.all()[0])
    assert (found.model, found.positives, found.negatives, found.false_alarms) == (one.digest, 1, 0, 0)


def test_the_centre_never_finds_no_model(upkeep, store, made):
    seen = []

    class Watched(dict):
        def __delitem__(self, key):
            super().__delitem__(key)
            seen.append(len(self))

        def clear(self):
            super().clear()
            seen.append(len(self))

    first = store.models.all()[0]
    upkeep.models = Watched(upkeep.models)
    second = add(store, made[1])
    store.models.set_role(second.digest, "active", "operator", 2.0)
    store.models.set_role(first.digest, "retired", "operator", 3.0)
    upkeep.exchange(NOW)
    assert set(upkeep.models) == {second.digest}
    assert 0 not in seen
