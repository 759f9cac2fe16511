"""What holds over runs, keys and processes; and that nothing but the release carries anything out."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import date
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hospital import RETAINED, intake, take
from images import JPEG_LS, RLE, ct, ct_pixels, in_syntax, mr, octets, us, written
from planting import Plant, everywhere
from rawdicom import IMPLICIT, File, e

from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, MeasuredIntakeConfig, admission, run_intake
from fedimg.values import SourceItem


def study(plant: Plant, count: int = 4) -> list[File]:
    """A study of several slices that refer to each other, full of planted values."""
    files = []
    for n in range(count):
        own, other = f"1.2.826.0.1.3680043.77.40.{n}", f"1.2.826.0.1.3680043.77.40.{(n + 1) % count}"
        file = everywhere(ct(ct_pixels(48, n)), Plant(7), IMPLICIT if n % 2 else RLE)
        reference = [
            e("ReferencedSOPClassUID", "1.2.840.10008.5.1.4.1.1.2"),
            e("ReferencedSOPInstanceUID", other),
        ]
        files.append(
            file.having(
                e("SOPInstanceUID", own),
                e("StudyInstanceUID", "1.2.826.0.1.3680043.77.41"),
                e("SeriesInstanceUID", "1.2.826.0.1.3680043.77.42"),
                e("FrameOfReferenceUID", "1.2.826.0.1.3680043.77.43"),
                e("InstanceNumber", str(n + 1)),
                e("ImagePositionPatient", f"0\\0\\{5 * n}"),
                e("ReferencedImageSequence", [reference]),
                e("SourceImageSequence", [reference]),
            )
        )
    everywhere(ct(ct_pixels(48, 0)), plant, RLE)
    return files


def tree(home: SiteHome) -> dict[str, str]:
    files = (path for path in home.released.rglob("*") if path.is_file())
    return {
        path.relative_to(home.released).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_a_rerun_is_byte_identical(tmp_path, profile):
    plant = Plant(7)
    files = study(plant)
    one, two = (take(tmp_path / name, *files, profile=profile) for name in ("one", "two"))
    assert len(one.released) == 4, one.reasons
    assert tree(one.home) == tree(two.home)
    assert one.leaks(plant.secrets) == []


def test_its_own_output_is_left_as_it_is(tmp_path, profile):
    first = take(tmp_path / "first", *study(Plant(7)), profile=profile)
    paths = sorted(path for path in first.home.released.rglob("*") if path.is_file())
    items = [SourceItem(path, "dicom", label=0) for path in paths]
    second = intake(tmp_path / "second", items, profile=profile)
    assert tree(second.home) == tree(first.home)
    assert len(second.released) == 4


def test_two_processes_agree(tmp_path, profile):
    files = study(Plant(7))
    one = take(tmp_path / "one", *files, profile=profile)
    two = take(tmp_path / "two", *files, profile=profile, workers=2)
    assert tree(one.home) == tree(two.home)
    assert [r.link for r in _receipts(one.home)] != [] and len(_receipts(one.home)) == len(
        _receipts(two.home)
    )


def _receipts(home: SiteHome) -> list:
    from fedimg.dicom import receipts

    return list(receipts.read(home.receipts, home.signing_key.public_bytes))


def test_another_key_is_unlinkable(tmp_path, profile):
    """No pseudonym, UID or path of one site's release is in the other's."""
    files = study(Plant(7))
    one = take(tmp_path / "one", *files, profile=profile)
    two = intake(
        tmp_path / "two",
        [SourceItem(tmp_path / "one" / "in" / f"{n}.dcm", "dicom", label=0) for n in range(4)],
        profile=profile,
        key="another",
    )
    assert len(one.released) == len(two.released) == 4
    mine, theirs = (_keyed(taken.released) for taken in (one, two))
    assert mine
    assert not mine & theirs
    assert not set(tree(one.home)) & set(tree(two.home))


def _keyed(files: tuple[bytes, ...]) -> set[str]:
    """Pseudonyms and UIDs of the released headers. Dates are left out: two moved years meet by chance."""
    found: set[str] = set()
    for data in files:
        dataset = pydicom.dcmread(BytesIO(data))
        found |= {str(dataset.PatientID), str(dataset.PatientName)}
        for element in dataset.iterall():
            values = element.value if element.VM > 1 else [element.value]
            if element.VR == "UI":
                found |= {str(v) for v in values if not str(v).startswith("1.2.840.10008.")}
    return found


def test_another_project_is_unlinkable(tmp_path, profile):
    files = study(Plant(7))
    one = take(tmp_path / "one", *files, profile=profile, project="one")
    two = take(tmp_path / "two", *files, profile=profile, project="two")
    assert not _keyed(one.released) & _keyed(two.released)


def test_intervals_between_dates_hold(tmp_path, profile):
    """Where a profile keeps dates: all of a subject's move by the same number of whole weeks."""
    days = {
        "StudyDate": "20190417",
        "SeriesDate": "20190418",
        "AcquisitionDate": "20190501",
        "ContentDate": "20200229",
    }
    files = [
        ct(SOPInstanceUID="1.2.3.1", PatientID="P-1", AcquisitionDateTime="20190501120000.5", **days),
        ct(ct_pixels(64, 3), SOPInstanceUID="1.2.3.2", PatientID="P-1", **dict.fromkeys(days, "20210110")),
        ct(ct_pixels(64, 4), SOPInstanceUID="1.2.3.3", PatientID="P-2", **days),
    ]
    taken = take(tmp_path, *files, profile=profile)
    assert len(taken.released) == 3, taken.reasons
    shifts: dict[str, set[int]] = {}
    for data, file in zip(taken.released, files, strict=True):
        dataset = pydicom.dcmread(BytesIO(data))
        for keyword in days:
            value = str(dataset.get(keyword, ""))
            if value not in ("", "19000101"):  # a profile that keeps no dates leaves none, or a dummy
                given = file.elements[pydicom.datadict.tag_for_keyword(keyword)].value
                moved = (date.fromisoformat(given) - date.fromisoformat(value)).days
                shifts.setdefault(str(dataset.PatientID), set()).add(moved)
        when = str(dataset.get("AcquisitionDateTime", ""))
        if when:
            assert when[:8] == str(dataset.AcquisitionDate)
    if profile == "ps315-research":
        assert len(shifts) == 2
    for moved in shifts.values():
        assert len(moved) == 1
        weeks, rest = divmod(moved.pop(), 7)
        assert rest == 0
        assert 52 <= weeks <= 520


