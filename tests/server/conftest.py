"""A made-up federation's folder: five members, and runs in every stage. No process serves it, no site exists."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from fedimg.federation.conversation import Program
from server.membership import Federation
from server.metrics import CoordinatorMetrics
from server.page.serving import Page, token_path
from server.page.watching import presence_of
from server.registry import Registry, Stage
from tests.server.test_runs import make_run
from tests.sites.conftest import site

NAMES = ("alder-clinic", "birch-hospital", "cedar", "dogwood", "elm-university")
WEIGHTS = (400, 1200, 300, 800, 2000)
CONNECTED = dict.fromkeys(NAMES[:4], "2026-01-31T13:05:00+00:00")
GONE = {NAMES[4]: "2026-01-31T14:41:12+00:00"}
RUNNING, FINISHED, STOPPED, FAILED, QUEUED = (
    "20260131-142501-3f9a",
    "20260130-090000-11aa",
    "20260129-101500-22bb",
    "20260128-170230-33cc",
    "20260131-150000-44dd",
)
PROGRAM = Program("0.1.0", "c0de" * 16)


def config(**privacy):
    return {
        "insecure_test_mode": False,
        "rounds": 40,
        "model": {"name": "scattering"},
        "aggregation": {"name": "fedavgm"},
        "secagg": {"name": "pairwise"},
        "imaging": {"image_size": [32, 32]},
        "training": {"local_steps": 5},
        "privacy": {"mode": "per_site", "epsilon": 8.0, "delta": 2e-5, "noise": "gaussian"} | privacy,
    }


def rows(count, missing=None):
    """Metrics of rounds: a loss that falls, ε that grows with the square root of the rounds."""
    found = []
    for r in range(1, count + 1):
        away = (missing or {}).get(r, [])
        row = {
            "round": r,
            "sites": [name for name in NAMES if name not in away],
            "missing": away,
            "loss": 0.2 + 0.5 * math.exp(-r / 8),
            "auroc": 0.97 - 0.45 * math.exp(-r / 6),
            "epsilon": {name: (0.9 + 0.05 * k) * math.sqrt(r) for k, name in enumerate(NAMES)},
        }
        if len(away) > 2:
            row |= {"sites": [], "missing": list(NAMES), "void": "2 of 5 sites survived; 3 are needed"}
        found.append(row)
    return found


def joined(names=NAMES):
    return {
        name: {
            "plan": {"epsilon": 7.2 + 0.1 * k, "noise_multiplier": 1.3 - 0.05 * k},
            "receipts": "00" * 32,
            "unit": "patient",
            "battery": None,
        }
        for k, name in enumerate(names)
    }


def summary():
    sites = {name: {"epsilon": 7.2 + 0.1 * k, "delta": 2e-5} for k, name in enumerate(NAMES)}
    return {"test": {"auroc": 0.962}, "sites": sites, "privacy": {"mode": "per_site"}}


def add(root, run, stage, count, reason="", **files):
    """A run of 40 rounds with `count` of them done."""
    names = files.pop("names", NAMES)
    files = {"config": config(), "summary": None, "metrics": rows(count)} | files
    path = make_run(root / "runs", run, **files)
    (path / "joined.json").write_text(json.dumps(joined(names)))
    (path / "roster.json").write_text(json.dumps({name: {"identity": "00", "weight": 1.0} for name in NAMES}))
    registry = Registry(root)
    registry.add(run, 40)
    registry.move(run, stage, reason, count)
    if begun := re.fullmatch(r"(\d{8}-\d{6})-\w{4}", run):
        at = datetime.strptime(begun[1], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        times = [f"{at + timedelta(minutes=after):%Y-%m-%dT%H:%M:%SZ}" for after in (0, 1.5 * count)]
        registry._connection.execute(
            "UPDATE runs SET submitted = ?, changed = ? WHERE run = ?", (*times, run)
        )
    registry.close()
    return path


@dataclass
class Made:
    """The folder, and what the page is told of connections."""

    federation: Federation
    connected: dict = field(default_factory=lambda: dict(CONNECTED))
    gone: dict = field(default_factory=lambda: dict(GONE))
    told: list = field(default_factory=list)

    @property
    def root(self):
        return self.federation.root

    def say(self, event, **fields):
        self.told.append((event, fields))

    def page(self):
        return Page(
            self.federation,
            CoordinatorMetrics(PROGRAM),
            lambda: presence_of(self.connected, self.gone),
            self.say,
        )

    def entry(self, run):
        registry = Registry(self.root)
        try:
            return registry.entry(run)
        finally:
            registry.close()

    def token(self):
        return token_path(self.root).read_text().strip()


def members(root):
    """A federation of five members who have made their keys, and its bundle."""
    net = Federation.create(root / "net", "Heart imaging network", "fl.example.org:8443")
    for name, weight in zip(NAMES, WEIGHTS, strict=True):
        one = site(root / name, weight)
        request = one.request(name)
        net.sign((one.folder / "request.json").read_bytes(), request.code)
    net.bundle()
    return net


def fill(root):
    away = {3: ["cedar"], 7: ["cedar"], 8: ["cedar", "dogwood"], 12: ["elm-university"]}
    add(
        root, FAILED, Stage.FAILED, 0, "expected 5 sites that have joined, within 60 s; found 2", metrics=None
    )
    add(root, STOPPED, Stage.STOPPED, 12, "asked to", metrics=rows(12, away))
    path = add(root, FINISHED, Stage.FINISHED, 40, summary=summary(), metrics=rows(40, away))
    (path / "report.html").write_text("<!DOCTYPE html><title>report</title>")
    waiting = f"4 of 5 sites that are needed; {NAMES[4]}: not connected"
    add(root, RUNNING, Stage.WAITING, 14, waiting, metrics=rows(14, away | {10: list(NAMES[:3])}))
    add(root, QUEUED, Stage.QUEUED, 0, metrics=None)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("federation")
    net = members(root)
    fill(net.root)
    return net


@pytest.fixture
def made(made_once, tmp_path):
    """The same folder for each test, by itself."""
    import shutil

    shutil.copytree(made_once.root, tmp_path / "net")
    return Made(Federation(tmp_path / "net"))


class Visitor(httpx.Client):
    """A browser without scripts: it logs in, and presses buttons on the pages that it has seen."""

    def form(self, page, action):
        """The hidden csrf field of the form with this action."""
        from html.parser import HTMLParser

        found, inside = {}, [False]

        class Reader(HTMLParser):
            def handle_starttag(self, tag, attrs):
                attrs = dict(attrs)
                if tag == "form":
                    inside[0] = attrs.get("action") == action
                elif tag == "input" and inside[0] and attrs.get("type") == "hidden":
                    found[attrs["name"]] = attrs["value"]

        Reader().feed(page)
        return found

    @property
    def origin(self):
        return str(self.base_url).rstrip("/")

    def press(self, path, action, **fields):
        form = self.form(self.get(path).text, action)
        return self.post(action, data=form | fields, headers={"origin": self.origin})

    def log_in(self, token):
        return self.press("/login", "/login", token=token)


@pytest.fixture
def visitor(made):
    """Of the page of `made`, served; not logged in."""
    with (
        made.page().serve("127.0.0.1", 0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client,
    ):
        yield client


@pytest.fixture
def inside(made, visitor):
    """The same, logged in."""
    assert visitor.log_in(made.token()).status_code == 303
    return visitor


@pytest.fixture(scope="session")
def run_once(tmp_path_factory):
    """What FINISHED leaves: a real record, weights, and what a bundle holds; put into no folder yet."""
    from tests.server.releasing import made_run

    return made_run(tmp_path_factory.mktemp("released-run"))


@pytest.fixture(scope="session")
def facts_once(run_once, made_once, tmp_path_factory):
    """Its model as it is registered."""
    from tests.server.releasing import admitted_facts

    return admitted_facts(run_once, made_once.root, tmp_path_factory.mktemp("admitted"))
