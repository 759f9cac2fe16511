"""The intake: every input one receipt, whatever it is; resumable; nothing of a patient in the home."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path, PosixPath

import numpy as np
import pydicom
import pytest

from fedimg.dicom import receipts
from fedimg.dicom.authoring import write_image
from fedimg.errors import ConfigError, DataError, ReceiptError
from fedimg.home import SiteHome
from fedimg.intake import REMEDIES, IntakeConfig, admission, admitted, release, run_intake
from fedimg.values import Quarantine, SourceItem

NAME, NUMBER = "QUIRRELL^ANNABETH", "MRN5550123"


def pixels(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(32), np.arange(32)) / 5)
    return (wave + rng.normal(0, 5, wave.shape)).astype(np.uint16)


def dicom(
    folder: Path, seed: int, *, patient: str = NUMBER, name: str | None = None, **attributes
) -> SourceItem:
    """One CT slice of a patient, in a folder named after her."""
    path = folder / "Quirrell Annabeth" / (name or f"{seed}.dcm")
    path.parent.mkdir(exist_ok=True)
    known = {
        "PatientID": patient,
        "PatientName": NAME,
        "StudyDate": "20120309",
        "PatientBirthDate": "19500607",
    }
    write_image(path, modality="CT", pixels=pixels(seed), attributes=known | attributes)
    return SourceItem(path, "dicom", label=seed % 2)


@pytest.fixture
def home(tmp_path) -> SiteHome:
    return SiteHome.create(tmp_path / "home", simulated=True)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def receipts_of(home: SiteHome) -> list[receipts.Receipt]:
    return list(receipts.read(home.receipts, home.signing_key.public_bytes))


def tree(home: SiteHome) -> dict[str, bytes]:
    files = (path for path in home.released.rglob("*") if path.is_file())
    return {path.relative_to(home.released).as_posix(): path.read_bytes() for path in files}


def assert_nothing_of_the_patient(home: SiteHome) -> None:
    """Every file of the home and every name in it, in any case; the numbers and dates too."""
    for path in home.root.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for word in ("quirrell", "annabeth", "mrn5550123", "5550123", "20120309", "19500607"):
            assert word.encode() not in content.lower(), path.name
            assert word not in str(path.relative_to(home.root)).lower()


def bad_inputs(folder: Path) -> dict[Quarantine, list[SourceItem]]:
    whole = dicom(folder, 90).path.read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:-300])
    (folder / "text.dcm").write_text(f"a letter about {NAME}")
    (folder / "empty.dcm").write_bytes(b"")
    os.mkfifo(folder / "pipe.dcm")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    unlabelled = dicom(folder, 91)
    return {
        Quarantine.UNREADABLE: [
            SourceItem(folder / "cut.dcm", "dicom", label=0),
            SourceItem(folder / "missing.dcm", "dicom", label=0),
        ],
        Quarantine.NOT_AN_IMAGE: [
            SourceItem(folder / name, "dicom", label=0) for name in ("text.dcm", "empty.dcm", "pipe.dcm")
        ],
        Quarantine.NO_LABEL: [SourceItem(unlabelled.path, "dicom")],
        Quarantine.NO_PATIENT_ID: [dicom(folder, 92, patient="")],
        Quarantine.OBJECT_TYPE: [dicom(folder, 93, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")],
        Quarantine.BURNED_IN_TEXT: [dicom(folder, 94, BurnedInAnnotation="YES")],
    }


def test_good_and_bad_inputs_get_one_receipt_each(home, source):
    good = [dicom(source, seed) for seed in range(4)]
    bad = bad_inputs(source)
    copy = dicom(source, 1, name="copy.dcm")
    items = [*good, *(item for group in bad.values() for item in group), copy]
    seen: list[tuple[int, int]] = []
    result = run_intake(items, home, progress=lambda done, total: seen.append((done, total)))
    assert len(result.records) == 4
    counts = {reason: len(group) for reason, group in bad.items()} | {Quarantine.DUPLICATE: 1}
    assert dict(result.quarantined) == counts
    written = receipts_of(home)
    assert [entry.position for entry in written] == list(range(len(items)))
    assert len({entry.link for entry in written}) == len(items)
    assert seen == [(n + 1, len(items)) for n in range(len(items))]
    assert receipts.verify(home.receipts, home.signing_key.public_bytes, home.released) == len(items)
    assert list(home.quarantine.iterdir()) == []
    assert_nothing_of_the_patient(home)


def test_records_say_what_was_released(home, source):
    items = [dicom(source, seed, SeriesInstanceUID="1.2.3") for seed in range(3)]
    result = run_intake(items, home)
    assert admitted(home) == tuple(sorted(result.records, key=lambda record: record.path))
    assert {record.label for record in result.records} == {0, 1}
    assert len({record.patient_key for record in result.records}) == 1
    assert len({record.series_key for record in result.records}) == 1
    for record in result.records:
        read = pydicom.dcmread(home.released / record.path)
        assert (read.PatientID, read.StudyInstanceUID, read.SOPInstanceUID) == (
            record.patient_key,
            record.study_key,
            record.instance_key,
        )
        assert (record.modality, record.kind, record.split) == ("CT", "dicom", "train")
    assert result.bytes_in == sum(item.path.stat().st_size for item in items)
    assert result.bytes_released == sum(map(len, tree(home).values()))


def test_the_report_is_for_the_operator_and_free_of_patient_data(home, source):
    group = bad_inputs(source)
    result = run_intake(
        [dicom(source, 1), *group[Quarantine.NO_LABEL], *group[Quarantine.BURNED_IN_TEXT]], home
    )
    assert result.report() == (
        "1 released, 2 held back\n"
        "       1  burned_in_text: text may be burnt into its pixels: blank it at the source, or leave it out (inputs 2)\n"
        "       1  no_label: no label: add its line to the label file (inputs 1)"
    )
    assert set(REMEDIES) == set(Quarantine)


def test_a_second_run_skips_what_stands_and_takes_in_what_changed(home, source):
    items = [dicom(source, seed) for seed in range(4)]
    unlabelled = SourceItem(dicom(source, 7).path, "dicom")
    first = run_intake([*items, unlabelled], home)
    before = tree(home)
    again = run_intake([*items, unlabelled], home)
    assert (again.resumed, again.records, again.positions) == (4, first.records, first.positions)
    assert len(receipts_of(home)) == 5  # no second receipt for the same decision
    victim = home.released / first.records[0].path
    victim.write_bytes(b"changed")
    labelled = SourceItem(unlabelled.path, "dicom", label=1)
    third = run_intake([*items, labelled], home)
    assert third.resumed == 3
    assert len(third.records) == 5
    assert {name: tree(home)[name] for name in before} == before
    assert len(admitted(home)) == 5


def test_a_corrected_label_counts(home, source):
    item = dicom(source, 2)
    run_intake([item], home)
    run_intake([SourceItem(item.path, "dicom", label=5, split="public")], home)
    assert [(record.label, record.split) for record in admitted(home)] == [(5, "public")]


def test_two_homes_with_one_key_and_any_number_of_workers_agree(source, tmp_path):
    items = [dicom(source, seed, patient=f"P{seed % 3}") for seed in range(6)]
    items += bad_inputs(source)[Quarantine.NOT_AN_IMAGE]
    homes = [SiteHome.create(tmp_path / name, simulated=True) for name in ("one", "two")]
    (homes[1].root / "site.key").write_bytes((homes[0].root / "site.key").read_bytes())
    homes[1] = SiteHome.open(homes[1].root)
    results = [run_intake(items, at, IntakeConfig(workers=n)) for at, n in zip(homes, (0, 2), strict=True)]
    assert tree(homes[0]) == tree(homes[1])
    assert results[0].records == results[1].records
    assert [entry.link for entry in receipts_of(homes[0])] == [entry.link for entry in receipts_of(homes[1])]


class Bomb(PosixPath):
    """A path that ends the child process that unpickles it: a codec's crash, seen from outside."""

    def __reduce__(self):
        return os._exit, (3,)

    def absolute(self) -> Path:
        return Path(str(self))


