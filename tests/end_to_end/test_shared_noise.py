"""Whole runs with `privacy=distributed`: the sum is the release, and nothing of less noise is anywhere."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from fedimg.cli import main
from fedimg.config import compose
from fedimg.errors import ConfigError, PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy import ledger as privacy_ledger
from fedimg.privacy.integers import integer_grid
from fedimg.privacy.plan import ReleaseSession
from fedimg.run_sums import RunSums
from fedimg.secagg.encoding import centred
from fedimg.simulation import simulate
from fedimg.values import MaskedUpdate

FIVE = (
    "sites=5",
    "privacy=distributed",
    "privacy.sampling_rate=0.5",
    "rounds=3",
    "data.cohort.patients_per_hospital=10",
    "aggregation=fedavg",
    "training.learning_rate=0.1",
    "training.private_learning_rate=null",
)


def parameters(path, number):
    return load_file(path / "checkpoints" / f"round-{number:05d}.safetensors")["parameters"].double().numpy()


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def charged(path, name):
    home = SiteHome.open(path / "sites" / name)
    extract = (path / "ledgers" / f"{name}.json").read_bytes()
    (spend,) = privacy_ledger.verify(extract, home.signing_key.public_bytes).runs.values()
    return spend.charged


@pytest.fixture
def contributed(monkeypatch):
    """What sites put into sums, as words, in the order of making; and what was opened of them."""
    seen = {"made": [], "opened": []}
    made, total = ReleaseSession.contribute, RunSums.total

    def contribute(self, *arguments):
        share = made(self, *arguments)

        def look(words):
            seen["made"].append(words.copy())
            return MaskedUpdate(words)

        share.mask(look)
        return share

    def opened(self, task, found, where=None):
        reals = total(self, task, found, where)
        seen["opened"].append((task, found, reals))
        return reals

    monkeypatch.setattr(ReleaseSession, "contribute", contribute)
    monkeypatch.setattr(RunSums, "total", opened)
    return seen


def test_what_is_opened_is_exactly_the_sum_of_what_the_survivors_put_in(small_run, wire, contributed):
    """And moves the model as one site's step along it would have; hospital-1 drops out in round 2."""
    wire["away"] = lambda step, number, task: ("hospital-1",) if (number, task) == (2, "train") else ()
    run = small_run(*FIVE)
    assert [row["missing"] for row in rows(run.path)] == [[], ["hospital-1"], []]
    made, rate = iter(contributed["made"]), 0.1
    grid, number = integer_grid(1.0), 0
    for task, found, reals in contributed["opened"]:
        words = [next(made) for _ in found.survivors]
        assert np.array_equal(found.total, centred(np.sum(words, axis=0, dtype=np.uint64)))
        if task != "train":
            continue
        number += 1
        # one site of five may drop out; who is there shows the key of what is not needed, unless one did
        assert all(len(keys) == len(found.survivors) - 4 for keys in found.excess.values())
        assert np.array_equal(reals, found.total * grid) == (len(found.survivors) == 4)
        # five sites of 10 declared patients, half of them in a step on average
        mean = reals / (0.5 * 10 * len(found.survivors))
        before = parameters(run.path, number - 1) if number > 1 else None
        if before is not None:
            moved = parameters(run.path, number) - before
            assert np.abs(moved + rate * mean).max() < 1e-5
    assert number == 3
    assert next(made, None) is None


def test_nothing_that_a_site_puts_in_is_on_the_wire(small_run, wire, contributed):
    run = small_run(*FIVE)
    everything = b"".join(wire["answered"])
    for words in contributed["made"]:
        place = len(words) // 2
        assert words[place : place + 2].tobytes() not in everything
        assert (words[place : place + 1].view("<i8") * integer_grid(1.0)).tobytes() not in everything
    assert all(charged(run.path, f"hospital-{k}") == {"train": 3, "evaluate": 1} for k in range(1, 6))


