"""The whole page: well-formed, closed to the outside, escaped, and honest about its mode."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import DataError
from fedimg.report import (
    ComparisonRow,
    ImagePair,
    PrivacySummary,
    ReportData,
    RoundPoint,
    SitePrivacy,
    render,
)
from fedimg.report.blocks import bytes_text, epsilon_text, scientific
from fedimg.report.data import IntakeRow
from fedimg.report.promises import not_promised, promised

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\x00\u202e]]>"
MODES = ("per_site", "distributed", "client_level", "none")


def parsed(page):
    assert page.startswith("<!DOCTYPE html>\n")
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def words(page):
    """All visible text in lower case, spaces evened, the style sheet left out."""
    tree = parsed(page)
    tree.find("head").clear()
    return re.sub(r"\s+", " ", " ".join(tree.itertext())).lower()


def privacy(mode, **changes):
    site = SitePrivacy("alder", 7.9962, 2e-5, 1.1, 0.2, 200, 0.1, "PLD", "PRV", 7.99)
    made = PrivacySummary(
        mode, () if mode == "none" else (site,), colluders=1 if mode == "distributed" else 0
    )
    return dataclasses.replace(made, **changes)


class Strict(HTMLParser):
    """Fails on anything that a page of ours never holds."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.ids = [], []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "iframe", "object", "embed", "form", "base", "audio", "video", "use"}, (
            tag
        )
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in {"style", "href", "srcset", "action"} or (tag, value) == ("link", "data:,")
            if name == "src":
                assert value.startswith("data:image/png;base64,")
            if name == "id":
                self.ids.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("insecure", [False, True])
def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(complete, mode, insecure):
    page = render(complete(privacy=privacy(mode, insecure=insecure)))
    parsed(page)
    checker = Strict()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids) > 8
    assert not re.search(r"https?:|//|@import|url\(", re.sub(r"base64,[A-Za-z0-9+/=]+", "", page))


