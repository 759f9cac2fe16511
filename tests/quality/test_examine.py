"""Planted flaws are found, each as what it is; sound data have none."""

import json

import numpy as np
import pytest

from fedimg.cohort import anatomy
from fedimg.dicom.authoring import write_image
from fedimg.dicom.refusal import Quarantined
from fedimg.quality import Kind, NearConfig, Sample, Samples, Severity, examine, of_folder
from fedimg.quality.labels import coarse_weights, effective_numbers
from fedimg.quality.outliers import robust_scores
from fedimg.quality.page import page_of
from fedimg.quality.samples import Opened
from fedimg.values import DecodedImage, Quarantine

CLASSES = ("negative", "positive")


def sonogram(seed, size=64):
    """Generated chests of two patients are nearly alike; layers and speckle are not."""
    return anatomy.ultrasound(np.random.default_rng(seed), (size, size), 1, None, 1.0)[0].values * 1000 + 200


def image(pixels, spacing=1.0):
    return DecodedImage(pixels[None], np.eye(4), (1.0, spacing, spacing), "CR", "arbitrary")


def sample(name, pixels, spacing=1.0, photometric="MONOCHROME2", **known):
    values = np.asarray(pixels, np.float32)
    opened = Opened(image(values, spacing), photometric)
    return Sample(name, lambda: opened, **({"patient": name, "label": 0} | known))


def sound(count=40):
    return [sample(f"p{k}", sonogram(k), label=k % 2) for k in range(count)]


def found(*samples, **known):
    examined = examine(Samples("test", tuple(samples), CLASSES, **known))
    return examined, {finding.kind: finding for finding in examined.findings}


def test_sound_data_have_no_finding():
    examined, kinds = found(*sound())
    assert kinds == {}
    assert examined.counts() == {"inputs": 40, "usable": 40, "patients": 40}
    assert examined.worst() is None


def test_one_image_under_two_patients():
    _, kinds = found(*sound(), sample("other", sonogram(3), label=1))
    assert set(kinds) == {Kind.COPY_ACROSS_PATIENTS}
    finding = kinds[Kind.COPY_ACROSS_PATIENTS]
    assert (finding.severity, finding.count, finding.where) == (Severity.SERIOUS, 1, ((3, 40),))


def test_nearly_one_image_under_two_patients():
    brighter = np.sqrt(sonogram(3) + 1)
    _, kinds = found(*sound(), sample("other", brighter, label=1))
    assert kinds[Kind.NEAR_COPY_ACROSS_PATIENTS].where == ((3, 40),)
    assert Kind.COPY_ACROSS_PATIENTS not in kinds


def test_within_a_patient_it_is_a_warning():
    _, kinds = found(*sound(), sample("again", sonogram(3), patient="p3", label=1))
    assert set(kinds) == {Kind.COPY_WITHIN_PATIENT}
    assert kinds[Kind.COPY_WITHIN_PATIENT].severity is Severity.WARNING


def test_two_labels_of_one_image():
    _, kinds = found(*sound(), sample("again", sonogram(3), patient="p3", label=0))
    assert kinds[Kind.COPY_WITH_ANOTHER_LABEL].severity is Severity.SERIOUS


@pytest.mark.parametrize("part", ["public", "validation"])
def test_a_leak_between_parts(part):
    _, kinds = found(*sound(), sample("leak", sonogram(5), part=part, label=1))
    assert kinds[Kind.COPY_ACROSS_PARTS].where == ((5, 40),)
    assert Kind.PATIENT_IN_TWO_PARTS not in kinds
    _, kinds = found(*sound(), sample("leak", sonogram(99), patient="p5", part=part, label=1))
    assert kinds[Kind.PATIENT_IN_TWO_PARTS].where == ((5, 40),)


def test_a_patient_and_an_image_at_two_sites():
    north = [sample(f"p{k}", sonogram(k), site="north", label=k % 2) for k in range(30)]
    south = [sample("p100", sonogram(100), site="south"), sample("p7", sonogram(101), site="south")]
    _, kinds = found(*north, *south, sample("p102", sonogram(8), site="south"))
    assert kinds[Kind.PATIENT_AT_TWO_SITES].where == ((7, 31),)
    assert kinds[Kind.COPY_ACROSS_SITES].where == ((8, 32),)
    assert kinds[Kind.COPY_ACROSS_PATIENTS].where == ((8, 32),)


def test_a_copy_without_patient_is_told_apart():
    _, kinds = found(*sound(), sample("other", sonogram(3), patient=None, label=1))
    assert Kind.COPY_ACROSS_PATIENTS not in kinds
    assert kinds[Kind.COPY_WITHOUT_PATIENT].count == 1
    assert kinds[Kind.NO_PATIENT].where == ((40,),)


def test_bad_inputs_are_findings_with_their_reason():
    def refuse():
        raise Quarantined(Quarantine.UNREADABLE, "cut short")

    def crash():
        raise RuntimeError("P1")

    blank = sample("blank", np.zeros((64, 64)))
    clipped = sample("clipped", np.minimum(sonogram(1), np.percentile(sonogram(1), 40)))
    bad = [
        Sample("a", refuse, patient="a", label=0),
        Sample("b", crash, patient="b", label=0),
        blank,
        clipped,
    ]
    examined, _ = found(*sound(), *bad)
    reasons = {f.text.rsplit(" ", 1)[1]: f.count for f in examined.findings if f.kind is Kind.CANNOT_BE_USED}
    assert reasons == {"unreadable": 1, "unsafe_structure": 1, "pixels_blank": 1, "pixels_clipped": 1}
    assert "P1" not in json.dumps(examined.as_json())


