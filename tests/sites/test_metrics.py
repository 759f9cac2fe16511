"""A site's metrics: what is counted, and where they may be read."""

import math
import socket

import httpx
import pytest
import yaml

from fedimg.errors import ConfigError
from fedimg.federation.conversation import Ending, Program, RoundMessage
from fedimg.home import SiteHome
from fedimg.privacy.ledger import Ledger
from fedimg.privacy.statement import LedgerTerms
from fedimg.web import metrics
from sites.metrics import SiteMetrics
from sites.settings import SiteSettings
from tests.sites.conftest import site

PROGRAM = Program("0.1.0", "c0de" * 16)


def numbers(found):
    lines = metrics.text(found.registry).decode().splitlines()
    return {n: float(v) for n, v in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


@pytest.fixture
def home(tmp_path):
    site(tmp_path / "north")
    return SiteHome.open(tmp_path / "north")


def test_rounds_are_counted_and_other_messages_are_not(home):
    found = SiteMetrics(home, PROGRAM)
    answers = iter([b"x", None, b"x", b"x"])
    answer = found.answering(lambda _data: next(answers))
    told = [
        answer(data) for data in (*(RoundMessage("r", b"m").to_bytes(),) * 2, Ending("r").to_bytes(), b"?")
    ]
    assert told == [b"x", None, b"x", b"x"]
    now = numbers(found)
    assert (now["fedimg_rounds_answered_total"], now["fedimg_rounds_declined_total"]) == (1, 1)
    assert 0 <= now["fedimg_last_answer_seconds"] < 1
    for event in ("preparing", "joined", "could not join", "ended"):
        found.heard(event)
    assert numbers(found)["fedimg_runs_joined_total"] == 1
    assert numbers(found)["fedimg_connected"] == 0
    found.connected(True)
    assert numbers(found)["fedimg_connected"] == 1


def test_what_is_left_of_the_ledger_is_read_when_a_run_begins_or_ends(home):
    found = SiteMetrics(home, PROGRAM)
    if home.ledger.exists():
        home.ledger.unlink()
    found.read_ledger()
    assert math.isnan(numbers(found)["fedimg_ledger_epsilon_left"])
    Ledger.create(home.ledger, home.signing_key, LedgerTerms(10.0, 1e-5, 32)).disconnect()
    found.heard("joined")
    now = numbers(found)
    assert (now["fedimg_ledger_epsilon_left"], now["fedimg_ledger_epsilon_max"]) == (10, 10)
    home.ledger.write_bytes(b"no ledger")
    found.heard("ended")
    assert math.isnan(numbers(found)["fedimg_ledger_epsilon_left"])


def settings(tmp_path, **more):
    file = tmp_path / "site.yaml"
    file.write_text(yaml.safe_dump({"home": "north"} | more))
    return SiteSettings.load(file)


def test_they_are_read_on_the_loopback_unless_told(home, tmp_path):
    assert settings(tmp_path).metrics is None
    with pytest.raises(ConfigError, match="expected metrics on an address of this machine alone"):
        settings(tmp_path, metrics="0.0.0.0:9464")
    with pytest.raises(ConfigError):
        settings(tmp_path, metrics="9464")
    told = settings(tmp_path, metrics="0.0.0.0:9464", metrics_beyond_loopback=True)
    assert told.metrics == "0.0.0.0:9464"


@pytest.mark.parametrize(("host", "open_"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_beyond_the_loopback_they_need_the_token(home, tmp_path, host, open_):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    chosen = settings(tmp_path, metrics=f"{host}:{port}", metrics_beyond_loopback=not open_)
    with SiteMetrics(home, PROGRAM).serve(chosen, lambda *_a, **_k: None):
        url = f"http://127.0.0.1:{port}/metrics"
        answer = httpx.get(url)
        assert answer.status_code == (200 if open_ else 401)
        assert ("fedimg_site_info" in answer.text) == open_
        own = {"authorization": f"Bearer {(home.root / 'metrics.token').read_text().strip()}"}
        assert "fedimg_site_info" in httpx.get(url, headers=own).text
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").text == "ok\n"
        assert httpx.get(f"http://127.0.0.1:{port}/login").status_code == 404
        assert httpx.get(url, headers={"host": "evil.example"}).status_code == 421


def test_without_settings_nothing_listens(home, tmp_path):
    with SiteMetrics(home, PROGRAM).serve(settings(tmp_path), lambda *_a, **_k: None):
        assert not (home.root / "metrics.token").exists()
