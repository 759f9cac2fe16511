"""A study sent with DCMTK ends as an alert on the page, report and outline in an archive, and a message: with real peers."""

from __future__ import annotations

import io
import subprocess

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from known_studies import NODULE, outlining_bundle, write_study
from loopback_orthanc import Orthanc
from loopback_watch import Loopback, receiving, wait_for

from fedimg.crypto.keys import SigningKey
from tests.system import program
from tests.web.chromium import Chromium

KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture
def pacs(tmp_path):
    with Orthanc(program("Orthanc"), tmp_path / "orthanc") as one:
        yield one


@pytest.fixture
def watcher(tmp_path, pacs):
    bundle = outlining_bundle(tmp_path / "bundle", KEY)
    with receiving(tmp_path) as receiver:
        targets = [
            receiver.target(),
            {"name": "pacs", "kind": "cstore", "address": f"127.0.0.1:{pacs.dicom}", "ae_title": "PACS"},
            {"name": "dicomweb", "kind": "stow", "url": pacs.studies},
        ]
        one = Loopback(tmp_path / "watcher", [bundle], KEY, {"deliver": targets})
        one.receiver = receiver
        yield one
        one.stop()


def test_a_study_sent_ends_on_the_page_in_the_archive_and_at_the_pager(watcher, pacs, tmp_path):
    watcher.start()
    paths = write_study(tmp_path / "in", "sick", ball=True)
    token = (watcher.home / "console.token").read_text().strip()
    page = Chromium(tmp_path / "browser")
    with page:
        page.go(f"http://127.0.0.1:{watcher.console}/")
        page.fill("token", token)
        page.submit()
        command = [program("storescu"), "-aet", "PACS", "-aec", "FEDIMG", "127.0.0.1", str(watcher.scp)]
        subprocess.run([*command, *map(str, paths)], check=True, timeout=60)
        wait_for(lambda: len(watcher.receiver.raised()) == 1, 60, "the message")
        (alert,) = watcher.rows("SELECT * FROM alert")
        wait_for(lambda: NODULE.meaning in page.text(), 20, "the alert on the page that was open")
        assert page.console == []

    settled = "SELECT target, state, why FROM delivery ORDER BY target"
    wait_for(lambda: all(row["state"] == "done" for row in watcher.rows(settled)), 60, "all deliveries")
    assert {row["target"] for row in watcher.rows(settled)} == {"dicomweb", "pacs", "pager"}
    held = pacs.by_modality()
    assert {modality: len(own) for modality, own in held.items()} == {"SR": 1, "SEG": 1, "OT": 1} or set(
        held
    ) >= {
        "SR",
        "SEG",
    }

    report = Comprehensive3DSR.from_dataset(read(pacs, held["SR"]))
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.StudyInstanceUID == pydicom.dcmread(paths[0]).StudyInstanceUID
    codes = (
        {
            item.ConceptCodeSequence[0].CodeValue
            for item in report.content.walk()
            if hasattr(report.content, "walk")
        }
        if hasattr(report.content, "walk")
        else set_of_codes(report)
    )
    assert NODULE.value in codes

    outline = Segmentation.from_dataset(read(pacs, held["SEG"]))
    sop = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    drawn = outline.get_pixels_by_source_instance(
        sop, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    planes = np.flatnonzero(drawn.reshape(len(sop), -1).any(axis=1))
    assert abs(planes.mean() - 6.0) < 1.5, "the ball is in the middle of the stack"
    assert alert["state"] in ("raised", "delivered")


def set_of_codes(dataset):
    """Every coded value below a data set."""
    found = set()

    def note(_parent, element):
        if element.keyword == "CodeValue":
            found.add(str(element.value))

    dataset.walk(note)
    return found


def read(pacs, instances):
    (instance,) = instances
    return pydicom.dcmread(io.BytesIO(pacs.file(instance)))
