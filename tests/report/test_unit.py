"""Where the source knows of no patients, no sentence promises anything to one."""

import re
from dataclasses import replace

from fedimg.report import render
from fedimg.report.data import PrivacySummary, SitePrivacy
from fedimg.report.exposure import heading
from fedimg.report.promises import not_promised, notices, promised

SITE = SitePrivacy("a", 1.0, 1e-5, 1.0, 0.1, 10, 1.0, "dp-accounting")


def test_an_image_unit_is_never_called_a_patient():
    summary = PrivacySummary("per_site", (SITE,), unit="image")
    text = " ".join(promised(summary))
    for other in (summary, replace(summary, sites=(), mode="none")):
        left = " ".join(not_promised(other))
        assert not re.search("No patient|any one patient|same patients|patient's", left)
    assert "patient" not in text
    assert "Adding or removing one image changes" in text
    assert "The unit is the image" in [notice.title for notice in notices(summary, simulated=True)]


def test_a_patient_unit_stays_one():
    summary = PrivacySummary("per_site", (SITE,))
    assert "one patient, with all of their images and studies" in " ".join(promised(summary))
    assert "The unit is the image" not in [notice.title for notice in notices(summary, simulated=True)]


def test_the_tables_of_images_count_images(complete):
    page = render(replace(complete(), privacy=replace(complete().privacy, unit="image")))
    assert "images (a noisy count)" in page
    assert "from resampling images" in page
    assert "per image, as declared" in page
    assert not re.search(r"patients \(a noisy count\)|resampling patients|per patient, as declared", page)


def test_what_is_counted_on_which_side_is_said(complete):
    page = render(complete())
    assert "On the public set every example counts, at the sites every patient counts once." in page
    assert "public test set: counts of examples." in page
    assert "counts of patients (a noisy count)." in page


def test_the_heading_of_what_is_exposed_is_english():
    assert [heading(unit) for unit in ("image", "patient", "site")] == [
        "What an image is exposed to",
        "What a patient is exposed to",
        "What a site is exposed to",
    ]
