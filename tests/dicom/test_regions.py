"""L2: the table of device boxes, a site's own beside it, and ultrasound regions cut to the image."""

from __future__ import annotations

import json

import pytest

from fedimg.dicom import regions
from fedimg.dicom.encoder import Element
from fedimg.errors import ConfigError

ROW = {
    "modality": "CT",
    "manufacturer": "ACME",
    "model": None,
    "rows": 64,
    "columns": 64,
    "mask": [[0, 0, 63, 7]],
    "source": "seen on the device",
}


def test_every_shipped_row_says_where_it_is_known_from():
    table = regions.load_boxes()
    assert table.edition
    assert len(table.boxes) >= 4
    assert all(boxes.source and boxes.mask for boxes in table.boxes)


def test_a_row_matches_its_device_and_size_only():
    table = regions.load_boxes()
    origin = ("us", " philips medical systems ", "EPIQ 5G", 768, 1024)
    assert table.matching(*origin) == [(0, 0, 1023, 37)]
    assert table.matching(*origin[:3], 600, 800) == []
    assert table.matching("US", "ACME", "EPIQ 5G", 768, 1024) == []
    assert table.matching("US", "PHILIPS MEDICAL SYSTEMS", "OTHER", 768, 1024) == []


def test_a_site_adds_rows_and_the_digest_tells(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps({"edition": "of this site", "boxes": [ROW]}))
    table = regions.load_boxes(path)
    assert table.matching("CT", "Acme", "any", 64, 64) == [(0, 0, 63, 7)]
    assert table.edition.endswith("+ of this site")
    assert table.digest != regions.load_boxes().digest


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        json.dumps({"boxes": []}),
        json.dumps({"edition": "x", "boxes": [ROW | {"mask": [[0, 0, 64, 7]]}]}),
        json.dumps({"edition": "x", "boxes": [ROW | {"patient": "x"}]}),
        json.dumps({"edition": "x", "boxes": [ROW | {"mask": [[5, 0, 4, 7]]}]}),
    ],
)
def test_a_malformed_table_is_refused(tmp_path, text):
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="a table of device boxes"):
        regions.load_boxes(path)
    with pytest.raises(ConfigError, match="does not open"):
        regions.load_boxes(tmp_path / "absent.json")


def test_regions_are_cut_to_the_image_and_bad_ones_left_out():
    def region(*corners: int, width: int = 4) -> list[Element]:
        tags = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)
        return [
            Element(tag, "UL", c.to_bytes(width, "little")) for tag, c in zip(tags, corners, strict=False)
        ]

    items = [region(2, 3, 500, 20), region(5, 5, 5, 9), region(1, 1, 4), region(1, 1, 4, 4, width=2)]
    kept = {0x00186011: Element(0x00186011, "SQ", items)}
    assert regions.ultrasound(kept, 60, 80) == [(2, 3, 79, 20)]
    assert regions.ultrasound({}, 60, 80) == []
