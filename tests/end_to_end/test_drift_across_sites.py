"""Three hospitals' watchers, their ledgers, the files they make, the coordinator's verdict and its page: by the commands."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from made_up_store import MODEL

from fedimg.cli import main
from server.membership import Federation
from tests.server.conftest import Made, Visitor
from tests.sites.conftest import NOW
from tests.watch.watched_sites import STREAMS, members, patients, store

SHIFTED = "south"
SIZES = {"north": 900, "south": 700, "east": 500}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The federation's folder, and of each site the settings of its watcher. South has another scanner."""
    root = tmp_path_factory.mktemp("across")
    net = Federation.create(root / "net", "net", "fl.example.org:8443", now=NOW)
    settings = {}
    for seed, (name, home) in enumerate(members(root, net).items()):
        rows = patients(SIZES[name], seed, shift=0.6 if name == SHIFTED else 0.0)
        store(root / f"watcher-{name}", rows)
        said = {
            "home": f"watcher-{name}",
            "bundles": ["nodule"],
            "trusted_keys": ["release.pub"],
            "site_home": str(home.root),
        }
        settings[name] = root / f"{name}.yaml"
        settings[name].write_text(yaml.safe_dump(said))
    return net, settings


def asked(settings, out, **changed):
    options = {
        "model": MODEL[:12],
        "from": "2026-01-01",
        "to": "2026-01-31",
        "epsilon": "1",
        "issuer": "",
    } | changed
    flags = [part for name, value in options.items() for part in (f"--{name}", value)]
    return main(["watch", "histograms", str(settings), str(out), *flags, "--json"])


def test_from_three_watchers_to_the_coordinators_page(made, tmp_path, capsys):
    net, settings = made
    files = []
    for name, file in settings.items():
        assert asked(file, tmp_path) == 0
        said = json.loads(capsys.readouterr().out)
        files.append(said["file"])
        assert said["epsilon"] == 1.0
        assert said["streams"] == len(STREAMS)
        assert 0 < said["ledger_epsilon_spent"] < 10
        home = yaml.safe_load(file.read_text())["site_home"]
        assert main(["ledger", "verify", home, "--json"]) == 0
        ledger = json.loads(capsys.readouterr().out)
        (run,) = ledger["runs"]
        assert (run["release"], run["charged"], run["state"]) == ("histograms", 1, "closed")
        assert ledger["epsilon_spent"] == said["ledger_epsilon_spent"], name

    assert main(["server", "drift", str(net.root), *files, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    clearest = min(found["compared"], key=lambda row: (row["p"], -row["distance"]))
    assert clearest["site"] == SHIFTED
    flagged = {row["stream"] for row in found["compared"] if row["flagged"] and row["site"] == SHIFTED}
    assert {"image.mean", "score"} <= flagged
    # so many patients as were there, but for noise of 10 a bin: five deviations over 16 bins
    for row in found["compared"]:
        assert abs(row["patients"] - SIZES[row["site"]]) < 5 * 10 * 4

    with (
        Made(net, {}, {}).page().serve("127.0.0.1", 0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as visitor,
    ):
        assert visitor.log_in(Made(net).token()).status_code == 303
        text = re.sub(r"<[^>]*>", " ", visitor.get("/drift").text)
    assert SHIFTED in text.split("differs:")[1].split("Sites against")[0]
    # neither the page nor a file knows any patient
    for planted in ("ID1", "Family", "ACC1"):
        assert planted not in text
        assert all(planted not in open(file).read() for file in files)  # noqa: PTH123, SIM115
    assert main(["server", "drift", str(net.root), files[0]]) == 4


def test_what_the_command_refuses(made, tmp_path, capsys):
    _, settings = made
    file = settings["north"]
    for changed, words, code in (
        ({"model": "zz"}, "0 models", 4),
        ({"from": "1.1.2026"}, "2026-01-31", 4),
        ({"to": "2026-01-32"}, "2026-01-31", 4),
        ({"to": "2026-01-03"}, "7 to 366 days", 4),
        ({"epsilon": "1.5"}, "max_drift_epsilon", 3),
        ({"stream": "meta.images"}, "--stream", 4),
    ):
        assert asked(file, tmp_path, **changed) == code
        assert words in capsys.readouterr().err
    alone = tmp_path / "alone.yaml"
    alone.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"site_home": None}))
    assert asked(alone, tmp_path) == 2
    assert "fedimg site init" in capsys.readouterr().err
    assert not list(tmp_path.glob("drift-*"))