def test_an_input_that_kills_a_worker_is_held_back_and_the_others_go_on(home, source):
    items = [dicom(source, seed) for seed in range(5)]
    bomb = SourceItem(Bomb(dicom(source, 9).path), "dicom", label=0)
    result = run_intake([*items[:2], bomb, *items[2:]], home, IntakeConfig(workers=2))
    assert len(result.records) == 5
    assert dict(result.positions) == {Quarantine.UNREADABLE: (2,)}


def test_an_input_that_takes_too_long_is_held_back_and_the_others_go_on(home, source):
    """Processor time, so that a busy machine holds nothing back: 4,096² pixels take longer."""
    items = [dicom(source, seed) for seed in range(3)]
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(4096), np.arange(4096)) / 50)
    path = source / "large.dcm"
    write_image(path, modality="CT", pixels=wave.astype(np.uint16), attributes={"PatientID": "P1"})
    slow = SourceItem(path, "dicom", label=0)
    config = IntakeConfig(workers=1, seconds_per_file=3.0, recompress="none")
    result = run_intake([*items[:2], slow, *items[2:]], home, config)
    assert len(result.records) == 3
    assert dict(result.positions) == {Quarantine.UNREADABLE: (2,)}
    with pytest.raises(ConfigError):
        run_intake(items, home, IntakeConfig(seconds_per_file=-1.0))


