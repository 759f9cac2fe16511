"""What a watcher's site lets out: charged before, each patient once, noised by the operating system, and nothing else."""

from __future__ import annotations

import ast
import json
import re
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_up_store import MODEL, key_of

from fedimg.dicom.ledger_keys import LedgerKeys
from fedimg.errors import BudgetExhausted, DataError, FedimgError, LedgerError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.monitoring.shared_histograms import STREAMS, SharedHistograms, edges_of
from fedimg.privacy import plan as plan_module
from fedimg.privacy.histogram_plan import RELEASE
from fedimg.privacy.ledger import Ledger, LedgerTerms
from server.membership import Federation
from sites.watch import histogram_release
from sites.watch.histogram_release import Asked, findings, make
from tests.sites.conftest import NOW
from tests.watch.watched_sites import (
    DAY,
    FIRST,
    LAST,
    NOON,
    TODAY,
    a_model,
    members,
    numbers,
    patients,
    seen,
    store,
)

ONE = {"score.logit": 0.5, "image.mean": 0.35, "image.std": 0.2, "image.noise": 0.02, "meta.pixel_mm": 0.7}
ONE |= {"meta.slice_mm": 2.0}


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("federation")
    return members(root, Federation.create(root / "net", "net", "fl.example.org:8443", now=NOW), ("north",))


@pytest.fixture
def home(made_once, tmp_path):
    shutil.copytree(made_once["north"].root, tmp_path / "home")
    return SiteHome.open(tmp_path / "home")


def asked(**changed):
    return Asked(**({"model": MODEL, "first": FIRST, "last": LAST, "epsilon": 1.0} | changed))


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def exact(monkeypatch):
    """What would leave without noise: the sums that noise is added to, seen inside."""
    seen_sums, add = [], plan_module.add_noise

    def add_noise(total, *rest):
        seen_sums.append(total)
        return add(total, *rest)

    monkeypatch.setattr(plan_module, "add_noise", add_noise)
    return seen_sums


def ledger_of(home):
    return Ledger.open(home.ledger, home.signing_key)


def charges(home):
    ledger = ledger_of(home)
    try:
        return [run.charged.get(RELEASE, 0) for run in ledger.statement.runs.values()]
    finally:
        ledger.disconnect()


def test_the_file_has_noised_counts_of_each_stream_and_is_charged(home, tmp_path, out, exact):
    watcher = store(tmp_path / "watcher", patients(40, seed=1))
    made = make(home, watcher, asked(), out, TODAY)
    (file,) = out.iterdir()
    assert made.file == file
    assert re.fullmatch(r"drift-[0-9a-f]{16}\.json", file.name)
    assert file.stat().st_mode & 0o777 == 0o600
    found = SharedHistograms.read(file.read_bytes())
    assert found == made.histograms
    assert tuple(sorted(found.counts)) == tuple(sorted(STREAMS))
    assert charges(home) == [1]
    assert made.epsilon_spent > 0
    (total,) = exact
    assert total.vector.sum() == 40 * len(STREAMS)  # each patient once in each stream
    clean = {}
    start = 0
    for stream in sorted(STREAMS):
        end = start + len(edges_of(stream)) + 1
        clean[stream], start = total.vector[start:end], end
    errors = np.concatenate([np.array(found.counts[one]) - clean[one] for one in sorted(STREAMS)])
    # of Σ noise² ÷ s²: chi-square with one degree of freedom a bin, 5 deviations
    assert abs((errors**2).mean() / found.noise_std**2 - 1) < 5 * np.sqrt(2 / len(errors))


def test_the_file_names_nobody_and_no_count(home, tmp_path, out):
    watcher = store(tmp_path / "watcher", patients(37, seed=1))
    text = make(home, watcher, asked(), out, TODAY).file.read_text()
    for planted in (
        "ID1",
        "Family",
        "1.2.1",
        key_of(1),
        "ACC",
        "1768478400",
        "12:00",
        "drift-",
        str(tmp_path),
    ):
        assert planted not in text
    body = json.loads(text)["histograms"]
    assert not [value for value in body.values() if value == 37]
    assert {"first", "last"} == {name for name, value in body.items() if re.match(r"20\d\d-", str(value))}