def test_the_policy_allows_the_pages_own_style_sheet_and_pictures_only(complete):
    tree = parsed(render(complete()))
    (policy,) = [
        m.get("content") for m in tree.iter("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    (style,) = tree.iter("style")
    digest = base64.b64encode(hashlib.sha256(style.text.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def test_equal_data_give_equal_bytes(complete):
    assert render(complete()) == render(complete())


def hostile_report(complete, text):
    data = complete()
    rename = {name: text + name for name in ("alder", "birch", "cedar", "dogwood")}
    return dataclasses.replace(
        data,
        title=text,
        run_id=text,
        created=text,
        classes=(text, text),
        config=((text, text),),
        data_card=text,
        privacy=dataclasses.replace(
            data.privacy,
            secagg=text,
            sites=tuple(
                dataclasses.replace(s, site=rename[s.site], accountant=text, second_accountant=text)
                for s in data.privacy.sites
            ),
        ),
        rounds=tuple(
            dataclasses.replace(p, epsilon={rename[s]: e for s, e in p.epsilon.items()}) for p in data.rounds
        ),
        comparison=(
            *(dataclasses.replace(r, name=text + r.name, note=text) for r in data.comparison),
            ComparisonRow("site", text, True, None, text),
        ),
        intake=(IntakeRow(text, 3, 2, {text: 1}),),
        compression=((text, 2.0),),
        images=tuple(dataclasses.replace(i, caption=text) for i in data.images),
        evaluation=dataclasses.replace(data.evaluation, omitted={text: text}),
    )


def test_hostile_strings_stay_text_everywhere(complete):
    page = render(hostile_report(complete, HOSTILE))
    parsed(page)
    checker = Strict()
    checker.feed(page)
    checker.close()
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x00" not in page
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\u202e", "\ufffd")
    assert "".join(parsed(page).find(".//h1").itertext()) == shown


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_string_gives_a_well_formed_page(text):
    data = ReportData(
        text, text, privacy("per_site"), simulated=False, config=((text, text),), data_card=text
    )
    parsed(render(data))


@pytest.mark.parametrize("mode", MODES)
def test_the_insecure_mode_is_never_called_private(complete, mode):
    """Whatever the mode: no promise, no claim, every ε void, and it is said first."""
    data = complete(privacy=privacy(mode, insecure=True), config=(("seed", "0"),))
    page, said = render(data), words(render(data))
    for claim in ("private", "differential privacy by", "with differential privacy", "is protected against"):
        assert claim not in said, claim
    assert "ε of one" not in said
    assert 'class="promise yes"' not in page
    assert promised(data.privacy) == ()
    assert "nothing. this run gives no guarantee to any patient." in said
    assert said.index("insecure test mode: no patient is protected") < said.index("auroc")
    if mode != "none":
        assert "nominal ε, void" in said
        assert re.search(r'<dd class="void">8\.00</dd>', page)


def test_no_privacy_is_said_aloud(complete):
    said = words(render(complete(privacy=privacy("none"))))
    assert said.index("no differential privacy") < said.index("auroc")
    assert "∞" in said
    assert promised(privacy("none")) == ()


def test_an_infinite_epsilon_promises_nothing():
    site = SitePrivacy("alder", float("inf"), 1e-5, 0.0, 0.2, 10, 0.1, "PLD")
    summary = PrivacySummary("per_site", (site,))
    assert promised(summary) == ()
    page = render(ReportData("t", "r", summary, simulated=False))
    assert "no finite guarantee" in words(page)
    assert 'class="promise yes"' not in page


@pytest.mark.parametrize(
    ("mode", "secagg", "sentence"),
    [
        (
            "per_site",
            "none",
            "each had been noised by its site before it left, and that noise is what the promise rests on.",
        ),
        ("none", "none", "nothing hid one site's contribution from the server."),
        ("per_site", "bonawitz2017", None),
    ],
)
def test_missing_secure_aggregation_is_said_aloud(complete, mode, secagg, sentence):
    said = words(render(complete(privacy=privacy(mode, secagg=secagg))))
    assert ("no secure aggregation" in said) == (sentence is not None)
    if sentence:
        assert said.index("no secure aggregation") < said.index("auroc")
        assert sentence in said


@pytest.mark.parametrize(
    ("may_lie", "sentence"), [(True, "a server that lies, and"), (False, "follows the protocol, and")]
)
def test_secure_sums_say_what_was_seen_and_against_whom(complete, may_lie, sentence):
    said = words(
        render(
            complete(privacy=privacy("per_site", secagg="pairwise", quorum=(8, 6, 1), server_may_lie=may_lie))
        )
    )
    assert "of 8 sites at least 6 were in each" in said
    assert sentence in said
    assert said.index("of 8 sites") < said.index("auroc")


def test_a_simulation_says_so_first_and_a_deployment_does_not(complete):
    said = words(render(complete()))
    assert said.index("simulated federation") < said.index("auroc")
    assert "simulated" not in words(render(complete(simulated=False)))


def test_the_promise_names_whom_it_protects_against_whom():
    assert promised(privacy("per_site"))[0].startswith(
        "Each patient is protected against the server, the other"
    )
    assert "up to 1 other colluding sites" in promised(privacy("distributed"))[0]
    assert promised(privacy("client_level"))[0].startswith("Each client, a whole site, is protected")
    assert any(
        "same patients is not counted" in s for s in not_promised(privacy("per_site", scratch_ledger=True))
    )


def test_epsilon_of_the_federation_is_the_largest_or_the_m_largest_added():
    sites = tuple(
        SitePrivacy(s, e, 1e-5, 1.0, 0.1, 10, 0.1, "PLD") for s, e in (("a", 2.0), ("b", 5.0), ("c", 3.0))
    )
    assert PrivacySummary("per_site", sites).federation_epsilon == 5.0
    two = PrivacySummary("per_site", sites, max_sites_per_patient=2)
    assert (two.federation_epsilon, two.federation_delta) == (8.0, 2e-5)
    page = render(ReportData("t", "r", two, simulated=False))
    assert "the 2 largest added up, δ = 2e-5, add or remove one patient" in words(page)


def test_accountants_that_disagree_are_flagged():
    fine = SitePrivacy("a", 8.0, 1e-5, 1.0, 0.1, 10, 0.1, "PLD", "PRV", 8.019)
    off = dataclasses.replace(fine, second_epsilon=8.5)
    assert "differs by" not in words(
        render(ReportData("t", "r", PrivacySummary("per_site", (fine,)), simulated=False))
    )
    assert "differs by 0.50" in words(
        render(ReportData("t", "r", PrivacySummary("per_site", (off,)), simulated=False))
    )


@given(st.floats(1e-6, 1e6))
def test_a_printed_epsilon_is_never_below_the_charged_one(value):
    written = float(epsilon_text(value))
    assert written >= value * (1 - 1e-8)
    assert written <= value * 1.011


def test_numbers_as_text():
    assert [epsilon_text(v) for v in (8.0, 7.9962, 7.991, 0.5, 12.34, 1234.0)] == [
        "8.00",
        "8.00",
        "8.00",
        "0.500",
        "12.4",
        "1240",
    ]
    assert epsilon_text(float("inf")) == "∞"
    assert [scientific(v) for v in (2e-5, 1.25e-4, 2.441e-5, 9.999e-6, 0.0)] == [
        "2e-5",
        "1.25e-4",
        "2.45e-5",
        "1e-5",
        "0",
    ]
    assert [bytes_text(v) for v in (12, 2048, 6_400_000)] == ["12 B", "2.0 KiB", "6.1 MiB"]


def test_the_numbers_of_the_data_stand_in_the_tables(complete):
    data = complete()
    tree = parsed(render(data))
    rows = {
        "".join(r[0].itertext()): ["".join(c.itertext()) for c in list(r)[1:]]
        for r in tree.iter("tr")
        if r[0].get("scope") == "row"
    }
    public, sites = data.evaluation.metrics["auroc"], data.site_evaluation.metrics["auroc"]
    assert rows["AUROC"] == [
        f"{public.value:.3f} [{public.low:.3f}, {public.high:.3f}]",
        f"{sites.value:.3f} [{sites.low:.3f}, {sites.high:.3f}]",
    ]
    assert rows["federation"] == ["0.940 [0.920, 0.958]", "0.890 [0.870, 0.908]"]
    assert rows["mean of the sites alone"] == ["0.830", "0.750"]
    assert rows["pixels_blank"] == ["its frame is blank", "8"]
    assert rows["released files (JPEG-LS)"] == ["2.06 : 1"]
    assert rows["privacy.epsilon"] == ["8.0"]
    # Both the privacy and the intake table have a row "alder"; the later one is the intake's.
    assert rows["alder"] == ["160", "155", "5", "6.1 MiB", "3.0 MiB"]
    said = words(render(data))
    assert "alder 8.00 2e-5 1.137 0.2 200 0.1 pld (dp-accounting 0.6) 8.00 (prv)" in said
    assert "calibration error (ece), sites (from released histograms): the absolute differences" in said


def test_images_are_shown_for_generated_data_only(complete):
    data = complete()
    shown = [i.get("src") for i in parsed(render(data)).iter("img")]
    assert [base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in shown] == [
        png for pair in data.images for png in (pair.before_png, pair.after_png)
    ]
    with pytest.raises(
        DataError, match="expected images in a report of generated data only; found images of data"
    ):
        dataclasses.replace(data, data_generated=False)
    with pytest.raises(DataError, match="expected PNG files as images; found other bytes"):
        dataclasses.replace(data, images=(ImagePair("x", b"<svg/>", b"<svg/>"),))


def test_an_empty_run_still_makes_a_page():
    page = render(ReportData("Empty", "r0", PrivacySummary("none"), simulated=True))
    assert [h.text for h in parsed(page).iter("h2")] == ["What is promised, and what is not"]
    one = render(
        ReportData(
            "One", "r1", privacy("per_site"), simulated=True, rounds=(RoundPoint(1, 0.7, 1.0, {"a": 1.0}),)
        )
    )
    assert "Training" in [h.text for h in parsed(one).iter("h2")]


def test_long_tables_are_folded_away():
    sites = tuple(SitePrivacy(f"s{k}", 1.0, 1e-5, 1.0, 0.1, 10, 0.1, "PLD") for k in range(1000))
    page = render(ReportData("t", "r", PrivacySummary("per_site", sites), simulated=True))
    assert "all 1,000 rows" in words(page)


def test_the_factor_is_set_as_a_power(complete):
    page = render(complete())
    assert "factor e<sup>ε</sup>, but" in page
    assert "e^ε" not in page


def test_every_epsilon_on_the_page_is_told_apart(complete):
    assert "it is not the promise" in words(render(complete()))


def test_a_mean_is_explained_only_where_it_is_drawn(complete):
    alone = tuple(row for row in complete().comparison if row.arrangement != "site")
    assert "dashed" in words(render(complete()))
    assert "dashed" not in words(render(dataclasses.replace(complete(), comparison=alone)))


def test_a_missing_public_set_is_explained(complete):
    bare = dataclasses.replace(complete(), evaluation=None, test_absent="the source has no public examples")
    for data in (bare, dataclasses.replace(bare, site_evaluation=None)):
        assert "no measurement on a public test set: the source has no public examples." in words(
            render(data)
        )


def test_counts_that_stay_at_a_site_are_pointed_to(complete):
    kept = (("alder", 250, "fedimg site log <this run>/sites/alder"),)
    text = words(render(dataclasses.replace(complete(), intake=(), compression=(), kept_intake=kept)))
    assert "fedimg site log <this run>/sites/alder" in text
    assert "250" in text
    assert "the counts stay in its home" in text