def test_a_full_disk_is_refused_cleanly_and_the_next_run_goes_on(home, source, monkeypatch):
    items = [dicom(source, seed) for seed in range(6)]
    original, calls = release._write, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(path, data)

    monkeypatch.setattr(release, "_write", full)
    with pytest.raises(DataError) as error:
        run_intake(items, home)
    assert str(error.value) == (
        "expected room on the disk of the site's home; found a full disk; what was released before is valid; "
        "free space and start the intake again: it goes on where it stopped"
    )
    assert receipts.verify(home.receipts, home.signing_key.public_bytes, home.released) == 3
    monkeypatch.setattr(release, "_write", original)
    result = run_intake(items, home)
    assert (result.resumed, len(result.records)) == (3, 6)
    assert result.bytes_in == sum(item.path.stat().st_size for item in items)
    assert len(admitted(home)) == 6


def test_a_killed_intake_leaves_a_clean_tree_and_goes_on(home, source):
    items = [dicom(source, seed) for seed in range(120)]
    code = (
        "import sys; from pathlib import Path; from fedimg.home import SiteHome;"
        "from fedimg.intake import run_intake; from fedimg.values import SourceItem;"
        "files = sorted(Path(sys.argv[1]).rglob('*.dcm'));"
        "run_intake([SourceItem(f, 'dicom', label=0) for f in files], SiteHome.open(Path(sys.argv[2])))"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code, str(source), str(home.root)])
    deadline = time.monotonic() + 60
    while len(tree(home)) < 10 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 10 <= len(tree(home)) < 120
    for data in tree(home).values():
        assert b"quirrell" not in data.lower() and b"5550123" not in data
    assert len(admitted(home)) <= len(tree(home))  # what has no signed receipt is not admitted
    assert len(run_intake(items, home).records) == 120
    assert receipts.verify(home.receipts, home.signing_key.public_bytes, home.released) == 120
    assert list(home.quarantine.iterdir()) == []


def test_only_files_as_receipted_are_admitted(home, source):
    result = run_intake([dicom(source, seed) for seed in range(3)], home)
    paths = [home.released / record.path for record in result.records]
    paths[0].write_bytes(paths[0].read_bytes()[:-1] + b"X")
    paths[1].unlink()
    found = admission(home)
    assert [record.path for record in found.records] == [result.records[2].path]
    assert sorted(error.found for error in found.refused) == [
        "no such file",
        "other bytes than were released",
    ]
    content = home.receipts.read_bytes()
    home.receipts.write_bytes(content.replace(b'"position":2', b'"position":3'))
    with pytest.raises(ReceiptError):
        admitted(home)


def test_a_new_home_admits_nothing(home):
    assert admitted(home) == ()


def test_two_images_with_one_instance_number_do_not_overwrite_each_other(home, source):
    items = [
        dicom(source, seed, SOPInstanceUID="1.2.3", StudyInstanceUID="1", SeriesInstanceUID="2")
        for seed in (1, 2)
    ]
    result = run_intake(items, home)
    assert len(result.records) == 1
    assert dict(result.quarantined) == {Quarantine.DUPLICATE: 1}
    assert len(admitted(home)) == 1


def test_its_own_release_as_input_comes_out_unchanged(home, source, tmp_path):
    first = run_intake([dicom(source, seed) for seed in range(2)], home)
    other = SiteHome.create(tmp_path / "other", simulated=True)
    (other.root / "site.key").write_bytes((home.root / "site.key").read_bytes())
    other = SiteHome.open(other.root)
    items = [SourceItem(home.released / record.path, "dicom", label=record.label) for record in first.records]
    second = run_intake(items, other)
    assert second.records == first.records
    assert tree(other) == tree(home)


def test_a_bad_configuration_is_refused(home):
    for config in (IntakeConfig(workers=-1), IntakeConfig(project=""), IntakeConfig(profile="none")):
        with pytest.raises(ConfigError):
            run_intake([], home, config)
