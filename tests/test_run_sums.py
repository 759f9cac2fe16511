"""What a site agrees to before a secure sum, and that it has a part in each sum once."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.crypto.keys import SigningKey
from fedimg.errors import DataError, MessageError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.imaging.config import ImagingConfig
from fedimg.models import ModelConfig
from fedimg.privacy.plan import PrivacyRequest
from fedimg.privacy.policy import SitePolicy
from fedimg.run_sums import RunSums, agreed
from fedimg.secagg.config import SecaggConfig
from fedimg.secagg.coordinator import VoidSumError
from fedimg.secagg.encoding import OpenedSum
from fedimg.secagg.exchanges import secure_sum
from fedimg.secagg.request import SumRequest, pack_answer, unpack_answer
from fedimg.secagg.roster import Roster
from fedimg.secagg.sessions import SiteSums
from fedimg.terms import Terms
from fedimg.training import LocalTraining

KEYS = {f"site-{i}": SigningKey(bytes([i + 1]) * 32) for i in range(4)}
ROSTER = Roster({name: key.public_bytes for name, key in KEYS.items()}, dict.fromkeys(KEYS, 10.0))
POLICY = SitePolicy(declared_patients=100)
TERMS = Terms(
    run_id="run",
    rounds=2,
    model=ModelConfig(name="cnn", width=4, image_size=(16, 16)),
    training=LocalTraining(),
    imaging=ImagingConfig(image_size=(16, 16)),
    privacy=PrivacyRequest(rounds=2),
    deid_profile="train",
    validation_fraction=0.2,
    bins=8,
    seed=0,
    secagg=SecaggConfig("pairwise"),
)
SIZE = 5


@pytest.fixture
def home(tmp_path):
    made = SiteHome.create(tmp_path / "home", simulated=True)
    identities = ROSTER.identities | {"site-0": made.signing_key.public_bytes}
    Roster(identities, ROSTER.weights).save(made.roster)
    return made


def test_a_site_agrees_with_the_roster_that_it_has_pinned(home):
    sums = agreed(home, "site-0", TERMS, POLICY, SIZE)
    assert sums.plan("train").size == SIZE
    assert sums.plan("evaluate").size == 2 * 8
    assert sums.plan("evaluate").word_bits == 64
    assert sums.threshold == 3
    assert agreed(home, "site-0", replace(TERMS, secagg=SecaggConfig("none")), POLICY, SIZE) is None


def test_policies_and_rosters_refuse(home):
    strict = replace(POLICY, require_secure_sum=True, min_sites_in_sum=4)
    with pytest.raises(PolicyRefused, match="min_sites_in_sum"):
        agreed(home, "site-0", TERMS, strict, SIZE)
    with pytest.raises(PolicyRefused, match="require_secure_sum"):
        agreed(home, "site-0", replace(TERMS, secagg=SecaggConfig("none")), strict, SIZE)
    assert agreed(home, "site-0", replace(TERMS, secagg=SecaggConfig("pairwise", threshold=4)), strict, SIZE)
    many = {f"site-{i}": SigningKey(bytes([i % 256, 1 + i // 256]) * 16).public_bytes for i in range(60)}
    many["site-0"] = home.signing_key.public_bytes
    Roster(many, dict.fromkeys(many, 1.0)).save(home.root / "many.json")
    large = replace(home, root=home.root)
    home.roster.rename(home.root / "few.json")
    (home.root / "many.json").rename(home.roster)
    with pytest.raises(PolicyRefused, match="allow_sparse_sum"):
        agreed(large, "site-0", TERMS, POLICY, SIZE)
    assert (
        agreed(large, "site-0", TERMS, replace(POLICY, allow_sparse_sum=True), SIZE).plan("train").degree
        == 40
    )
    (home.root / "few.json").rename(home.roster)
    with pytest.raises(PolicyRefused, match="this site's own name and key in its roster"):
        agreed(home, "site-1", TERMS, POLICY, SIZE)
    for content in ("", "[]", "{}x", '{"a": {"identity": "00"}}', '{"a": {"identity": "zz", "weight": 1}}'):
        home.roster.write_text(content)
        with pytest.raises(PolicyRefused, match="a roster of the federation's sites"):
            agreed(home, "site-0", TERMS, POLICY, SIZE)
    home.roster.unlink()
    with pytest.raises(PolicyRefused, match="a roster of the federation's sites"):
        agreed(home, "site-0", TERMS, POLICY, SIZE)


@pytest.mark.parametrize(
    "changed",
    [
        {"privacy": PrivacyRequest(rounds=2, epsilon=9.0)},
        {"secagg": SecaggConfig("pairwise", clamp=2.0)},
        {"rounds": 3},
        {"run_id": "other"},
    ],
)
def test_every_term_of_a_run_is_in_the_plans_digest(changed):
    base, other = RunSums(TERMS, ROSTER, SIZE), RunSums(replace(TERMS, **changed), ROSTER, SIZE)
    assert base.plan("train").digest != other.plan("train").digest
    heavier = Roster(ROSTER.identities, ROSTER.weights | {"site-1": 20.0})
    assert base.plan("train").digest != RunSums(TERMS, heavier, SIZE).plan("train").digest
    assert base.plan("train").digest != base.plan("evaluate").digest


@given(
    st.lists(st.floats(0.1, 100), min_size=4, max_size=4),
    st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=4, max_size=4),
    st.sets(st.sampled_from(sorted(KEYS)), min_size=1),
)
def test_the_mean_is_weighted_as_the_roster_says(weights, updates, survivors):
    roster = Roster(ROSTER.identities, dict(zip(KEYS, weights, strict=True)))
    sums, vectors = RunSums(TERMS, roster, 3), dict(zip(KEYS, np.array(updates), strict=True))
    total = sum(
        sums.encoded(name, "train", vectors[name]).words.astype("<i4").astype(np.int64) for name in survivors
    )
    wanted = sum(roster.weights[n] * vectors[n] for n in survivors) / sum(
        roster.weights[n] for n in survivors
    )
    # each word is rounded by half a step, and the mean divides by the sum of shares
    mass = sum(roster.share(name) for name in survivors)
    bound = len(survivors) * sums.encoding("train").step / mass
    assert np.abs(sums.mean(OpenedSum(total, tuple(sorted(survivors)))) - wanted).max() <= bound


class Sites:
    """Four sites over the wire, each of whose vectors is asked for at most once a label."""

    def __init__(self, folder):
        self.sums = RunSums(TERMS, ROSTER, SIZE)
        self.folder, self.made, self.restarted = folder, [], ()
        self.sessions = {name: self.open(name) for name in KEYS}

    def open(self, name):
        return SiteSums(name, KEYS[name], self.folder / name)

    def exchange(self, questions):
        answers = {}
        for name, data in questions.items():
            request = SumRequest.from_bytes(data)
            if (request.step, name) in self.restarted:
                self.sessions[name] = self.open(name)

            def words(name=name, request=request):
                self.made.append((name, request.label))
                assert request.instructions == b"instructions"
                return self.sums.encoded(name, request.task, np.full(SIZE, 1.0)), (f"release of {name}",)

            try:
                answers[name] = self.sessions[name].answer(self.sums.plan(request.task), request, words)
            except MessageError:
                answers[name] = None
        return answers

    def sum(self, number, accept=lambda _name, _releases: None, names=tuple(KEYS)):
        request = SumRequest(number, "train", 0, b"", b"instructions")
        return secure_sum(self.sums.plan("train"), request, names, self.exchange, accept)


def test_a_sum_over_the_wire_and_the_releases_behind_it(tmp_path):
    sites, seen = Sites(tmp_path), {}
    found = sites.sum(1, seen.__setitem__)
    assert found.opened.survivors == tuple(KEYS)
    assert np.allclose(sites.sums.mean(found.opened), 1.0)
    assert seen == {name: (f"release of {name}",) for name in KEYS}
    assert len(sites.made) == 4


def test_an_answer_whose_ledger_was_put_back_is_left_out(tmp_path):
    def accept(name, _releases):
        if name == "site-2":
            raise MessageError("a later entry", "an earlier one", "the answer was discarded")

    found = Sites(tmp_path).sum(1, accept)
    assert found.opened.survivors == ("site-0", "site-1", "site-3")
    assert set(found.refused) == {"site-2"}


def test_what_no_honest_site_can_have_put_in_is_clamped():
    sums = RunSums(TERMS, ROSTER, 2)
    wild = OpenedSum(np.array([2**31 - 1, -5]), tuple(KEYS))
    assert sums.total("train", wild)[0] == 4 * sums.encoding("train").most * sums.encoding("train").step
    assert sums.total("train", wild)[1] == -5 * sums.encoding("train").step


def test_rounds_only_go_up_and_a_label_between_changes_nothing(tmp_path):
    sites = Sites(tmp_path)
    assert sites.sum(3).opened.survivors == tuple(KEYS)
    for number in (3, 2, 1):
        sites.sessions = {name: sites.open(name) for name in KEYS}
        with pytest.raises(VoidSumError):
            sites.sum(number)
    assert sites.sum(4).opened.survivors == tuple(KEYS)


def test_of_two_processes_of_one_site_one_makes_the_input(tmp_path):
    """Both have keys for the same sum: whoever comes second finds the disk's note."""
    plan, made = RunSums(TERMS, ROSTER, SIZE).plan("train"), []
    one, other = Sites(tmp_path), Sites(tmp_path)
    request = SumRequest(1, "train", 0, b"")
    for sites in (one, other):
        sites.sessions["site-0"].answer(plan, request, lambda: made.append(1))
    assert one.sum(1).opened.survivors == tuple(KEYS)
    with pytest.raises(VoidSumError):
        other.sum(1)
    assert other.made == []


