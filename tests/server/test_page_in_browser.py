"""The page in a real browser: it looks right, follows what happens, asks nobody else for anything, and complains of nothing."""

import json

from PIL import Image

from server.registry import Registry, Stage
from tests.server.conftest import FINISHED, RUNNING, STOPPED, rows
from tests.web.chromium import Chromium, beyond_this_machine, requests_of_pages

WIDTHS = (1280, 390)


def logged_in(browser, address, token):
    browser.look(1280)
    browser.open(f"{address}/")
    assert browser.run("location.pathname") == "/login"
    browser.run(f"document.getElementById('token').value = '{token}'")
    browser.press("document.querySelector('form.login button').click()")
    assert browser.run("location.pathname") == "/"


def test_a_person_logs_in_looks_stops_and_resumes_and_nothing_leaves_this_machine(made, visitor, tmp_path):
    folder = tmp_path / "browser"
    folder.mkdir()
    address = visitor.origin
    with Chromium(folder) as browser:
        logged_in(browser, address, made.token())
        for name, path in (("overview", "/"), ("run", f"/runs/{RUNNING}"), ("finished", f"/runs/{FINISHED}")):
            browser.open(address + path)
            browser.until("document.getElementById('link-state').textContent === 'live'")
            for width in WIDTHS:
                for dark in (False, True):
                    browser.look(width, dark=dark, touch=width < 500)
                    assert browser.run("document.documentElement.scrollWidth <= innerWidth"), (name, width)
                    scheme = "dark" if dark else "light"
                    picture = browser.whole(tmp_path / f"{name}-{width}-{scheme}.png")
                    assert not_one_colour(picture)
        browser.look(1280)

        # the script replaces what has changed, without loading the page again
        browser.open(f"{address}/runs/{RUNNING}")
        browser.until("document.getElementById('link-state').textContent === 'live'")
        browser.run("window.sameAsBefore = true")
        more = "".join(json.dumps(row) + "\n" for row in rows(21))
        (made.root / "runs" / RUNNING / "metrics.jsonl").write_text(more)
        browser.until("document.querySelector('#rounds tbody th').textContent === '21'")
        assert browser.run("window.sameAsBefore")

        # buttons are forms with the session's own token
        browser.press("document.querySelector('#run form button').click()")
        registry = Registry(made.root)
        assert registry.is_asked_to_stop(RUNNING)
        browser.open(f"{address}/runs/{STOPPED}")
        browser.press("document.querySelector('#run form button').click()")
        assert registry.entry(STOPPED).stage is Stage.QUEUED
        registry.close()
        browser.press("document.querySelector('.topbar form button').click()")
        assert browser.run("location.pathname") == "/login"
        asked, said = list(browser.requests), list(browser.console)
    assert said == []
    assert any(url.endswith("/static/page.js") for url in asked)
    assert beyond_this_machine(asked) == []
    logged = requests_of_pages(browser.netlog)
    assert any(url.endswith("/events") for url in logged)
    assert beyond_this_machine(logged) == []
    print("pictures in", tmp_path)


def test_the_leash_notices_what_it_should(made, visitor, tmp_path):
    """A page that asks elsewhere, runs a script within itself or complains is seen to: the policy forbids it, loudly."""
    folder = tmp_path / "browser"
    folder.mkdir()
    with Chromium(folder) as browser:
        logged_in(browser, visitor.origin, made.token())
        browser.run("document.body.append(Object.assign(new Image(), {src: 'http://192.0.2.1/x.png'}))")
        browser.run("document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">x</p>')")
        browser.run(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
        )
        browser.settle(0.5)
        assert browser.run("window.ran") is None
        said = " ".join(browser.console)
    for directive in ("img-src", "style-src", "script-src"):
        assert directive in said
    assert beyond_this_machine(["http://127.0.0.1:1/", "http://192.0.2.1/x.png"]) == [
        "http://192.0.2.1/x.png"
    ]


def test_without_scripts_the_page_is_whole_and_loads_itself(inside):
    page = inside.get(f"/runs/{RUNNING}").text
    assert '<noscript><meta http-equiv="refresh" content="15"/></noscript>' in page
    for part in ("run", "course", "run-sites", "rounds"):
        assert f'<div id="{part}" class="part">' in page


def not_one_colour(file):
    with Image.open(file) as image:
        return len(image.convert("RGB").getcolors(1 << 24)) > 50
