"""FHIR bundles: valid by a reader of the standard's own definitions, said once however often they are sent."""

import json
import uuid

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.diagnosticreport import DiagnosticReport
from fhir.resources.R4B.flag import Flag
from fhir.resources.R4B.observation import Observation
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fedimg.codes import Code
from fedimg.errors import DataError
from fedimg.monitoring.alerts import after
from fedimg.monitoring.fhir import ALERT_SYSTEM, NOT_FOR_DIAGNOSIS, STUDY_SYSTEM, Identity, transaction
from tests.monitoring.test_alerts import again, raised

LUNG = Code("39607008", "SCT", "Lung")
WHO = Identity("1.2.840.99.7", "PAT-4711", "urn:oid:1.2.3", "ACC-1")
# The resources of these four are the same in R4 and R4B (hl7.org/fhir/R4B/diff.html), so R4B's reader judges both.
TYPES = {"Observation": Observation, "DiagnosticReport": DiagnosticReport, "Flag": Flag}


def parts(bundle):
    return {entry["resource"]["resourceType"]: entry["resource"] for entry in bundle["entry"]}


alerts = st.builds(
    lambda score, share, size, where, at, scheme: raised(
        score=score,
        threshold=score * share,
        size_mm=size,
        where=where,
        raised_at=at,
        code=Code("27925004", scheme, "Nodule"),
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0, 500)),
    st.sampled_from(["", "right lung"]),
    st.floats(0, 4e9),
    st.sampled_from(["SCT", "DCM", "99LOCAL"]),
)


@given(alerts, st.sampled_from([None, WHO, Identity("1.2", "7")]), st.sampled_from([None, LUNG]))
def test_every_bundle_is_valid_and_comes_again_byte_for_byte(alert, identity, site):
    bundle = transaction(alert, identity, site)
    text = json.dumps(bundle, allow_nan=False)
    assert text == json.dumps(transaction(alert, identity, site))
    read = Bundle.model_validate_json(text)
    assert read.type == "transaction"
    assert (
        json.loads(read.model_dump_json())["entry"][0]["resource"]["code"]
        == parts(bundle)["Observation"]["code"]
    )
    for kind, resource in parts(bundle).items():
        TYPES[kind].model_validate(resource)
    names = [entry["fullUrl"] for entry in bundle["entry"]]
    assert len(set(names)) == len(names)
    assert all(uuid.UUID(name.removeprefix("urn:uuid:")).version == 5 for name in names)
    # the report's result is the observation of the same bundle
    assert parts(bundle)["DiagnosticReport"]["result"] == [{"reference": names[0]}]


def test_the_reader_sees_what_is_wrong():
    good = parts(transaction(raised(), WHO))
    for kind, wrong in (
        ("Observation", {"status": None}),
        ("Observation", {"valuePercent": 3}),
        ("DiagnosticReport", {"code": None}),
        ("Flag", {"subject": None}),
        ("Observation", {"issued": "yesterday"}),
    ):
        changed = {name: value for name, value in (good[kind] | wrong).items() if value is not None}
        with pytest.raises(ValidationError):
            TYPES[kind].model_validate(changed)


def test_all_of_it_is_preliminary_and_says_that_nobody_has_read_it():
    found = parts(transaction(raised(), WHO, LUNG))
    seen, report, flag = found["Observation"], found["DiagnosticReport"], found["Flag"]
    assert (seen["status"], report["status"], flag["status"]) == ("preliminary", "preliminary", "active")
    assert seen["note"] == [{"text": NOT_FOR_DIAGNOSIS}]
    assert report["conclusion"] == (
        "nodule 1.0.0 (abababababababab) calls Nodule: right lung, upper third, slice 12 of 30, 9 mm, score 0.93 "
        f"(called from 0.41). {NOT_FOR_DIAGNOSIS}"
    )
    assert seen["valueQuantity"]["value"] == 0.93
    assert [part["valueQuantity"]["value"] for part in seen["component"]] == [0.41, 9.0]
    assert seen["bodySite"]["coding"][0]["code"] == "39607008"
    assert seen["derivedFrom"][0]["identifier"] == {
        "system": "urn:dicom:uid",
        "value": "urn:oid:1.2.840.99.7",
    }
    assert flag["subject"]["identifier"] == {"system": "urn:oid:1.2.3", "value": "PAT-4711"}


def test_without_an_identity_none_of_it_names_a_patient():
    bundle = transaction(raised())
    assert set(parts(bundle)) == {"Observation", "DiagnosticReport"}
    text = json.dumps(bundle)
    assert "subject" not in text
    assert "urn:dicom:uid" not in text
    assert parts(bundle)["Observation"]["derivedFrom"][0]["identifier"]["system"] == STUDY_SYSTEM


class Server:
    """Conditional create and conditional update as R4 has them (http.html#ccreate, #cond-update), and nothing else."""

    def __init__(self):
        self.held = {}

    def take(self, bundle):
        for entry in bundle["entry"]:
            kind, request = entry["resource"]["resourceType"], entry["request"]
            query = request.get("ifNoneExist") or request["url"].partition("?")[2]
            system, value = query.removeprefix("identifier=").split("|")
            own = {"system": system, "value": value}
            assert entry["resource"]["identifier"] == [own]
            known = (kind, system, value) in self.held
            if request["method"] == "PUT" or not known:
                self.held[kind, system, value] = entry["resource"]


def test_a_repeat_makes_no_second_resource_and_a_revision_replaces_the_first():
    server, alert = Server(), raised()
    for _ in range(3):
        server.take(transaction(alert, WHO))
    assert len(server.held) == 3
    server.take(transaction(after(alert, again(score=0.7)), WHO))
    server.take(transaction(raised(finding="effusion"), WHO))
    assert len(server.held) == 6
    assert server.held["Observation", ALERT_SYSTEM, alert.key]["valueQuantity"]["value"] == 0.7


def test_identities_of_another_form_are_refused():
    for wrong in (("1.2/../3", "7"), ("", "7"), ("1.2", "7", "two words"), ("1.2", "7", "a|b")):
        with pytest.raises(DataError, match="another form"):
            Identity(*wrong)