def test_a_label_is_summed_once_even_by_a_site_that_was_restarted(tmp_path):
    sites = Sites(tmp_path)
    first = sites.sum(1)
    # asked the very same, sites answer the very same: nothing is made anew
    assert np.array_equal(sites.sum(1).opened.total, first.opened.total)
    with pytest.raises(VoidSumError):  # asked for the others' sum, they refuse
        sites.sum(1, names=("site-0", "site-1", "site-2"))
    sites.sessions = {name: sites.open(name) for name in KEYS}
    with pytest.raises(VoidSumError):
        sites.sum(1)
    assert len(sites.made) == 4
    assert sites.sum(2).opened.survivors == tuple(KEYS)


def test_what_a_site_remembers_of_sums_does_not_grow_and_without_it_none_is_made(tmp_path):
    sites = Sites(tmp_path)
    for number in (1, 2, 5):
        sites.sum(number)
    (remembered,) = (tmp_path / "site-0").iterdir()
    assert remembered.read_text() == "5\n"
    assert remembered.stat().st_mode & 0o777 == 0o600
    for folder in tmp_path.iterdir():
        (folder / remembered.name).write_text("five\n")
    with pytest.raises(DataError, match="could be summed twice"):
        sites.sum(6)


@pytest.mark.parametrize(("step", "survives"), [(1, False), (2, False), (3, True), (4, True)])
def test_a_site_that_is_restarted_within_a_sum_sits_it_out(tmp_path, step, survives):
    sites = Sites(tmp_path)
    sites.restarted = ((step, "site-1"),)
    found = sites.sum(1)
    assert ("site-1" in found.opened.survivors) == survives
    sites.restarted = ()
    assert sites.sum(2).opened.survivors == tuple(KEYS)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["train", "evaluate"]),
    st.binary(max_size=50),
    st.binary(max_size=50),
)
def test_requests_come_back_as_they_were(number, task, message, instructions):
    for step in range(5):
        request = SumRequest(number, task, step, message, instructions if step == 2 else b"")
        assert SumRequest.from_bytes(request.to_bytes()) == request
        for broken in (request.to_bytes()[:15], b"X" + request.to_bytes()[1:], request.to_bytes()[:6]):
            with pytest.raises(MessageError, match="a request or answer of version 1"):
                SumRequest.from_bytes(broken)
        if step != 2:
            with pytest.raises(MessageError, match="a message of another length"):
                SumRequest.from_bytes(request.to_bytes() + b"x")


