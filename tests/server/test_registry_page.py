"""The page of the registry of models: what it shows, to whom, what its buttons do, and how it looks in a real browser."""

import html
import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from server.model_facts import Guarantee
from server.model_registry import ModelRegistry, ModelState
from server.page import registry_page
from tests.server.conftest import FINISHED, NAMES
from tests.server.releasing import version
from tests.web.chromium import Chromium, beyond_this_machine
from tests.web.headers import strict

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\u202e"
WITHDRAWN_FOR = "Its threshold was learnt of images of one scanner."


def seen(page):
    """The text of a page, tags left out."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


@pytest.fixture
def stocked(made, facts_once):
    """By version: one of each state, and a model that promises nothing."""
    bare = replace(
        version(facts_once, "0.3.0", name="Large vessel occlusion"),
        point=None,
        threshold=None,
        guarantee=Guarantee("none", "patient", 1, None, None),
        sites=tuple(
            replace(one, epsilon=None, delta=None, allowed=None, signed=False) for one in facts_once.sites
        ),
        remarks=("the bundle carries no release record; it was compared with the run's own",),
    )
    known = {text: version(facts_once, text) for text in ("0.9.0", "1.0.0", "1.1.0", "2.0.0")}
    known = {"bare": bare, **known}
    with ModelRegistry(made.root) as registry:
        for facts in known.values():
            registry.add(facts, "Ada Lovelace")
        registry.release(known["0.9.0"].digest, "Ada Lovelace")
        registry.withdraw(known["0.9.0"].digest, "Grace Hopper", WITHDRAWN_FOR)
        registry.release(known["1.0.0"].digest, "Ada Lovelace", "better than 0.9.0 on the public set")
        registry.release(known["1.1.0"].digest, "Ada Lovelace")
    return known


def path(facts):
    return f"/models/{facts.digest}"


def state(made, facts):
    with ModelRegistry(made.root) as registry:
        return registry.model(facts.digest).state


def test_an_empty_registry_says_how_to_fill_it(inside):
    text = seen(inside.get("/models").text)
    assert "None is registered yet. fedimg server models add FOLDER BUNDLE --key KEY.pub adds one." in text
    assert 'href="/models"' in inside.get("/").text


def test_the_table_says_where_each_model_stands(stocked, inside):
    text = seen(inside.get("/models").text)
    for name, where in (
        ("nodule 2.0.0", "candidate"),
        ("nodule 1.1.0", "released"),
        ("nodule 1.0.0", "superseded"),
        ("nodule 0.9.0", "withdrawn"),
    ):
        assert re.search(rf"{name} [0-9a-f]{{16}} {where} Nodule ≥ 95% 95% confidence 4\.53", text)
    assert re.search(r"Large vessel occlusion 0\.3\.0 \w{16} candidate Nodule none promised none", text)
    assert "released 1 for sites to run" in text
    assert "candidate 2 waiting for a decision" in text


def test_a_models_page_has_its_promises_its_sites_and_its_history(stocked, inside, facts_once):
    page = inside.get(path(stocked["1.0.0"])).text
    text = seen(page)
    assert "sensitivity promised 95% or more, with 95% confidence" in text
    assert "learnt of 80 positives and 90 negatives" in text
    assert "sensitivity seen 0.970 [0.950, 0.990]" in text
    assert "nodule 1.0.0 superseded" in text
    assert "ε = 4.53 at δ = 1e-4 for each patient (per site), who may be at up to 2 sites." in text
    assert "version 1.1.0 was released" in text
    for one in facts_once.sites:
        assert re.search(rf"{one.site} {one.epsilon:.1f}\d* of {one.allowed:g}", text)
    assert f'href="/runs/{FINISHED}"' in page
    assert stocked["1.0.0"].digest in text
    assert re.search(r"released Ada Lovelace better than 0\.9\.0 on the public set", text)
    assert text.index("superseded Ada Lovelace") < text.index(
        "candidate Ada Lovelace"
    )  # the last change first
    assert page.count('class="meter"') == 3


def test_a_model_that_promises_nothing_says_so(stocked, inside):
    text = seen(inside.get(path(stocked["bare"])).text)
    assert "No differential privacy (none): this model may tell of single patients." in text
    assert "No sensitivity is promised" in text
    assert "Note: the bundle carries no release record" in text
    assert text.count("not signed: it had left") == 3


def test_the_api_says_the_same(stocked, inside, facts_once):
    found = inside.get("/api/models").json()
    assert [(one["facts"]["version"], one["history"][-1]["state"]) for one in found] == [
        ("2.0.0", "candidate"),
        ("1.1.0", "released"),
        ("1.0.0", "superseded"),
        ("0.9.0", "withdrawn"),
        ("0.3.0", "candidate"),
    ]
    one = inside.get(f"/api{path(stocked['0.9.0'])}").json()
    assert one == found[3]
    assert one["history"][-1] == {
        "state": "withdrawn",
        "who": "Grace Hopper",
        "why": WITHDRAWN_FOR,
        "at": one["history"][-1]["at"],
    }
    assert one["facts"]["point"]["target"] == 0.95
    assert [site["epsilon"] for site in one["facts"]["sites"]] == [site.epsilon for site in facts_once.sites]
    for other in ("00" * 32, "x"):
        assert inside.get(f"/api/models/{other}").status_code in (404, 422)
    assert inside.get(f"/models/{'00' * 32}").status_code == 404


def test_without_a_login_there_is_nothing(stocked, visitor, made):
    for address in ("/models", path(stocked["1.1.0"]), "/api/models", "/models/events"):
        answer = visitor.get(address)
        assert answer.status_code in (303, 401)
        assert "nodule" not in answer.text
        assert strict(answer.headers)
    bearer = {"authorization": f"Bearer {made.token()}"}
    assert len(visitor.get("/api/models", headers=bearer).json()) == 5
    data = {"who": "x", "why": "x"}
    for headers in (bearer, bearer | {"origin": visitor.origin}):
        answer = visitor.post(f"{path(stocked['1.1.0'])}/withdraw", data=data, headers=headers)
        assert answer.status_code in (303, 401, 403)
    assert state(made, stocked["1.1.0"]) is ModelState.RELEASED


# ------------------------------------------------------------------------------------------- buttons


def test_a_candidate_is_released_and_the_one_before_it_superseded(stocked, inside, made):
    one = stocked["2.0.0"]
    answer = inside.press(path(one), f"{path(one)}/release", who="Grace Hopper", why="")
    assert (answer.status_code, answer.headers["location"]) == (303, path(one))
    assert state(made, one) is ModelState.RELEASED
    assert state(made, stocked["1.1.0"]) is ModelState.SUPERSEDED
    assert "by Grace Hopper" in seen(inside.get(path(one)).text)


def test_a_model_is_withdrawn_with_a_reason_and_not_without(stocked, inside, made):
    one = stocked["1.1.0"]
    for who, why in (
        ("", "because"),
        ("Grace", ""),
        ("Grace", "  "),
        ("G" * 65, "because"),
        ("Grace", "x" * 501),
    ):
        answer = inside.press(path(one), f"{path(one)}/withdraw", who=who, why=why)
        assert answer.status_code == 400
        assert strict(answer.headers)
    assert state(made, one) is ModelState.RELEASED
    answer = inside.press(path(one), f"{path(one)}/withdraw", who="Grace", why=HOSTILE.replace("\u202e", ""))
    assert answer.status_code == 303
    page = inside.get(path(one)).text
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "alert(1)" in seen(page)


def test_what_a_model_cannot_become_is_not_offered_and_refused(stocked, inside, made):
    csrf = inside.form(inside.get("/models").text, "/logout") | {"who": "x", "why": "x"}
    origin = {"origin": inside.origin}
    page = inside.get(path(stocked["0.9.0"])).text
    assert "/release" not in page
    assert "/withdraw" not in page
    for action in ("release", "withdraw"):
        answer = inside.post(f"{path(stocked['0.9.0'])}/{action}", data=csrf, headers=origin)
        assert answer.status_code == 409
        assert "found one that is withdrawn" in seen(answer.text)
        assert inside.post(f"/models/{'00' * 32}/{action}", data=csrf, headers=origin).status_code == 404
    assert "/release" not in inside.get(path(stocked["1.1.0"])).text
    assert "Release again" in inside.get(path(stocked["1.0.0"])).text


def test_a_form_of_another_page_changes_nothing(stocked, inside, made):
    one = stocked["1.1.0"]
    own = inside.form(inside.get(path(one)).text, f"{path(one)}/withdraw")
    words = {"who": "x", "why": "x"}
    for data, headers in (
        (words, {"origin": inside.origin}),
        (words | {"csrf": "0" * 64}, {"origin": inside.origin}),
        (words | own, {"origin": "http://evil.example"}),
        (words | own, {}),
        (words | own, {"origin": inside.origin, "sec-fetch-site": "cross-site"}),
    ):
        assert inside.post(f"{path(one)}/withdraw", data=data, headers=headers).status_code == 403
    assert inside.get(f"{path(one)}/withdraw").status_code == 405
    assert state(made, one) is ModelState.RELEASED


def test_hostile_words_of_a_bundle_are_text(stocked, made):
    with ModelRegistry(made.root) as registry:
        found = registry.model(stocked["1.0.0"].digest)
    evil = replace(
        found.facts,
        **dict.fromkeys(("name", "version", "run", "description", "kind", "task", "trained"), HOSTILE),
        sites=tuple(replace(one, site=HOSTILE) for one in found.facts.sites),
        modalities=(HOSTILE,),
        remarks=(HOSTILE,),
    )
    one = replace(
        found, facts=evil, history=tuple(replace(entry, who=HOSTILE, why=HOSTILE) for entry in found.history)
    )
    for drawn in (*registry_page.model_sections(one, HOSTILE), *registry_page.parts([one]).values()):
        assert "<script" not in drawn
        assert "\u202e" not in drawn
        assert not [tag for tag in ET.fromstring(drawn).iter() if tag.tag in ("script", "img")]


def test_no_page_has_a_path_of_this_machine(stocked, inside, made):
    for address in ("/models", *(path(facts) for facts in stocked.values()), "/api/models"):
        text = inside.get(address).text
        assert str(made.root) not in text
        assert str(made.root.resolve()) not in text


# ------------------------------------------------------------------------------------------- a browser


def test_a_person_looks_releases_and_withdraws_and_nothing_leaves_this_machine(
    stocked, made, visitor, tmp_path
):
    folder = tmp_path / "browser"
    folder.mkdir()
    pictures = {"models": "/models", "model": path(stocked["1.1.0"]), "candidate": path(stocked["bare"])}
    with Chromium(folder) as browser:
        browser.look(1200)
        browser.open(f"{visitor.origin}/")
        browser.run(f"document.getElementById('token').value = '{made.token()}'")
        browser.press("document.querySelector('form.login button').click()")
        for name, address in pictures.items():
            browser.open(visitor.origin + address)
            for width in (1200, 390):
                for dark in (False, True):
                    browser.look(width, dark=dark, touch=width < 500)
                    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (name, width)
                    browser.whole(tmp_path / f"{name}-{width}-{'dark' if dark else 'light'}.png")
        browser.look(1200)
        browser.open(visitor.origin + path(stocked["2.0.0"]))
        browser.run("document.querySelector('form[action$=release] [name=who]').value = 'Grace'")
        browser.press("document.querySelector('form[action$=release] button').click()")
        assert state(made, stocked["2.0.0"]) is ModelState.RELEASED
        # the browser itself asks for the reason before it sends the form
        browser.run("document.querySelector('form[action$=withdraw] [name=who]').value = 'Grace'")
        assert not browser.run("document.querySelector('form[action$=withdraw]').checkValidity()")
        asked, said = list(browser.requests), list(browser.console)
    assert said == []
    assert beyond_this_machine(asked) == []
    print("pictures in", tmp_path)


def test_the_table_follows_what_others_do(stocked, inside, made):
    import json

    with inside.stream("GET", "/models/events") as stream:
        lines = (line for line in stream.iter_lines() if line.startswith("data: "))
        assert [json.loads(next(lines)[6:])["id"] for _ in range(2)] == ["counts", "models"]
        with ModelRegistry(made.root) as registry:
            registry.release(stocked["2.0.0"].digest, "somebody at the command line")
        changed = {(part := json.loads(next(lines)[6:]))["id"]: seen(part["html"]) for _ in range(2)}
        assert re.search(r"nodule 2\.0\.0 \w{16} released", changed["models"])
        assert "candidate 1" in changed["counts"]


def test_without_scripts_a_form_is_not_loaded_anew_under_the_hand(stocked, inside):
    assert 'http-equiv="refresh"' in inside.get("/models").text
    page = inside.get(path(stocked["1.1.0"])).text
    assert 'http-equiv="refresh"' not in page
    assert "<script" not in page
    assert NAMES[0] in page