def test_two_blank_images_are_no_copies():
    _, kinds = found(*sound(), sample("x", np.zeros((64, 64))), sample("y", np.zeros((64, 64))))
    assert set(kinds) == {Kind.CANNOT_BE_USED}


def test_outliers_of_size_spacing_brightness_and_contrast():
    odd = [
        sample("large", sonogram(200, 256), label=1),
        sample("wide", sonogram(201), spacing=25.4, label=0),
        sample("bright", sonogram(202) + 5000, label=1),
        sample("harsh", sonogram(203) * 300, label=0),
    ]
    _, kinds = found(*sound(), *odd)
    assert kinds[Kind.SIZE_OUTLIER].where == ((40,),)
    assert kinds[Kind.SPACING_OUTLIER].where == ((41,),)
    assert (42,) in kinds[Kind.BRIGHTNESS_OUTLIER].where
    assert kinds[Kind.CONTRAST_OUTLIER].where == ((43,),)


def test_mixed_photometric_interpretations():
    _, kinds = found(*sound(), sample("turned", sonogram(300), photometric="MONOCHROME1", label=1))
    assert kinds[Kind.MIXED_PHOTOMETRIC].where == ((40,),)
    assert kinds[Kind.MIXED_PHOTOMETRIC].severity is Severity.NOTE


def test_labels_masks_and_many_images():
    rare = [sample(f"p{k}", sonogram(k), label=int(k == 0), has_mask=k == 0) for k in range(40)]
    extra = [sample(f"x{k}", sonogram(400 + k), label=1, has_mask=False) for k in range(2)]
    crowd = [sample(f"c{k}", sonogram(500 + k), patient="crowd", label=0) for k in range(25)]
    examined, kinds = found(*rare, *extra, *crowd, sample("none", sonogram(600), label=None))
    assert kinds[Kind.MISSING_MASK].where == ((40,), (41,))
    assert kinds[Kind.UNLABELLED].where == ((67,),)
    assert kinds[Kind.PATIENT_WITH_MANY_IMAGES].count == 1
    assert kinds[Kind.CLASS_IMBALANCE].severity is Severity.WARNING
    assert dict(examined.classes.counts) == {"negative": 64, "positive": 3}
    assert examined.classes.weights == (1, 10)


def test_effective_numbers_are_the_published_ones():
    """Cui et al. 2019, proposition: (1 − βⁿ)/(1 − β); with β = (N − 1)/N it is N for n → ∞, 1 for n = 1."""
    few, many = effective_numbers([1, 99])
    assert few == pytest.approx(1)
    beta = 0.99
    assert many == pytest.approx(sum(beta**k for k in range(99)))
    assert effective_numbers([]) == []


def test_weights_are_coarse():
    assert coarse_weights([100, 100]) is None
    assert coarse_weights([100, 90, 40]) == (1, 1, 3)
    assert coarse_weights([1000, 1]) == (1, 10)
    assert coarse_weights([5, 0]) is None


def test_robust_scores_against_their_formula():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    assert robust_scores(values, 0.0) == pytest.approx(0.6745 * (values - 3) / 1.0)
    assert robust_scores(np.array([5.0, 5.0, 5.0, 6.0]), 0.5)[-1] == pytest.approx(2)


def test_a_folder_knows_its_patients_by_their_headers(tmp_path):
    pixels = sonogram(1).astype(np.uint16)
    for name, patient in (("a", "P1"), ("b", "P2"), ("c", "P1")):
        values = pixels if name != "c" else sonogram(2).astype(np.uint16)
        write_image(tmp_path / f"{name}.dcm", modality="CR", pixels=values, attributes={"PatientID": patient})
    (tmp_path / "link.dcm").symlink_to(tmp_path / "a.dcm")
    examined = examine(of_folder(tmp_path), near=NearConfig())
    kinds = {finding.kind: finding for finding in examined.findings}
    assert kinds[Kind.COPY_ACROSS_PATIENTS].count == 1
    assert [f.text for f in examined.findings if f.kind is Kind.CANNOT_BE_USED] == [
        "inputs that cannot be used: link"
    ]
    assert examined.counts()["patients"] == 2
    assert Kind.UNLABELLED not in kinds


def test_the_page_is_self_contained_and_says_for_whom_it_is():
    from xml.etree import ElementTree as ET

    hostile = "<script>alert(1)</script>"
    examined, _ = found(*sound(), sample(hostile, sonogram(3), label=1))
    page = page_of(examined, "now")
    tree = ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))
    assert "This report never leaves the site" in page
    assert "script" not in {element.tag for element in tree.iter()}
    assert hostile not in page
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    for element in tree.iter():
        for name in ("src", "href", "action"):
            assert element.get(name, "data:").startswith("data:")
    assert len([e for e in tree.iter() if e.tag == "img"]) == 2
    assert page == page_of(examined, "now")