def test_the_report_the_record_and_the_card_say_what_the_promise_rests_on(small_run):
    run = small_run(*FIVE, "audit.empirical=true")
    assert run.summary["privacy"]["mode"] == "distributed"
    assert run.summary["privacy"]["secure_sum"] == {"sites": 5, "threshold": 4, "colluders": 1}
    assert 7.9 < run.summary["privacy"]["epsilon"] <= 8
    sigmas = {site["noise_multiplier"] for site in run.summary["sites"].values()}
    assert len(sigmas) == 1
    (measured,) = run.summary["privacy"]["empirical"].values()
    assert measured["verdict"] == "pass"
    for name in ("report.html", "privacy-card.html"):
        page = (run.path / name).read_text()
        assert "up to 1 other colluding sites" in page
        assert "Every site adds a share of the noise" in page
        assert "No secure aggregation" not in page
    assert main(["verify", str(run.path)]) == 0
    record = json.loads((run.path / "record.json").read_text())["record"]
    assert record["secagg"] == {
        "name": "pairwise",
        "colluders": 1,
        "sums": [{"sites": 5, "threshold": 4}],
    }
    numbers = ("sum_sites", "sum_threshold", "sum_colluders")
    assert {tuple(signed["part"]["plan"][n] for n in numbers) for signed in record["sites"]} == {(5, 4, 1)}


def test_too_few_survivors_void_a_step_that_is_charged(small_run, wire):
    gone = ("hospital-1", "hospital-2")
    wire["away"] = lambda step, number, task: gone if number == 2 and step >= 3 else ()
    run = small_run(*FIVE)
    assert run.summary["void_rounds"] == [2]
    assert np.array_equal(parameters(run.path, 1), parameters(run.path, 2))
    assert charged(run.path, "hospital-1")["train"] == charged(run.path, "hospital-5")["train"] == 3


def test_a_stopped_run_repeats_no_sum(small_run, wire):
    def away(step, number, task):
        if number == 2 and step == 4 and not wire.get("stopped"):
            wire["stopped"] = True
            raise KeyboardInterrupt
        return ()

    wire["away"] = away
    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(*FIVE)
    run = simulate(compose([f"resume={stopped.value.run_path}"]))
    assert run.summary["void_rounds"] == [2]
    assert (
        charged(run.path, "hospital-3")["train"] == 3
    )  # as many as rounds were declared, and none set aside


def test_networks_that_learn_their_centre_first_take_part_too(small_run):
    """Rounds of another part of the parameters each: what is not trained stays as it is, to the last bit."""
    run = small_run(*FIVE, "model=scattering", "model.centring_rounds=1")
    first, second = parameters(run.path, 1), parameters(run.path, 2)
    moved = first != second
    assert 0 < moved.sum() < len(first)
    assert run.summary["void_rounds"] == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("secagg=none",), "secure sums with the sites' declared weights"),
        (("aggregation.weights=uniform",), "secure sums with the sites' declared weights"),
        (("sites=2", "secagg=pairwise"), "secure sums of three sites or more"),
        (("training.local_steps=2",), "one noised step a round"),
        (("privacy.noise=gaussian",), "discrete_gaussian with privacy=distributed"),
        (("training.proximal_mu=0.1",), "secure sums with the sites' declared weights"),
    ],
)
def test_what_the_promise_could_not_rest_on_is_refused(config, overrides, expected):
    with pytest.raises(ConfigError, match=expected):
        config(*FIVE, *overrides)


def test_two_sites_have_no_sum_to_share_noise_in(small_run):
    with pytest.raises(ConfigError, match="secure sums of three sites or more"):
        small_run(*FIVE, "sites=2")


def test_a_site_shares_its_noise_only_where_its_policy_says_so(small_run, tmp_path):
    state = tmp_path / "state"
    small_run(*FIVE, f"state={state}", "rounds=1", "privacy.epsilon=1")
    for root in state.iterdir():
        policy = root / "policy.yaml"
        if policy.exists():
            policy.write_text(
                policy.read_text().replace("allow_shared_noise: true", "allow_shared_noise: false")
            )
    with pytest.raises(PolicyRefused, match="allow_shared_noise"):
        small_run(*FIVE, f"state={state}", "rounds=1", "privacy.epsilon=1")


def test_secure_sums_are_on_by_default_and_their_absence_is_said_aloud(small_run):
    """From three sites on; the run's own configuration says which it was."""
    three = small_run("sites=3", "rounds=1", "data.cohort.patients_per_hospital=10")
    assert three.summary["privacy"]["secagg"] == "pairwise"
    assert compose([f"resume={three.path}"]).secagg.name == "pairwise"
    two = small_run("rounds=1")
    assert two.summary["privacy"]["secagg"] == "none"
    assert "No secure aggregation" in (two.path / "report.html").read_text()
    cohort = small_run("sites=3", "rounds=1", "aggregation.cohort=2", "data.cohort.patients_per_hospital=10")
    assert cohort.summary["privacy"]["secagg"] == "none"