def test_of_a_patient_the_latest_study_of_the_period_counts_once(home, tmp_path, out, exact):
    early, late = ONE | {"image.mean": 0.01}, ONE | {"image.mean": 0.99}
    watcher = store(
        tmp_path / "watcher",
        seen(1, early, NOON, patient="P 1"),
        seen(2, late, NOON + DAY, patient=" p  1"),  # one number, spelled otherwise
        seen(3, early, NOON + 60 * DAY, patient="P 1"),  # behind the period
        seen(4, early, NOON - 60 * DAY, patient="P 2"),  # before it
        seen(5, late, NOON, patient=""),  # names nobody
    )
    make(home, watcher, asked(streams=("image.mean",)), out, TODAY)
    assert exact[0].vector.tolist() == [0.0] * 15 + [1.0]
    assert exact[0].sensitivity == 1.0


def test_the_days_are_whole_and_both_belong_to_the_period(home, tmp_path, out, exact):
    from datetime import UTC, datetime

    begin = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    end = datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    times = (begin - 0.001, begin, end - 0.001, end)
    watcher = store(tmp_path / "watcher", *(seen(k, ONE, at) for k, at in enumerate(times)))
    make(home, watcher, asked(), out, TODAY)
    assert exact[0].vector.sum() == 2 * len(STREAMS)


def test_adding_a_patient_moves_the_sum_by_no_more_than_the_root_of_the_streams(home, tmp_path, out, exact):
    """Whatever is stored of them, and however often they came."""
    others = patients(20, seed=2)
    odd = [
        seen(100, ONE, patient="NEW"),
        seen(101, ONE | {"image.mean": 1e308, "score.logit": float("inf")}, NOON + 1, patient="NEW"),
        seen(102, {"image.mean": "much", "score.logit": None}, NOON + 2, patient="NEW"),
        seen(103, "[]", NOON + 3, patient="NEW"),
        seen(104, "no JSON at all", NOON + 4, patient="NEW"),
        seen(105, ONE, NOON + 5, patient="NEW"),
    ]
    make(home, store(tmp_path / "before", others), asked(epsilon=0.1), out, TODAY)
    for last in range(1, len(odd) + 1):
        watcher = store(tmp_path / f"after-{last}", others, *odd[:last])
        make(home, watcher, asked(epsilon=0.1), out, TODAY)
    before, *after = exact
    for found in after:
        moved = found.vector - before.vector
        assert set(np.unique(moved)) <= {0.0, 1.0}
        assert np.linalg.norm(moved) <= found.sensitivity == before.sensitivity
    assert [np.linalg.norm(found.vector - before.vector) ** 2 for found in after] == pytest.approx(
        [6, 5, 0, 0, 0, 6]
    )


def test_who_withdrew_and_a_second_record_of_one_person_are_left_out_and_it_does_not_show(
    home, tmp_path, out, exact
):
    keys = LedgerKeys(home.site_key)
    ledger = ledger_of(home)
    ledger.withdraw([keys.of("", "ID3")], keys.digest)
    ledger.merge([(keys.of("", "ID4"), keys.of("", "ID5"))], keys.digest)
    ledger.disconnect()
    watcher = store(tmp_path / "watcher", patients(10, seed=1))
    found = make(home, watcher, asked(), out, TODAY).histograms
    assert exact[0].vector.sum() == 8 * len(STREAMS)
    other = make(
        home, store(tmp_path / "other", patients(10, seed=1, first=50)), asked(), out, TODAY
    ).histograms
    assert exact[1].vector.sum() == 10 * len(STREAMS)
    assert (found.noise_multiplier, found.epsilon) == (other.noise_multiplier, other.epsilon)
    # under another issuer they would be other patients: who enters withdrawals with one names it here
    make(home, watcher, asked(issuer="HOSPITAL"), out, TODAY)
    assert exact[2].vector.sum() == 10 * len(STREAMS)


