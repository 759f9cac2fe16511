"""Whole runs that tell groups apart: one charge, the same sizes for everybody, and the counts that patients have."""

import json
import math

import numpy as np
import pytest
from safetensors.torch import load_file

from fedimg.client_round import load
from fedimg.config import compose
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import PolicyRefused
from fedimg.home import SiteHome
from fedimg.privacy import ledger as privacy_ledger
from fedimg.secagg.request import SumRequest, is_request
from fedimg.simulation import simulate
from fedimg.site_terms import allowing
from fedimg.subgroups import ATTRIBUTES
from fedimg.values import NoisedUpdate

GROUPS = "evaluation.subgroups=[sex,age_band,scanner]"
QUICK = (GROUPS, "rounds=2", "data.cohort.modalities=[CR]", "data.cohort.max_studies=1")
OPEN = ("privacy=none", "secagg=none", "evaluation.validation_fraction=0.5")


def evaluations(path, name):
    home = SiteHome.open(path / "sites" / name)
    extract = (path / "ledgers" / f"{name}.json").read_bytes()
    (spend,) = privacy_ledger.verify(extract, home.signing_key.public_bytes).runs.values()
    return spend.charged["evaluate"]


def counted(found):
    """By attribute: its groups and their (noisy) numbers."""
    return {
        name: {group: own["examples"] for group, own in one["groups"].items()}
        for name, one in found.items()
        if "groups" in one
    }


def held_out(config, run, names):
    """The oracle: every held-out patient's groups, read in the sites' homes."""
    terms = terms_of(config, run.path.name)
    found = {name: dict.fromkeys(terms.subgroups.groups(name), 0) for name in ATTRIBUTES}
    for site in names:
        part = load(SiteHome.open(run.path / "sites" / site), terms, own_network(terms)).validation
        for row in terms.subgroups.indices(part.groups[part.first_image[:-1]]):
            for name, place in zip(ATTRIBUTES, row, strict=True):
                found[name][terms.subgroups.groups(name)[place]] += 1
    return found


def test_without_noise_every_group_has_the_patients_that_its_sites_hold(config, tmp_path):
    settings = config(*QUICK, *OPEN)
    run = simulate(settings)
    found = json.loads((run.path / "summary.json").read_text())["subgroups"]
    names = ("hospital-1", "hospital-2")
    expected = held_out(settings, run, names)
    own = counted(found["sites"])
    assert {name: own[name] for name in ATTRIBUTES} == expected
    assert sum(expected["sex"].values()) == sum(own["site"].values()) > 4
    assert expected["sex"]["female"] > 0 < expected["scanner"]["norwerk"]
    assert list(own["site"]) == list(names)
    assert "noise_factors" not in found
    assert not any(
        group["noise_share"] for one in found["sites"].values() for group in one["groups"].values()
    )
    # the public set knows its groups too
    public = counted(found["public"])
    assert sum(public["sex"].values()) == sum(public["scanner"].values()) == 10
    assert "<h2>By group</h2>" in (run.path / "report.html").read_text()


def test_each_site_s_release_holds_all_groups_for_one_charge(small_run, wire, tmp_path):
    run = small_run(*QUICK, "secagg=none")
    names = ("hospital-1", "hospital-2")
    terms = terms_of(compose(["secagg=none", GROUPS]), "run")
    cells = math.prod(terms.measure.shape)
    assert cells == (1 + 4 + 5 + 7) * 2 * 20
    histograms = [
        update
        for update in (NoisedUpdate.from_bytes(data, None) for data in wire["answered"])
        if update.kind == "histogram"
    ]
    assert [(update.site, update.vector.size, len(update.releases)) for update in histograms] == [
        (name, cells, 1) for name in names
    ]
    assert [evaluations(run.path, name) for name in names] == [1, 1]
    plain = np.stack([update.vector for update in histograms])
    assert 0.7 < plain.std() / run_std(run) < 1.3  # nearly every cell is empty: what it holds is noise
    found = run.summary["subgroups"]
    assert found["noise_factors"] == pytest.approx({"overall": 1.58468, "group": 2.0}, abs=1e-5)
    assert set(found["sites"]) == {*ATTRIBUTES, "site"}
    assert set(found["sites"]["site"]["groups"]) == set(names)
    page = (run.path / "report.html").read_text()
    assert "1.58 times the noise" in page
    for path in (run.path / "summary.json", run.path / "metrics.jsonl", run.path / "record.json"):
        assert "PatientSex" not in path.read_text()
    # nothing of a header's own words, and no patient's code, is in what was sent or logged
    sent = b"".join(wire["answered"])
    logs = b"".join(p.read_bytes() for p in (run.path / "sites").glob("*/operator.log"))
    for word in (b"Aurelia", b"Norwerk", b'"groups"', b"PatientAge"):
        assert word not in sent
        assert word not in logs


def run_std(run):
    stated = json.loads((run.path / "record.json").read_text())
    text = json.dumps(stated)
    place = text.index('"evaluation_noise_multiplier": ') + len('"evaluation_noise_multiplier": ')
    return float(text[place:].split(",")[0].split("}")[0])


