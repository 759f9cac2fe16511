"""Whole runs in which the coordinator sees sums only: the same model, nothing un-masked on the wire, sites missing."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from safetensors.torch import load_file

from fedimg.cli import main
from fedimg.config import compose
from fedimg.errors import ConfigError, FederationError
from fedimg.home import SiteHome
from fedimg.privacy import ledger as privacy_ledger
from fedimg.secagg.request import SumRequest, is_request
from fedimg.simulation import engines, simulate
from fedimg.values import RoundInstructions

FOUR = ("sites=4", "secagg=pairwise", "rounds=3", "data.cohort.patients_per_hospital=10")


def parameters(path, number=None):
    files = sorted((path / "checkpoints").glob("round-*.safetensors"))
    chosen = files[-1] if number is None else path / "checkpoints" / f"round-{number:05d}.safetensors"
    return load_file(chosen)["parameters"].double().numpy()


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_the_sum_gives_the_model_that_single_updates_give(small_run):
    """In the test mode, to the grid's rounding: 4 sites of clamp 4 have steps of 2⁻²⁷, and steps add up over rounds."""
    test_mode = ("insecure_test_mode=true", *FOUR)
    plain = small_run(*test_mode, "secagg=none")
    secure = small_run(*test_mode)
    assert np.abs(parameters(plain.path) - parameters(secure.path)).max() < 1e-6
    assert np.abs(parameters(plain.path) - parameters(plain.path, 1)).max() > 1e-3
    before, after = plain.summary["site_evaluation"], secure.summary["site_evaluation"]
    assert before == pytest.approx(after, abs=1e-5)