def test_findings_have_streams_of_their_own_where_there_are_several(home, tmp_path, out, exact):
    scores = {"mass": 0.9, "nodule": 0.5, "fracture": "?"}
    model = a_model(("mass", "nodule", "fracture"), "multilabel")
    watcher = store(tmp_path / "watcher", seen(1, ONE, scores=scores), seen(2, ONE), model=model)
    chosen = ("finding.fracture", "finding.mass", "finding.nodule")
    found = make(home, watcher, asked(streams=chosen[::-1]), out, TODAY).histograms
    assert tuple(sorted(found.counts)) == chosen
    bins = exact[0].vector.reshape(3, 10)
    assert bins[0].sum() == 0
    assert bins[1].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]  # logit 0.9 = 2.2
    assert bins[2].tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    everything = make(home, watcher, asked(), out, TODAY).histograms
    assert set(everything.counts) == {*STREAMS, *chosen}
    assert findings({"fedimg": {"classes": ["none", "one"], "task": "classification"}}) == ()
    assert findings({"classes": ["none", "a", "b"], "task": "segmentation"}) == ("a", "b")


def test_a_site_without_patients_makes_its_file_like_any_other(home, tmp_path, out):
    found = make(home, store(tmp_path / "watcher"), asked(), out, TODAY).histograms
    assert any(value for own in found.counts.values() for value in own)
    assert charges(home) == [1]


def test_each_file_costs_again_until_nothing_is_left(home, tmp_path, out):
    home.ledger.unlink()
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(3.2, 1e-5, 8)).disconnect()
    watcher = store(tmp_path / "watcher", patients(5, seed=1))
    spent, files = [], []

    def until_refused():
        for _ in range(100):
            made = make(home, watcher, asked(), out, TODAY)
            spent.append(made.epsilon_spent)
            files.append(made.histograms)

    with pytest.raises(BudgetExhausted):
        until_refused()
    assert len(files) > 1
    assert spent == sorted(set(spent))
    assert charges(home) == [1] * len(files)
    assert len({one.release for one in files}) == len(files)
    assert len({tuple(one.counts["score"]) for one in files}) == len(files)  # fresh noise
    assert len(list(out.iterdir())) == len(files)


class Killed(BaseException):
    """As a kill -9 ends a process: nothing behind it runs."""


@pytest.mark.parametrize(
    "moment", ["reserve", "enrol", "charge", "present", "add_noise", "read", "sign", "write"]
)
def test_a_kill_anywhere_leaves_a_charge_without_a_file_and_never_a_file_without_one(
    home, tmp_path, out, monkeypatch, moment
):
    watcher = store(tmp_path / "watcher", patients(5, seed=1))

    def killed(*_args, **_kwargs):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "close", killed)  # what stands in `finally` does not run either
        place = {
            "add_noise": (plan_module, "add_noise"),
            "read": (histogram_release, "_values"),
            "sign": (SharedHistograms, "to_bytes"),
            "write": (histogram_release, "fresh_file"),
        }.get(moment, (Ledger, moment))
        if moment in ("sign", "write"):
            patched.undo()
        patched.setattr(*place, killed)
        with pytest.raises(Killed):
            make(home, watcher, asked(), out, TODAY)
    assert list(out.iterdir()) == []
    done = {"reserve": [], "enrol": [0], "charge": [0]}
    assert charges(home) == done.get(moment, [1])
    ledger = ledger_of(home)
    committed = ledger.statement.committed
    ledger.disconnect()
    assert (committed > 0) == (moment != "reserve")  # reserved counts as spent
    make(home, watcher, asked(), out, TODAY)
    assert len(list(out.iterdir())) == 1