def test_a_run_that_goes_on_has_the_same_groups_and_sites(small_run):
    """A release that was paid for is in the checkpoint, each site's own too: nothing is asked again."""

    def stop(stage, done, _total):
        if (stage, done) == ("rounds", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        small_run(*QUICK, "secagg=none", progress=stop)
    path = stopped.value.run_path
    kept = load_file(path / "checkpoints" / "round-00002.safetensors")
    run = simulate(compose([f"resume={path}"]))
    names = ("hospital-1", "hospital-2")
    assert [evaluations(path, name) for name in names] == [1, 1]
    assert set(run.summary["subgroups"]["sites"]["site"]["groups"]) == set(names)
    tables = [kept[f"fedimg/at_sites/site/{name}"].numpy() for name in names]
    assert np.array_equal(sum(tables), kept["fedimg/at_sites/histogram"].numpy())
    measure = terms_of(compose(["secagg=none", GROUPS]), "run").measure
    std = run_std(run)
    for name, table in zip(names, tables, strict=True):
        found = run.summary["subgroups"]["sites"]["site"]["groups"][name]
        assert found["examples"] == measure.of_release(table, std).examples


def test_with_shared_noise_groups_come_from_the_sum_and_sites_are_not_told_apart(small_run, wire):
    run = small_run(
        *QUICK, "sites=5", "privacy=distributed", "privacy.sampling_rate=0.5", "aggregation=fedavg",
        "training.private_learning_rate=null", "data.cohort.patients_per_hospital=10",
    )  # fmt: skip
    found = run.summary["subgroups"]
    assert set(found["sites"]) == {*ATTRIBUTES, "site"}
    assert "added up before anybody sees them" in found["sites"]["site"]["absent"]
    assert [evaluations(run.path, f"hospital-{k}") for k in range(1, 6)] == [1] * 5
    asked = [SumRequest.from_bytes(data) for data in wire["asked"] if is_request(data)]
    assert {one.task for one in asked} == {"train", "evaluate"}
    masked = [len(data) for data in wire["answered"]]
    assert max(masked) < 10**6
    assert "Site: not told" in (run.path / "report.html").read_text()


def test_secure_sums_of_exact_tables_say_what_single_tables_say(config, tmp_path):
    """Without noise, so that the sums can be held against the patients themselves."""
    settings = config(
        *QUICK, "privacy=none", "evaluation.validation_fraction=0.5", "sites=3", "secagg=pairwise"
    )
    run = simulate(settings)
    own = counted(json.loads((run.path / "summary.json").read_text())["subgroups"]["sites"])
    assert own == held_out(settings, run, [f"hospital-{k}" for k in (1, 2, 3)])


def test_virtual_clients_are_told_apart_by_group_too(small_run):
    run = small_run(
        *QUICK, "privacy=client_level", "privacy.sampling_rate=0.5", "sites=4",
        "data.cohort.patients_per_hospital=10",
    )  # fmt: skip
    found = run.summary["subgroups"]
    assert set(found["sites"]) == {*ATTRIBUTES, "site"}
    assert "absent" in found["sites"]["site"]
    assert found["noise_factors"]["group"] == pytest.approx(2.0)


@pytest.mark.parametrize("task", ["segmentation", "regression"])
def test_other_tasks_are_told_apart_as_well(tmp_path, task):
    settings = compose(
        [
            f"experiment={task}", *OPEN, "evaluation.subgroups=[sex]", "sites=2", "rounds=2", "compare=false",
            "data.cohort.patients_per_hospital=16", "data.cohort.phantom_public_patients=12", "imaging=small",
            "data.cohort.modalities=[CT]", "data.cohort.max_studies=1", "evaluation.bootstrap=20", "deid.workers=0",
            "audit.battery=false", "audit.empirical=false", f"runs={tmp_path / 'runs'}",
            *(["model.width=4"] if task == "segmentation" else []),
        ]
    )  # fmt: skip
    run = simulate(settings)
    found = run.summary["subgroups"]
    headline = run.summary["headline"]
    for source in ("public", "sites"):
        groups = found[source]["sex"]["groups"]
        assert headline in groups["male"]["metrics"], (source, groups)
    assert "NaN" not in (run.path / "report.html").read_text()


def test_nothing_is_told_apart_unless_it_is_asked_for(small_run):
    run = small_run("rounds=1", "secagg=none", "data.cohort.modalities=[CR]")
    assert set(run.summary["subgroups"]) <= {"sites"}
    assert set(run.summary["subgroups"].get("sites", {"site"})) == {"site"}


def test_a_site_whose_policy_does_not_allow_an_attribute_refuses_the_terms(config, tmp_path):
    home = SiteHome.create(tmp_path / "home", simulated=True)
    terms = terms_of(config("secagg=none", GROUPS, "privacy.delta=1e-5"), "run")
    home.policy.write_text("declared_patients: 100\nallowed_subgroups: [sex]\n")
    with pytest.raises(PolicyRefused, match=r"allowed_subgroups.*found age_band"):
        allowing(home, terms)
    home.policy.write_text("declared_patients: 100\n")
    assert allowing(home, terms).allowed_subgroups == ("*",)
