"""A record holds together, and whatever is changed in it, by whomever, is named."""

import copy
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from fedimg import record
from fedimg.errors import DataError
from fedimg.privacy.accounting import epsilon
from fedimg.privacy.events import Event
from tests.record.conftest import facts, run_facts


def failed(data, evidence):
    return {check.name for check in record.verify(data, evidence).failures}


def leaves(value, path=()):
    """Paths to everything in a document that is not an object or a list; empty ones count as leaves."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [leaf for key, inner in items for leaf in leaves(inner, (*path, key))]
    return found or [path]


def at(document, path):
    for key in path:
        document = document[key]
    return document


def flipped(value):
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value[:-1] + ("0" if value[-1:] != "0" else "1")
        case None:
            return 1
        case _:
            return [1]


def test_an_honest_record_passes_every_check(finished):
    keys = {"coordinator": finished.coordinator.public_bytes.hex()} | {
        name: home.signing_key.public_bytes.hex() for name, home in finished.homes.items()
    }
    found = record.verify(finished.data, finished.evidence(keys=keys))
    assert found.passed, found.failures
    names = {check.name for check in found.checks}
    assert {"alder: epsilon", "alder: second accountant", "birch: ledger", "model", "audit: battery"} <= names
    assert {"coordinator: key", "federation: epsilon"} <= names
    assert found.remarks == ("a simulated federation: all keys were in one hand",)


def test_the_federation_composes_the_sites_that_a_patient_may_be_at(finished):
    """m = 2: both sites' releases together, here by one accountant over the doubled events."""
    plan = record.plan_from_json(finished.document["record"]["sites"][0]["part"]["plan"])
    train, evaluate = plan.roles
    doubled = [Event(e.noise_multiplier, e.sampling_rate, 2 * e.count) for e in (*train,)]
    mixed = max(epsilon([*a, *b], 1e-4) for a in (train, evaluate) for b in (train, evaluate))
    stated = finished.document["record"]["claim"]["epsilon"]
    assert stated == pytest.approx(mixed)
    assert stated >= epsilon(doubled, 1e-4) > plan.epsilon


def test_every_field_is_under_a_signature(finished):
    """Each value of the document, one by one: refused as no record, or a signature is named."""
    document = finished.document
    paths = leaves(document)
    assert len(paths) > 120
    for path in paths:
        changed = copy.deepcopy(document)
        at(changed, path[:-1])[path[-1]] = flipped(at(document, path))
        try:
            names = failed(json.dumps(changed).encode(), finished.evidence())
        except DataError as error:
            assert "release record" in error.expected, path  # noqa: PT017 - either end is right
            continue
        assert "coordinator's signature" in names, path
        if path[:2] == ("record", "sites"):
            site = document["record"]["sites"][path[2]]["part"]["site"]
            assert f"{site}: signature" in names or "site" in path, path


def sums(*groups, colluders=1):
    each = [{"sites": sites, "threshold": threshold} for sites, threshold in groups]
    return {"name": "pairwise", "colluders": colluders, "sums": each}