@given(st.binary(max_size=50), st.lists(st.text(max_size=10), max_size=3))
def test_answers_come_back_as_they_were(message, names):
    assert unpack_answer(pack_answer(message, tuple(names))) == (message, tuple(names))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"FSAN",
        b"XXXX\0\0\0\0",
        b"FSAN\xff\0\0\0",
        b"FSAN\x02\0\0\0{}",
        b"FSAN\x03\0\0\0[1]",
        b"FSAN\x02\0\0\0][",
    ],
)
def test_bytes_that_are_no_answer_are_refused(data):
    with pytest.raises(MessageError, match="a request or answer of version 1"):
        unpack_answer(data)


@pytest.mark.parametrize("data", [b"x", b"{}", b'{"label": "train 1", "releases": [], "sum": "{}"}', b"[]"])
def test_from_other_bytes_no_sum_is_taken_up(tmp_path, data):
    sites = Sites(tmp_path)
    session = sites.open("site-0")
    assert session.carried() == b""
    session.take_up(sites.sums.plan, data)
    session.take_up(sites.sums.plan, b"")
    assert session.carried() == b""


def test_a_sum_goes_on_in_other_processes(tmp_path):
    """Every step of every site by a session of its own, with what the one before gave it."""
    sites, kept = Sites(tmp_path), {}

    def exchange(questions):
        for name in questions:
            sites.sessions[name] = sites.open(name)
            sites.sessions[name].take_up(sites.sums.plan, kept.get(name, b""))
        answers = sites.exchange(questions)
        kept.update({name: sites.sessions[name].carried() for name in questions})
        return answers

    request = SumRequest(1, "train", 0, b"", b"instructions")
    found = secure_sum(sites.sums.plan("train"), request, tuple(KEYS), exchange, lambda *_which: None)
    assert found.opened.survivors == tuple(KEYS)
    assert np.allclose(sites.sums.mean(found.opened), 1.0)