def test_all_references_resolve(tmp_path, profile):
    taken = take(tmp_path, *study(Plant(7)), profile=profile)
    sets = [pydicom.dcmread(BytesIO(data)) for data in taken.released]
    instances = {str(dataset.SOPInstanceUID) for dataset in sets}
    assert len(instances) == 4
    assert len({str(dataset.StudyInstanceUID) for dataset in sets}) == 1
    assert len({str(dataset.SeriesInstanceUID) for dataset in sets}) == 1
    assert len({str(dataset.get("FrameOfReferenceUID")) for dataset in sets}) == 1
    for dataset in sets:
        for element in dataset.iterall():
            if element.keyword == "ReferencedSOPInstanceUID" and len(dataset.get("SourceImageSequence", ())):
                assert str(element.value) in instances | {""} or str(element.value).startswith("2.25.")
        for sequence in ("SourceImageSequence", "ReferencedImageSequence"):
            for item in dataset.get(sequence, ()):
                assert str(item.ReferencedSOPInstanceUID) in instances


@pytest.mark.parametrize("syntax", [IMPLICIT, RLE, JPEG_LS])
def test_pixels_are_bit_identical_outside_masks(tmp_path, profile, syntax):
    clean = ct_pixels(256)
    marked = written(clean, "OKONKWO ADA", (10, 10), 16, 1400)
    for name, file, original in (
        ("plain", mr(clean), clean),
        ("marked", mr(marked), marked),
    ):
        taken = take(tmp_path / name, in_syntax(file, syntax), profile=profile)
        if name == "plain":
            assert taken.only
        for data in taken.released:
            values = pydicom.dcmread(BytesIO(data)).pixel_array
            changed = values != original
            assert changed.mean() < 0.15
            assert not changed[64:].any()  # nothing is drawn there
            if name == "plain":
                assert not changed.any()


def test_pixels_of_every_kind_are_kept_bit_for_bit(tmp_path, profile):
    signed = ct_pixels(96).astype(np.int16) - 1024
    deep = ct(signed)
    cases = {
        "signed": deep,
        "16 bits": mr((ct_pixels(96).astype(np.uint32) * 40).clip(0, 65535).astype(np.uint16)),
        "8 bits": us(octets(96), (0, 0, 95, 95)),
        "colour": us(np.repeat(octets(96)[..., None], 3, axis=2), (0, 0, 95, 95)),
        "cine": us(np.stack([octets(64, n) for n in range(3)]), (0, 0, 63, 63)),
    }
    for name, file in cases.items():
        data = file.to_bytes()
        # Whether a detector sees text in a picture this small is another question.
        taken = take(tmp_path / name, data, profile=profile, config=MeasuredIntakeConfig)
        before = pydicom.dcmread(BytesIO(data)).pixel_array
        assert np.array_equal(taken.dataset.pixel_array, before), name


