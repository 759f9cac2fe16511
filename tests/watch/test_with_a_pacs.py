"""A study sent with DCMTK ends as an alert on the page, report and outline in an archive, and a message: with real peers."""

from __future__ import annotations

import io
import json
import subprocess

import numpy as np
import pydicom
import pytest
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from known_studies import NODULE, outlining_bundle, write_study
from loopback_watch import Loopback, receiving, wait_for

from fedimg.crypto.keys import SigningKey
from tests.system import program
from tests.web.chromium import Chromium, beyond_this_machine

KEY = SigningKey.from_bytes(bytes(range(32)))


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
    (tmp_path / "browser").mkdir()
    with Chromium(tmp_path / "browser") as page:
        page.open(f"http://127.0.0.1:{watcher.console}/")
        page.run(f"[username.value, token.value] = ['Dr. Rowan', '{token}']")
        page.press("document.querySelector('form.login button').click()")
        command = [program("storescu"), "-aet", "PACS", "-aec", "FEDIMG", "127.0.0.1", str(watcher.scp)]
        subprocess.run([*command, *map(str, paths)], check=True, timeout=60)
        page.until(f"document.body.innerText.includes('{NODULE.meaning}')", seconds=60)
        wait_for(lambda: len(watcher.receiver.raised()) == 1, 60, "the message")
        assert page.console == []
        assert beyond_this_machine(page.requests) == []
    (alert,) = watcher.rows("SELECT * FROM alert")
    assert alert["finding"] == "ball"

    settled = "SELECT target, state, why FROM delivery ORDER BY target"
    wait_for(lambda: all(row["state"] == "done" for row in watcher.rows(settled)), 60, "all deliveries")
    assert {row["target"] for row in watcher.rows(settled)} == {"dicomweb", "pacs", "pager"}
    # the archive was sent the same objects twice, and has each once
    held = pacs.by_modality()
    assert {modality: len(held[modality]) for modality in ("SR", "SEG")} == {"SR": 1, "SEG": 1}
    for name, modality in (("sr", "SR"), ("seg", "SEG")):
        own = json.loads(watcher.rows("SELECT outputs FROM result")[0]["outputs"])[name]
        assert read(pacs, held[modality]) == pydicom.dcmread(own), "read back equal"

    report = Comprehensive3DSR.from_dataset(read(pacs, held["SR"]))
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.StudyInstanceUID == pydicom.dcmread(paths[0]).StudyInstanceUID
    assert NODULE.value in codes_of(report)

    outline = Segmentation.from_dataset(read(pacs, held["SEG"]))
    sop = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    drawn = outline.get_pixels_by_source_instance(
        sop, ignore_spatial_locations=True, assert_missing_frames_are_empty=True
    )
    planes = np.flatnonzero(drawn.reshape(len(sop), -1).any(axis=1))
    assert abs(planes.mean() - 6.0) < 1.5, "the ball is in the middle of the stack"


def codes_of(dataset):
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