SHARED = replace(
    TERMS,
    privacy=PrivacyRequest(
        mode="distributed",
        rounds=2,
        sampling_rate=0.5,
        expected_batch_size=None,
        noise="discrete_gaussian",
    ),
)


def test_a_plan_that_was_made_for_other_sums_is_refused():
    """A run is resumed under its plan; with fewer sites in the roster its shares would be too little noise."""
    sums = RunSums(SHARED, ROSTER, SIZE)
    sums.check_plan(sums.common)
    many = {f"site-{i}": SigningKey(bytes([i + 1]) * 32).public_bytes for i in range(7)}
    wider = RunSums(SHARED, Roster(many, dict.fromkeys(many, 10.0)), SIZE)
    louder = replace(sums.common, noise_multiplier=1.01 * sums.common.noise_multiplier)
    for plan in (wider.common, louder, None, replace(sums.common, sum_sites=0)):
        with pytest.raises(PolicyRefused, match="that this run's plan was made for"):
            sums.check_plan(plan)
    RunSums(TERMS, ROSTER, SIZE).check_plan(None)


def test_a_declared_size_that_is_not_the_rosters_is_refused(home):
    allowing = replace(POLICY, declared_patients=10, allow_shared_noise=True)
    assert agreed(home, "site-0", SHARED, allowing, SIZE).shares.threshold == 3
    with pytest.raises(PolicyRefused, match="this site's declared size in its roster, 11"):
        agreed(home, "site-0", SHARED, replace(allowing, declared_patients=11), SIZE)
    with pytest.raises(PolicyRefused, match="min_colluders"):
        agreed(home, "site-0", SHARED, replace(allowing, min_colluders=2), SIZE)
    with pytest.raises(PolicyRefused, match="secure sums with privacy=distributed"):
        agreed(home, "site-0", replace(SHARED, secagg=SecaggConfig("none")), allowing, SIZE)
