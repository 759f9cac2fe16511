"""Studies put into a real archive arrive in the watcher by polling, each image once, over a kill and a restart."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from collections import Counter
from datetime import UTC, datetime

import pydicom
import pytest
from known_studies import PLANTED, outlining_bundle, write_study
from loopback_watch import Loopback, receiving, wait_for

from fedimg.crypto.keys import SigningKey
from sites.watch.deliveries import Delivery
from sites.watch.dicomweb_poll_memory import standing
from sites.watch.posting import Endpoint
from sites.watch.stow_client import Stow
from tests.system import program

KEY = SigningKey.from_bytes(bytes(range(32)))


@pytest.fixture
def watcher(tmp_path, pacs):
    """It sends its reports into the archive that it asks."""
    bundle = outlining_bundle(tmp_path / "bundle", KEY)
    with receiving(tmp_path) as receiver:
        url = pacs.studies.removesuffix("/studies")
        more = {
            "poll": {"url": url, "modalities": ["CT"], "every_s": 1},
            "deliver": [receiver.target(), {"name": "dicomweb", "kind": "stow", "url": pacs.studies}],
        }
        one = Loopback(tmp_path / "watcher", [bundle], KEY, more)
        one.receiver = receiver
        yield one
        one.stop()


def study(folder, name, *, ball):
    today = datetime.now(UTC).astimezone().strftime("%Y%m%d")
    return write_study(folder, name, ball=ball, StudyDate=today)


def put(pacs, paths):
    command = [program("storescu"), "-aet", "CT1", "-aec", "PACS", "127.0.0.1", str(pacs.dicom)]
    subprocess.run([*command, *map(str, paths)], check=True, timeout=60)


def images(watcher):
    """SOPInstanceUID → how often it is in the watcher's store."""
    return Counter(
        row["sop_uid"] for row in watcher.rows("SELECT sop_uid FROM instance WHERE source = 'poll'")
    )


def once(*paths):
    return Counter(pydicom.dcmread(path).SOPInstanceUID for path in paths)


def analysed(watcher, count):
    query = "SELECT count(*) AS n FROM study WHERE state = 'analysed'"
    wait_for(lambda: [row["n"] for row in watcher.rows(query)] == [count], 90, f"{count} studies")


def test_what_is_put_into_an_archive_arrives_once(watcher, pacs, tmp_path):
    sick, well = study(tmp_path / "in", "sick", ball=True), study(tmp_path / "in", "well", ball=False)
    put(pacs, sick)
    Stow(Endpoint(pacs.studies)).deliver(Delivery(1, "pacs", "stow", "key", paths=tuple(well)))
    watcher.start()
    analysed(watcher, 2)
    assert images(watcher) == once(*sick, *well)
    assert {row["completeness"] for row in watcher.rows("SELECT completeness FROM study")} == {"complete"}
    wait_for(lambda: len(watcher.receiver.raised()) == 1, 60, "the message")
    wait_for(lambda: len(pacs.by_modality().get("SR", [])) == 1, 60, "the report in the archive")

    third = study(tmp_path / "in", "third", ball=True)
    put(pacs, third[:-1])
    wait_for(lambda: len(images(watcher)) > 24, 60, "the third study's first images")
    watcher.kill()
    put(pacs, third[-1:])
    watcher.start()
    analysed(watcher, 3)
    wait_for(lambda: images(watcher) == once(*sick, *well, *third), 60, "the last image")
    wait_for(lambda: len(watcher.receiver.raised()) == 2, 60, "the second message")
    assert not list((watcher.home / "spool" / "incoming").iterdir())
    wait_for(lambda: standing(watcher.home / "spool") == {"taken": 36}, 30, "a whole round")

    watcher.stop()
    watcher.start()
    wait_for(lambda: counted(watcher, "poll.rounds") >= 2, 60, "two rounds")
    assert counted(watcher, "poll.asked") > 0 == counted(watcher, "poll.taken")
    assert images(watcher) == once(*sick, *well, *third)
    said = watcher.log.read_text() + metrics(watcher)
    assert all(word not in said for word in (*PLANTED, *images(watcher), "dicom-web"))


def metrics(watcher):
    token = (watcher.home / "console.token").read_text().strip()
    address = f"http://127.0.0.1:{watcher.console}/metrics"
    request = urllib.request.Request(address, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request) as answer:
        return answer.read().decode()


def counted(watcher, what):
    """Since its start."""
    found = re.search(rf'fedimg_watch_spool_total{{.*what="{re.escape(what)}".*}} (.+)', metrics(watcher))
    return 0 if found is None else float(found[1])