def test_flowers_ray_engine_gives_the_same_model_bit_for_bit(small_run):
    """Where a site's five steps are taken by different processes; a sum is exact, so engines agree to the last bit."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'fedimg[ray]'")
    overrides = ("insecure_test_mode=true", *FOUR, "rounds=2", "model=scattering")
    here, there = small_run(*overrides), small_run(*overrides, "engine=ray")
    assert np.array_equal(parameters(here.path), parameters(there.path))
    assert here.summary["site_evaluation"] == there.summary["site_evaluation"]
    assert there.summary["void_rounds"] == []


def test_references_are_trained_beside_a_run_with_secure_sums(small_run):
    run = small_run(*FOUR, "rounds=1", "compare=true")
    assert {row["arrangement"] for row in run.summary["comparison"]} >= {"federation", "site", "pooled"}
    assert all(row["auroc"] is not None for row in run.summary["comparison"])


def test_no_update_is_on_the_wire_and_the_report_says_what_was_seen(small_run, wire):
    run = small_run(*FOUR)
    # five exchanges with four sites, three rounds and one evaluation
    assert len(wire["asked"]) == len(wire["answered"]) == 5 * 4 * 4
    assert all(is_request(message) for message in wire["asked"])
    for answer in wire["answered"]:
        assert b"FIMG" not in answer[:64]  # neither a NoisedUpdate nor an OpenUpdate
        assert b"NOIS" not in answer[:64]
    assert run.summary["privacy"]["secure_sum"] == {"sites": 4, "threshold": 3, "colluders": 1}
    assert run.summary["void_rounds"] == []
    page = (run.path / "report.html").read_text()
    assert (
        "The server saw sums of the sites&#x27; updates" in page
        or "The server saw sums of the sites' updates" in page
    )
    assert "No secure aggregation" not in page
    assert main(["verify", str(run.path)]) == 0


def test_sites_that_drop_out_at_every_stage_are_missing_and_the_run_goes_on(small_run, wire):
    order = ("hospital-1", "hospital-2", "hospital-3")
    wire["away"] = lambda step, number, task: (
        (order[number - 1],) if task == "train" and step >= number - 1 else ()
    )
    run = small_run(*FOUR)
    found = rows(run.path)
    # away from the first exchange, the second, or with its masked input
    assert [row["missing"] for row in found] == [["hospital-1"], ["hospital-2"], ["hospital-3"]]
    assert all(len(row["sites"]) == 3 for row in found)
    assert run.summary["missing"] == {"1": ["hospital-1"], "2": ["hospital-2"], "3": ["hospital-3"]}


def test_a_site_that_is_gone_after_its_masked_input_is_in_the_sum(small_run, wire):
    wire["away"] = lambda step, number, task: ("hospital-2",) if step >= 3 else ()
    run = small_run(*FOUR)
    assert all(len(row["sites"]) == 4 and not row["missing"] for row in rows(run.path))


def test_a_void_round_leaves_the_model_is_charged_and_is_told(small_run, wire):
    wire["away"] = lambda step, number, task: (
        ("hospital-1", "hospital-2") if number == 2 and step >= 3 else ()
    )
    run = small_run(*FOUR)
    found = rows(run.path)
    assert run.summary["void_rounds"] == [2]
    assert "of at least 3 of 4 sites; found 2" in found[1]["void"]
    assert np.array_equal(parameters(run.path, 1), parameters(run.path, 2))
    assert not np.array_equal(parameters(run.path, 2), parameters(run.path, 3))
    home = SiteHome.open(run.path / "sites" / "hospital-4")
    extract = (run.path / "ledgers" / "hospital-4.json").read_bytes()
    (spend,) = privacy_ledger.verify(extract, home.signing_key.public_bytes).runs.values()
    assert spend.charged["train"] == 3


def test_many_void_rounds_end_the_run_and_it_goes_on_when_the_sites_are_back(small_run, wire, tmp_path):
    wire["away"] = lambda step, number, task: ("hospital-1", "hospital-2") if step >= 3 else ()
    with pytest.raises(FederationError, match="a sum that could be opened in one of 2 rounds"):
        small_run(*FOUR, "rounds=4", "secagg.void_rounds=2")
    (path,) = (tmp_path / "runs").iterdir()
    wire["away"] = lambda *_which: ()
    run = simulate(compose([f"resume={path}"]))
    assert run.summary["void_rounds"] == [1, 2]
    assert [len(row["sites"]) for row in rows(path)] == [0, 0, 4, 4]


def test_a_stopped_run_goes_on(small_run, wire):
    """Round 2 was under way when the coordinator stopped: the sites sit it out, and the run goes on with round 3."""

    def away(step, number, task):
        if number == 2 and step == 4 and task == "train" and not wire.get("stopped"):
            wire["stopped"] = True
            raise KeyboardInterrupt
        return ()

    wire["away"] = away
    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(*FOUR)
    path = stopped.value.run_path
    run = simulate(compose([f"resume={path}"]))
    assert run.path == path
    assert run.summary["void_rounds"] == [2]
    assert [row["round"] for row in rows(path)] == [1, 2, 3]
    assert all(a["round"] < b["round"] for a, b in pairwise(rows(path)))


@pytest.mark.parametrize(
    "overrides",
    [
        ("sites=2",),
        ("sites=4", "privacy=client_level"),
        ("sites=4", "privacy=none", "engine.fused=true"),
        ("sites=4", "aggregation.cohort=3"),
    ],
)
def test_what_has_no_secure_sum_is_refused(config, overrides):
    with pytest.raises(ConfigError, match="secure sums of three sites or more"):
        config("secagg=pairwise", *overrides)


def test_a_threshold_that_would_open_two_sums_is_refused_before_anything(small_run):
    with pytest.raises(ConfigError, match="a threshold from 4 to 5"):
        small_run(*FOUR, "sites=5", "secagg.threshold=3")


def test_two_models_in_one_round_open_nothing_of_a_site(small_run, monkeypatch):
    """The coordinator asks one site with the model and the others with numbers that swallow their step and noise."""
    plain = engines.in_turn

    def in_turn(*arguments):
        exchange = plain(*arguments)

        def bent(outgoing):
            changed = dict(outgoing)
            for name, data in outgoing.items():
                request = SumRequest.from_bytes(data)
                if request.step == 2 and name != "hospital-1":
                    instructions = RoundInstructions.from_bytes(request.instructions, None)
                    huge = replace(instructions, vector=np.full(instructions.vector.shape, 3e38))
                    changed[name] = replace(request, instructions=huge.to_bytes()).to_bytes()
            return exchange(changed)

        return bent

    monkeypatch.setattr(engines, "in_turn", in_turn)
    with pytest.raises(FederationError, match="a sum that could be opened in one of 3 rounds"):
        small_run(*FOUR)


NINE = (
    "sites=9",
    "secagg.groups=3",
    "aggregation.robust=median",
    "aggregation.liars=1",
    "rounds=2",
    "data.cohort.patients_per_hospital=6",
)


def test_groups_have_a_sum_each_with_shared_noise_of_its_own(small_run, wire):
    """A group that cannot be opened leaves too few for the median of three."""
    wire["away"] = lambda step, number, task: ("hospital-2",) if (number, task) == (1, "train") else ()
    run = small_run(*NINE, "privacy=distributed", "privacy.sampling_rate=0.5")
    assert run.summary["void_rounds"] == [1]
    assert [len(row["sites"]) for row in rows(run.path)] == [0, 9]
    found = {"sites": 3, "threshold": 3, "colluders": 1, "groups": 3}
    assert run.summary["privacy"]["secure_sum"] == found
    record = json.loads((run.path / "record.json").read_text())["record"]
    assert record["secagg"]["sums"] == [{"sites": 3, "threshold": 3}] * 3
    assert {signed["part"]["plan"]["sum_sites"] for signed in record["sites"]} == {3}
    assert main(["verify", str(run.path)]) == 0
    page = (run.path / "report.html").read_text()
    assert "in each round 3 sums of the updates of groups of sites" in page


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ("sites=9", "secagg.groups=3", "aggregation.robust=krum"),
            "the median or trimmed mean over at least 5",
        ),
        (
            ("sites=9", "secagg.groups=2", "aggregation.robust=median"),
            "the median or trimmed mean over at least 3",
        ),
        (
            ("sites=8", "secagg=pairwise", "secagg.groups=3", "aggregation.robust=median"),
            "in groups for a robust rule",
        ),
        (("sites=9", "secagg=pairwise", "secagg.groups=3"), "in groups for a robust rule"),
    ],
)
def test_groups_that_a_rule_could_not_stand_on_are_refused(config, overrides, expected):
    with pytest.raises(ConfigError, match=expected):
        config(*overrides)