def changes():
    """(what is changed in the record, the check that must name it): all signatures made anew."""

    def part(r):
        return r["sites"][0]["part"]

    def less_noise(r):
        for place in (part(r)["plan"], part(r)["claim"]):
            place["noise_multiplier"] *= 0.9

    def claimed_everywhere(r):
        for place in (part(r)["plan"], part(r)["claim"], part(r)["claim"]["accountants"][0]):
            place["epsilon"] -= 0.05

    def second(r):
        part(r)["plan"]["epsilon_second"] -= 0.05
        part(r)["claim"]["accountants"][1]["epsilon"] -= 0.05

    return {
        "less noise than the ledger has": (less_noise, "alder: epsilon"),
        "another ledger than reserved": (less_noise, "alder: ledger"),
        "epsilon stated lower": (claimed_everywhere, "alder: epsilon"),
        "second accountant": (second, "alder: second accountant"),
        "epsilon in the claim only": (lambda r: part(r)["claim"].update(epsilon=1.0), "alder: claim"),
        "clip norm": (lambda r: part(r)["claim"].update(l2_clip_norm=0.1), "alder: claim"),
        "sampler": (lambda r: part(r)["claim"].update(sampler="shuffle"), "alder: claim"),
        "adjacency": (lambda r: part(r)["claim"].update(adjacency="replace_one_image"), "alder: claim"),
        "plan digest": (lambda r: part(r)["claim"].update(plan="0" * 64), "alder: claim"),
        "no plan": (lambda r: part(r).update(plan=None), "alder: plan"),
        "foreign plan": (lambda r: part(r)["plan"].update(typo=1), "alder: plan"),
        "plan of text": (lambda r: part(r)["plan"]["request"].update(epsilon="3"), "alder: plan"),
        "too many charged": (lambda r: part(r)["charged"].update(train=99), "alder: releases"),
        "fewer charged": (lambda r: part(r)["charged"].update(train=2), "alder: ledger"),
        "another kind": (lambda r: part(r)["charged"].update(other=1), "alder: releases"),
        "ledger's promise": (lambda r: part(r)["ledger"].update(epsilon_max=1.0), "alder: ledger"),
        "earlier runs": (lambda r: part(r)["ledger"].update(earlier_runs=3), "alder: ledger"),
        "another run": (lambda r: part(r).update(run="other"), "alder: run"),
        "other terms": (lambda r: part(r).update(terms="00" * 32), "alder: run"),
        "federation's epsilon": (lambda r: r["claim"].update(epsilon=2.9), "federation: epsilon"),
        "federation's delta": (lambda r: r["claim"].update(delta=1e-6), "federation: epsilon"),
        "no epsilon": (lambda r: r["claim"].update(epsilon=None), "federation: epsilon"),
        "one site a patient": (
            lambda r: r["claim"].update(max_sites_per_patient=1),
            "federation: sites per patient",
        ),
        "shared noise without sums": (lambda r: r["claim"].update(mode="distributed"), "secure sums"),
        "a threshold that opens two sums": (
            lambda r: r.update(secagg=sums((4, 2))),
            "secure sums",
        ),
        "as many colluders as survivors": (
            lambda r: r.update(secagg=sums((4, 3), colluders=3)),
            "secure sums",
        ),
        "no sums": (lambda r: r.update(secagg=sums()), "secure sums"),
        "shares of a noise of the site's own": (
            lambda r: part(r)["plan"].update(sum_sites=4, sum_threshold=3, sum_colluders=1),
            "noise",
        ),
        "mode": (lambda r: r["claim"].update(mode="distributed"), "federation: claim"),
        "unit": (lambda r: r["claim"].update(unit="image"), "federation: claim"),
        "federation's adjacency": (lambda r: r["claim"].update(adjacency="x"), "federation: claim"),
        "seeded noise": (lambda r: r.update(insecure_test_mode=True), "federation: claim"),
        "a site twice": (lambda r: r["sites"].append(r["sites"][0]), "participants"),
        "no site": (lambda r: r.update(sites=[]), "participants"),
        "weights": (lambda r: r["model"].update(weights="00" * 32), "model"),
        "audit": (lambda r: r["audits"][0].update(verdict="fail"), "audit: battery"),
    }


@pytest.mark.parametrize("name", changes())
def test_what_all_signers_lie_about_is_found_where_it_can_be(finished, name):
    change, expected = changes()[name]
    document = finished.document
    change(document["record"])
    names = failed(finished.sign(document), finished.evidence())
    assert expected in names
    assert not any("signature" in found for found in names)


def test_a_site_did_not_sign_what_the_coordinator_says_of_it(finished):
    document = finished.document
    document["record"]["sites"][1]["part"]["charged"]["train"] = 2
    assert "birch: signature" in failed(finished.sign(document, sites=False), finished.evidence())
    document["record"]["sites"][1]["signature"] = None  # nor may a site that stayed be unsigned
    assert "birch: signature" in failed(finished.sign(document, sites=False), finished.evidence())


