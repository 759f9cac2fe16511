"""The site's own report: counts that are the receipts', pictures that are the files', and nobody else's eyes."""

from __future__ import annotations

import base64
import io
import re
import stat
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from fedimg import site_report
from fedimg.dicom import pixels
from fedimg.dicom.authoring import write_image
from fedimg.dicom.lettering import draw
from fedimg.errors import ReceiptError
from fedimg.home import SiteHome
from fedimg.intake import FolderInputs, run_intake
from fedimg.intake.comparing import compare
from fedimg.intake.tally import tally
from fedimg.values import Quarantine, SourceItem


def picture(seed, side=128):
    wave = 1000 + 300 * np.sin(np.add.outer(np.arange(side), np.arange(side)) / 5)
    return (wave + np.random.default_rng(seed).normal(0, 5, wave.shape)).astype(np.uint16)


def page_of(file):
    return ET.fromstring(file.read_text().removeprefix("<!DOCTYPE html>\n"))


def words(page):
    page.find("head").clear()
    return re.sub(r"\s+", " ", " ".join(page.itertext()))


def images(page):
    shown = {}
    for image in page.iter("img"):
        data = base64.b64decode(image.get("src").partition(",")[2])
        shown[image.get("alt")] = np.asarray(Image.open(io.BytesIO(data)))
    return shown


@pytest.fixture
def lettered(source):
    """A slice of 128² with a name in a corner of its pixels."""
    path = source / "lettered.dcm"
    values = picture(77)
    draw(values, "QUIRRELL ANNABETH", 4, 4, 4000)
    write_image(
        path,
        modality="CT",
        pixels=values,
        attributes={"PatientID": "MRN777", "PatientName": "QUIRRELL^ANNABETH"},
    )
    return path


@pytest.fixture
def filled(source, slice_of, lettered, out, config):
    for seed in range(3):
        slice_of(seed)
    (source / "letter.txt").write_text("Dear colleague, about Annabeth Quirrell")
    (source / "notes.txt").write_text("Annabeth Quirrell")
    return run_intake(FolderInputs(source), out, config)


def test_the_report_counts_what_the_receipts_say(source, filled, out, config, tmp_path):
    file = tmp_path / "page.html"
    site_report.write(file, out, config, FolderInputs(source))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    page = page_of(file)
    tiles = [element.text for element in page.iter("dd") if element.get("class") is None]
    assert tiles == ["6", "4", "2", "1"]
    said = words(page)
    positions = filled.positions[Quarantine.NOT_AN_IMAGE]
    assert f"not_an_image holds no image 2 {positions[0]}, {positions[1]} not an image:" in said
    assert "This report never leaves the site" in said
    for secret in ("QUIRRELL", "Quirrell", "MRN777", "MRN5550123", "letter.txt", str(source)):
        assert secret not in said


def test_attributes_are_summed_over_all_released_files(filled, out):
    found = tally(out)
    assert (found.inputs, found.released, found.masked) == (6, 4, 1)
    assert found.bytes_released == sum(path.stat().st_size for path in out.released.rglob("*.dcm"))
    assert found.layers == dict.fromkeys(("L0", "L1", "L2", "L3", "L4", "L5"), 4)
    assert found.modalities == {"CT": 4}
    assert found.actions["U"] >= 4 * 3  # study, series and instance of each
    assert (found.profile, found.project) == ("train", "trial")


def test_the_most_filled_image_and_the_first_untouched_one_are_shown_as_they_were_and_are(
    source, filled, lettered, out, config
):
    shown = {
        bool(c.example.masked): c for c in compare(out, FolderInputs(source), config, tally(out).examples)
    }
    assert set(shown) == {True, False}
    before, after = shown[True].before_HW, shown[True].after_HW
    np.testing.assert_array_equal(before, pixels.decode(lettered).pixels_DHW[0])
    changed = np.argwhere(before != after)
    assert len(changed) and changed[:, 0].max() < 40
    np.testing.assert_array_equal(shown[False].before_HW, shown[False].after_HW)


def test_the_page_holds_both_pictures_in_one_window(source, filled, out, config, tmp_path):
    file = tmp_path / "page.html"
    site_report.write(file, out, config, FolderInputs(source))
    shown = images(page_of(file))
    assert len(shown) == 4
    before, after = (
        next(v for k, v in shown.items() if "filled, " + w in k and "area" in k) for w in ("before", "after")
    )
    assert before.shape == after.shape
    assert (before[-20:] == after[-20:]).all()
    assert (before[:40] != after[:40]).any()


def test_another_file_is_never_shown_in_an_originals_place(source, filled, lettered, out, config, tmp_path):
    write_image(lettered, modality="CT", pixels=picture(3), attributes={"PatientID": "MRN1"})
    shown = {
        bool(c.example.masked): c for c in compare(out, FolderInputs(source), config, tally(out).examples)
    }
    assert shown[True].before_HW is None
    assert shown[False].before_HW is not None
    file = tmp_path / "page.html"
    site_report.write(file, out, config, FolderInputs(source))
    assert "the original is not where the intake found it" in words(page_of(file))


def test_without_inputs_no_original_is_shown(filled, out, config, tmp_path):
    file = tmp_path / "page.html"
    site_report.write(file, out, config)
    assert all("before" not in alt for alt in images(page_of(file)))


def test_an_input_counts_once_however_often_it_was_decided(source, filled, out, config):
    released = next(out.released.rglob("*.dcm"))
    released.unlink()
    run_intake(FolderInputs(source), out, config)
    assert tally(out).inputs == 6


def test_changed_receipts_make_no_report(filled, out, config, tmp_path):
    out.receipts.write_bytes(out.receipts.read_bytes().replace(b'"modality":"CT"', b'"modality":"MR"', 1))
    with pytest.raises(ReceiptError):
        site_report.write(tmp_path / "page.html", out, config)
    assert not (tmp_path / "page.html").exists()


def test_pictures_and_listed_inputs_are_found_too(tmp_path, config):
    """A labelled source lists its files, the same one twice perhaps."""
    home = SiteHome.create(tmp_path / "home", simulated=True)
    file = tmp_path / "film.png"
    shades = np.linspace(0, 255, 200 * 200).reshape(200, 200).astype(np.uint8)
    Image.fromarray(shades).save(file)
    items = [SourceItem(file, "image", "P1", 1), SourceItem(file, "image", "P1", 1)]
    result = run_intake(items, home, config)
    assert result.quarantined == {Quarantine.DUPLICATE: 1}
    (shown,) = compare(home, items, config, tally(home).examples)
    np.testing.assert_array_equal(shown.before_HW, shades.astype(np.float32))
    site_report.write(
        home.root / site_report.NAME, home, config, items, name="alder", bytes_in=result.bytes_taken
    )
    said = words(page_of(home.root / site_report.NAME))
    assert "De-identification at alder" in said
    assert f"lossless compression {result.bytes_taken / result.bytes_released:.2f} : 1" in said
    assert "simulated" in said