def test_the_charge_is_on_the_disk_before_a_value_is_read(home, tmp_path, out, monkeypatch):
    watcher = store(tmp_path / "watcher", patients(5, seed=1))
    values, on_disk = histogram_release._values, []

    def read(*args):
        on_disk.append(charges(home))  # another connection to the same file
        return values(*args)

    monkeypatch.setattr(histogram_release, "_values", read)
    make(home, watcher, asked(), out, TODAY)
    assert on_disk == [[1]] * 5


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "ff" * 32}, DataError),
        ({"streams": ("ops.left_out",)}, DataError),
        ({"last": FIRST + timedelta(days=5)}, DataError),
        ({"last": FIRST + timedelta(days=366)}, DataError),
        ({"first": LAST, "last": FIRST}, DataError),
        ({"last": TODAY + timedelta(days=1)}, DataError),
        ({"epsilon": 1.01}, PolicyRefused),
        ({"epsilon": float("nan")}, PolicyRefused),
        ({"epsilon": 0.0}, FedimgError),
        ({"delta": 1e-3}, PolicyRefused),
    ],
)
def test_what_is_refused_costs_nothing_and_looks_at_nobody(home, tmp_path, out, monkeypatch, change, error):
    watcher = store(tmp_path / "watcher", patients(5, seed=1))
    monkeypatch.setattr(histogram_release, "_latest", lambda *_: pytest.fail("patients were looked at"))
    with pytest.raises(error):
        make(home, watcher, asked(**change), out, TODAY)
    assert charges(home) == []
    assert list(out.iterdir()) == []


def test_the_sites_own_policy_and_ledger_have_the_last_word(home, tmp_path, out):
    watcher = store(tmp_path / "watcher", patients(5, seed=1))
    with pytest.raises(DataError, match="written"):
        make(home, watcher, asked(), tmp_path / "nowhere", TODAY)
    home.policy.write_text(yaml.safe_dump({"declared_patients": 1000, "max_drift_epsilon": 0.0}))
    with pytest.raises(PolicyRefused, match="max_drift_epsilon"):
        make(home, watcher, asked(epsilon=1e-6), out, TODAY)
    home.policy.unlink()
    with pytest.raises(PolicyRefused):
        make(home, watcher, asked(), out, TODAY)
    home.policy.write_text(yaml.safe_dump({"declared_patients": 1000}))
    home.ledger.unlink()
    with pytest.raises(LedgerError):
        make(home, watcher, asked(), out, TODAY)
    assert list(out.iterdir()) == []


def test_a_site_of_no_federation_makes_no_file(tmp_path, out):
    from tests.sites.conftest import site

    alone = site(tmp_path / "alone", 1000).home
    with pytest.raises(DataError, match="member of a federation"):
        make(alone, store(tmp_path / "watcher"), asked(), out, TODAY)


def test_noise_comes_from_the_operating_system_alone():
    """No generator that can be seeded is in reach of the release's code."""
    root = Path(histogram_release.__file__).parents[2]
    for name in (
        "sites/watch/histogram_release.py",
        "fedimg/privacy/histogram_plan.py",
        "fedimg/monitoring/shared_histograms.py",
    ):
        text = (root / name).read_text()
        names = {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        assert not names & {"default_rng", "seed", "normal", "rand", "randn", "gauss", "Generator"}
        assert "import random" not in text
    assert "OsEntropy()" in (root / "sites/watch/histogram_release.py").read_text()


def test_values_are_what_the_watcher_stores():
    """Names of the streams are those of `measures_of`; a new name there would be a stream that nobody has."""
    text = (Path(histogram_release.__file__).parents[2] / "fedimg/prediction/measures.py").read_text()
    for stream in STREAMS:
        assert f'"{"score.logit" if stream == "score" else stream}":' in text
    assert set(numbers(np.random.default_rng(0))) >= {"score.logit", *(set(STREAMS) - {"score"})}