def test_keys_known_from_elsewhere_are_held_against_the_record(finished):
    keys = {"coordinator": "00" * 32, "alder": "11" * 32, "cedar": "22" * 32}
    names = failed(finished.data, finished.evidence(keys=keys))
    assert names == {"coordinator: key", "alder: key", "cedar: key"}


def test_ledgers_of_others_and_missing_ones_fail(finished):
    swapped = {"alder": finished.ledgers["birch"], "birch": finished.ledgers["alder"]}
    assert failed(finished.data, finished.evidence(ledgers=swapped)) == {"alder: ledger", "birch: ledger"}
    assert failed(finished.data, finished.evidence(ledgers={})) == {"alder: ledger", "birch: ledger"}
    alone = record.verify(finished.data, record.Evidence())
    assert alone.passed
    assert any("extracts were not compared" in remark for remark in alone.remarks)


def test_another_model_fails_and_nothing_is_unpickled(finished, tmp_path):
    save_file({"a.weight": torch.ones(2, 2), "b": torch.arange(3.0) + 1e-6}, tmp_path / "other.safetensors")
    assert failed(finished.data, finished.evidence(model=tmp_path / "other.safetensors")) == {"model"}

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    (tmp_path / "model.pt").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match="safetensors"):
        record.verify(finished.data, finished.evidence(model=tmp_path / "model.pt"))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pickle.dumps({"format": "fedimg-release-record-3"}), "a release record in JSON"),
        (b"[]", "format fedimg-release-record-3"),
        (b'{"format": "fedimg-ledger-extract-1"}', "of format fedimg-release-record-3"),
        (b'{"format": "fedimg-release-record-9"}', "of format fedimg-release-record-3"),
        (b'{"format": "fedimg-release-record-3"}', "key of a release record to be there"),
        (b'{"format": 1, "format": 2}', "every field stands once"),
        (b'{"format": NaN}', "a release record in JSON"),
        (b"[" * 100_000, "a release record in JSON"),
        (b" " * (17 * 2**20), "at most 16 MiB"),
    ],
    ids=["pickle", "list", "ledger", "version", "empty", "twice", "nan", "deep", "long"],
)
def test_what_is_no_record_is_refused(data, expected):
    with pytest.raises(DataError) as refused:
        record.verify(data)
    assert expected in refused.value.expected


def test_a_field_that_the_format_does_not_know_is_refused_by_its_path(finished):
    document = finished.document
    document["record"]["model"]["note"] = "x"
    with pytest.raises(DataError, match=r"record\.model\.\(a field\)"):
        record.verify(finished.sign(document))


def test_a_seeded_run_and_one_without_privacy_state_no_epsilon(finished, site_at):
    home, plan = site_at("cedar")
    seeded = record.signed_part(home, facts("cedar", home, plan, insecure=True))
    open_part = record.signed_part(home, facts("cedar", home, None))
    for part, changed in ((seeded, {"insecure": True}), (open_part, {"mode": "none"})):
        data = record.signed_record(run_facts(**changed), [part], finished.coordinator)
        found = record.verify(data, record.Evidence(model=finished.model))
        assert found.passed, found.failures
        assert found.record["claim"]["epsilon"] is None
        assert found.record["sites"][0]["part"]["claim"]["epsilon"] is None
        assert not found.record["claim"]["private"]
        document = json.loads(data)
        document["record"]["claim"]["epsilon"] = 3.0
        assert "federation: epsilon" in failed(
            finished.sign(document, sites=False), record.Evidence(model=finished.model)
        )


def test_a_site_that_left_and_cannot_sign_is_named(finished, site_at):
    home, plan = site_at("dogwood")
    gone = record.unsigned_part(facts("dogwood", home, plan, left_after_round=1))
    data = record.signed_record(run_facts(), [*finished.parts, gone], finished.coordinator)
    found = record.verify(data, finished.evidence())
    assert found.passed, found.failures
    assert any("dogwood left the run and did not sign" in remark for remark in found.remarks)