def test_receipts_hold_none_of_the_planted_values(tmp_path, profile):
    plant = Plant(7)
    study(plant)
    refused = everywhere(ct(), Plant(7), RLE).having(
        e("ImageType", "DERIVED\\SECONDARY"), e("SOPInstanceUID", "1.9")
    )
    taken = take(tmp_path, *study(plant), refused, b"garbage", profile=profile)
    assert len(taken.released) == 4
    assert len(taken.reasons) == 2
    text = taken.home.receipts.read_text()
    assert len([line for line in text.splitlines() if line and json.loads(line)]) >= 6
    assert taken.leaks(plant.secrets) == []


def test_changing_one_byte_of_a_released_file_makes_the_site_refuse_it(tmp_path, profile):
    taken = take(tmp_path, *study(Plant(7)), profile=profile)
    paths = sorted(path for path in taken.home.released.rglob("*") if path.is_file())
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 1
    paths[1].write_bytes(bytes(data))
    found = admission(taken.home)
    assert len(found.records) == 3
    assert len(found.refused) == 1


def test_killed_at_any_instant_the_release_tree_is_clean(tmp_path):
    """SIGKILL at several moments; what is in the tree is whole and clean, and the next run ends as if nothing was."""
    plant = Plant(7)
    source = tmp_path / "in"
    source.mkdir()
    for n in range(60):
        file = everywhere(ct(ct_pixels(48, n)), Plant(7), IMPLICIT).having(
            e("SOPInstanceUID", f"1.2.3.4.{n}"), e("ImagePositionPatient", f"0\\0\\{n}")
        )
        (source / f"{n:03}.dcm").write_bytes(file.to_bytes())
    everywhere(ct(), plant, IMPLICIT)
    items = [SourceItem(path, "dicom", label=0) for path in sorted(source.iterdir())]
    whole = SiteHome.create(tmp_path / "whole", simulated=True, insecure_seed="cases")
    run_intake(items, whole, IntakeConfig())
    wanted = tree(whole)
    assert len(wanted) == 60
    home = SiteHome.create(tmp_path / "home", simulated=True, insecure_seed="cases")
    code = (
        "import os, sys, threading, time; from pathlib import Path; from fedimg.home import SiteHome;"
        "from fedimg.intake import run_intake; from fedimg.values import SourceItem;"
        "home = SiteHome.open(Path(sys.argv[2])); wait = float(sys.argv[3]);"
        "kill = lambda: (time.sleep(wait), os.kill(os.getpid(), 9));"
        "threading.Thread(target=kill, daemon=True).start();"
        "run_intake([SourceItem(f, 'dicom', label=0) for f in sorted(Path(sys.argv[1]).iterdir())], home)"
    )
    killed = 0
    for turn in range(6):
        command = [sys.executable, "-P", "-c", code, str(source), str(home.root), str(0.05 + 0.11 * turn)]
        killed += subprocess.run(command, check=False, capture_output=True).returncode == -9
        for path, digest in tree(home).items():
            assert wanted[path] == digest
    assert killed
    result = run_intake(items, SiteHome.open(home.root), IntakeConfig())
    assert len(result.records) == 60
    assert tree(home) == wanted


def test_the_command_line_leaves_nothing_behind_either(tmp_path, profile, capfd):
    """`fedimg deidentify keygen`, then `run`: the way of the manual."""
    from fedimg.cli import main

    plant = Plant(7)
    files = study(plant)
    folder = tmp_path / plant.word("folder")
    folder.mkdir()
    for n, file in enumerate(files):
        (folder / f"{plant.word(f'file {n}')}.dcm").write_bytes(file.to_bytes())
    (folder / "letter.dcm").write_bytes(plant.text("letter").encode())
    assert main(["deidentify", "keygen", str(tmp_path / "key")]) == 0
    out = tmp_path / "out"
    arguments = ["deidentify", "run", str(folder), str(out), f"deid.key={tmp_path / 'key'}"]
    assert main([*arguments, f"deid.profile={profile}", "--json"]) == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["released"] == 4
    printed = shown.out + shown.err
    from scanner import left_behind

    kept = RETAINED.get(profile, frozenset())
    secrets = {place: secret for place, secret in plant.secrets.items() if place not in kept}
    assert left_behind(printed.encode(), secrets) == []
    for path in out.rglob("*"):
        assert left_behind(str(path.relative_to(out)).encode(), secrets) == []
        if path.is_file():
            assert left_behind(path.read_bytes(), secrets) == [], path.name
    assert len([p for p in (out / "released").rglob("*") if p.is_file()]) == 4


def test_a_file_that_appears_twice_is_released_once(tmp_path, profile):
    file = replace(ct())
    taken = take(tmp_path, file, file, profile=profile)
    assert len(taken.released) == 1
    assert taken.reasons == ("duplicate",)
    assert Path(taken.home.released).is_dir()
