"""The card says what the record says, ε with its relation, and no ε where there is none."""

import html
import json
import re
import xml.etree.ElementTree as ET

import pytest

from fedimg import record
from fedimg.cli import main
from fedimg.errors import DataError
from fedimg.privacy.federation import federation_exposures
from fedimg.privacy.tradeoff import exposure
from fedimg.record.card import card_of
from fedimg.report import render_card, render_card_markdown
from fedimg.report.exposure import percent
from tests.record.conftest import facts, run_facts


@pytest.fixture
def folder(finished, tmp_path):
    """The run's folder as a run leaves it."""
    (tmp_path / "ledgers").mkdir()
    (tmp_path / "record.json").write_bytes(finished.data)
    (tmp_path / "model.safetensors").write_bytes(finished.model.read_bytes())
    for name, extract in finished.ledgers.items():
        (tmp_path / "ledgers" / f"{name}.json").write_bytes(extract)
    return tmp_path


def words(page):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.split("</style>")[-1])).split())


def test_a_card_shows_the_claim_its_relation_the_exposure_and_the_audits(finished):
    card = card_of(record.read(finished.data))
    page, text = render_card(card), render_card_markdown(card)
    ET.fromstring(page.removeprefix("<!DOCTYPE html>"))
    claim = finished.document["record"]["claim"]
    plans = [record.plan_from_json(s["part"]["plan"]) for s in finished.document["record"]["sites"]]
    worst = exposure(federation_exposures(plans))
    for shown in (words(page), text):
        assert f"{claim['epsilon']:.2f}"[:3] in shown
        assert "one patient; neighbouring" in shown or "add or remove one patient" in shown
        assert percent(worst.true_positives) in shown
        assert percent(worst.reconstruction) in shown
        assert "a patient at 2 sites" in shown
        assert "battery" in shown
        assert "Every run is charged" in shown
        assert finished.document["record"]["model"]["weights"] in shown
        assert "Not promised" in shown
    assert re.findall(r'<path class="line s0"', page)  # the curve is drawn


@pytest.mark.parametrize("changed", [{"insecure": True}, {"mode": "none"}])
def test_without_a_promise_no_card_states_an_epsilon(finished, site_at, changed):
    home, plan = site_at(f"site{len(changed.get('mode', ''))}")
    part = record.signed_part(
        home, facts("cedar", home, None if "mode" in changed else plan, insecure="insecure" in changed)
    )
    data = record.signed_record(run_facts(**changed), [part], finished.coordinator)
    card = card_of(record.read(data))
    text = render_card_markdown(card)
    assert "ε =" not in text
    assert "exposed" not in text
    assert "Nothing. This model gives no guarantee" in text
    shown = words(render_card(card))
    assert "What a patient is exposed to" not in shown
    assert "Insecure test mode" in shown if "insecure" in changed else "No differential privacy" in shown


def test_markdown_takes_nothing_from_the_record_for_markup(finished):
    document = finished.document
    document["record"]["model"]["name"] = "[x](http://x)|<b>"
    text = render_card_markdown(card_of(record.read(finished.sign(document))))
    assert r"\[x\](http://x)\|\<b\>" in text


START = {
    "file": "ef" * 32,
    "data": "declared_public",
    "method": "inpainting",
    "source": "chests|<b>of</b> [all](http://x)",
    "source_digest": "ab" * 32,
    "fedimg": "0.1.0",
    "architecture": "cd" * 32,
    "seed": 3,
}
NOTHING_SAID = dict.fromkeys(START) | {"file": "ef" * 32, "data": "unknown"}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (START, "pre-trained on images that its maker has declared public"),
        (NOTHING_SAID, "may have been trained on patients"),
    ],
)
def test_a_card_says_which_file_the_weights_began_with_and_shows_none_of_its_markup(finished, start, said):
    document = finished.document
    document["record"]["model"]["start"] = start
    card = card_of(record.read(finished.sign(document)))
    page, text = render_card(card), render_card_markdown(card)
    ET.fromstring(page.removeprefix("<!DOCTYPE html>"))
    for shown in (words(page), text):
        assert said in shown
        assert "ef" * 32 in shown
        assert "nobody whose images that file may have been made of" in shown
    assert "<b>of" not in page
    if start is START:
        assert r"chests\|\<b\>of\</b\> \[all\](http://x)" in text


def test_without_a_file_a_card_says_nothing_of_one(finished):
    assert "Where the weights began" not in render_card(card_of(record.read(finished.data)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"file": None},
        {"file": "/home/x/weights.safetensors"},
        {"data": "patients"},
        {"data": "unknown"},
        {"method": "magic"},
        {"method": None},
        {"source": "x" * 201},
        {"source": "two\nlines"},
        {"seed": -1},
        {"seed": True},
        {"fedimg": 3},
        {"path": "x"},
    ],
)
def test_a_start_that_is_not_of_this_form_is_refused(finished, wrong):
    document = finished.document
    document["record"]["model"]["start"] = START | wrong
    with pytest.raises(DataError, match="release record"):
        record.read(finished.sign(document))


@pytest.mark.parametrize(
    ("rate", "shown"), [(0.0012, "0.12 %"), (0.0827, "8.3 %"), (0.252, "26 %"), (1, "100 %")]
)
def test_exposure_is_rounded_up(rate, shown):
    assert percent(rate) == shown


def test_the_verbs_over_a_run_folder(finished, folder, tmp_path, capsys):
    key = finished.coordinator.public_bytes.hex()
    assert main(["verify", str(folder), "--key", key, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["verdict"], said["record"]["run"]) == ("pass", "20260131-1")
    assert main(["verify", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "neighbours differ by adding or removing one patient" in told
    for name in ("card.html", "card.md"):
        assert main(["privacy-card", str(folder), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "card.html").read_text().startswith("<!DOCTYPE html>")
    capsys.readouterr()
    assert main(["privacy-card", str(folder / "record.json")]) == 0
    assert capsys.readouterr().out == (tmp_path / "card.md").read_text()
    opening = tmp_path / "opening.json"
    assert main(["site", "open", str(finished.homes["alder"].root), str(folder), "--out", str(opening)]) == 0
    assert opening.stat().st_mode & 0o777 == 0o600
    assert main(["verify", str(folder), "--opening", str(opening)]) == 0
    assert re.search(r"^ok +alder: opening of ledger", capsys.readouterr().out, re.MULTILINE)
    assert main(["site", "open", str(finished.homes["alder"].root), str(folder), "--out", str(opening)]) == 4


def test_a_record_that_fails_gets_no_card_and_exit_code_one(finished, folder, capsys):
    (folder / "ledgers" / "birch.json").unlink()
    assert main(["verify", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "FAILED  birch: ledger" in told
    assert "believe nothing in this record" in told
    assert main(["privacy-card", str(folder), "--out", str(folder / "card.html")]) == 4
    assert "one that fails birch: ledger" in capsys.readouterr().err
    assert not (folder / "card.html").exists()


@pytest.mark.parametrize("arguments", [["--key", "zz"], ["--key", "alder=00"]])
def test_a_key_that_is_none_is_a_usage_error(folder, arguments, capsys):
    assert main(["verify", str(folder), *arguments]) == 2
    assert "public key of 32 bytes" in capsys.readouterr().err


def test_a_folder_without_a_record_says_what_to_do(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 4
    assert "finish it with" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "none")]) == 4
