"""Files of members are taken in whole and once; everything else is refused, and what is found stands on the page."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date

import numpy as np
import pytest

from fedimg.cli import main
from fedimg.crypto.keys import SigningKey
from fedimg.durable import write_durably
from fedimg.errors import ConfigError, DataError
from fedimg.monitoring.shared_histograms import MOST_BYTES, STREAMS, SharedHistograms, edges_of
from fedimg.privacy.histogram_plan import HistogramPlan
from server import drift
from server.drift import rounds, take_in
from server.federation_folder import FederationFolder
from server.membership import Federation
from tests.server.conftest import Made, Visitor
from tests.sites.conftest import NOW
from tests.watch.watched_sites import members

PLAN = HistogramPlan.made("of these", len(STREAMS), 1.0, 1e-5)
MODEL = "cd" * 32


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    root = tmp_path_factory.mktemp("federation")
    net = Federation.create(root / "net", "net", "fl.example.org:8443", now=NOW)
    return net, members(root, net)


@pytest.fixture
def net(made_once, tmp_path):
    shutil.copytree(made_once[0].root, tmp_path / "net")
    return FederationFolder(tmp_path / "net")


@pytest.fixture
def homes(made_once):
    return made_once[1]


def counts(seed, patients, shift):
    generator = np.random.default_rng(seed)
    found = {}
    for stream in STREAMS:
        bins = len(edges_of(stream)) + 1
        places = np.clip(np.rint(generator.normal(bins / 2 + shift, 1.5, patients)), 0, bins - 1)
        noise = np.rint(generator.normal(0, PLAN.noise_multiplier * PLAN.sensitivity, bins))
        found[stream] = tuple(int(n) for n in np.bincount(places.astype(int), minlength=bins) + noise)
    return found


@pytest.fixture
def file_of(net, homes, tmp_path):
    """A file of a site, of generated patients."""
    made = []

    def make(site, *, shift=0.0, patients=1000, key=None, **changed):
        own = key or homes[site].signing_key
        made.append(site)
        values = {
            "federation": net.last().manifest.id,
            "site": site,
            "identity": own.public_bytes.hex(),
            "model": MODEL,
            "first": date(2026, 1, 1),
            "last": date(2026, 1, 31),
            "release": f"{len(made) + 3}-{'ef' * 32}",
            "epsilon": 1.0,
            "delta": 1e-5,
            "noise_multiplier": PLAN.noise_multiplier,
            "counts": counts(len(made), patients, shift),
        }
        file = tmp_path / f"{len(made)}.json"
        file.write_bytes(SharedHistograms(**(values | changed)).to_bytes(own))
        return file

    return make


def state(net):
    root = net.root / "drift"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.json")}


def test_sites_are_compared_and_the_one_that_differs_is_named(net, file_of):
    (found,) = take_in(net, [file_of("north"), file_of("south", shift=1.0), file_of("east")])
    assert len(found.compared) == 3 * len(STREAMS)
    assert {row.site for row in found.flagged[:3]} == {"south"}
    assert {row.stream for row in found.flagged if row.site == "south"} == set(STREAMS)
    assert any(row.but_for == ("south",) for row in found.compared)
    assert all(row.told for row in found.compared)
    assert found.sites["north"]["epsilon"] == 1.0
    (kept,) = rounds(net)
    assert kept.to_json() == found.to_json()
    assert (net.root / "drift").stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (net.root / "drift").rglob("*.json"))


def test_a_site_that_comes_later_is_compared_with_those_before(net, file_of):
    first = take_in(net, [file_of("north")])
    assert [one.compared for one in first] == [()]
    (found,) = take_in(net, [file_of("south")])
    assert {row.site for row in found.compared} == {"north", "south"}
    other = take_in(net, [file_of("north", first=date(2026, 2, 1), last=date(2026, 2, 28))])
    assert [(one.first, len(one.sites)) for one in other] == [("2026-02-01", 1)]
    assert [one.first for one in rounds(net)] == ["2026-02-01", "2026-01-01"]


def test_a_file_is_taken_once(net, file_of):
    north = file_of("north")
    take_in(net, [north])
    before = state(net)
    second = file_of("north")  # another release of the same patients
    same_charge = file_of("north", first=date(2025, 1, 1), last=date(2025, 1, 31), release=f"4-{'ab' * 32}")
    for files in ([north], [second], [same_charge], [file_of("south"), north]):
        with pytest.raises(DataError, match="already"):
            take_in(net, files)
        assert state(net) == before
    east = file_of("east")
    with pytest.raises(DataError, match="file 2"):
        take_in(net, [east, east])
    assert state(net) == before


def test_what_no_member_signed_for_this_federation_is_refused_whole(net, homes, file_of, tmp_path):
    stranger = SigningKey.from_bytes(b"x" * 32)
    good = file_of("north")
    changed = tmp_path / "changed.json"
    changed.write_bytes(good.read_bytes().replace(b'"2026-01-31"', b'"2026-01-30"'))
    long = tmp_path / "long.json"
    long.write_bytes(good.read_bytes() + b" " * MOST_BYTES)
    text = tmp_path / "Patient^Name.json"
    text.write_text("{}")
    for bad in (
        file_of("west", key=homes["north"].signing_key),
        file_of("north", key=stranger),
        file_of("south", key=homes["north"].signing_key),
        file_of("north", federation="ab" * 16),
        file_of("north", first=date(2099, 1, 1), last=date(2099, 1, 31)),
        changed,
        long,
        text,
        tmp_path / "none.json",
    ):
        with pytest.raises(DataError) as refused:
            take_in(net, [good, bad])
        assert "(file 2)" in str(refused.value) or "file 2" in str(refused.value)
        assert "Patient" not in str(refused.value)
        assert state(net) == {}
    assert len(take_in(net, [good])) == 1


def test_a_member_that_was_revoked_is_in_no_further_comparison(net, homes, file_of):
    take_in(net, [file_of("north"), file_of("south"), file_of("east")])
    federation = Federation(net.root)
    federation.revoke("south")
    federation.bundle(above=5)
    with pytest.raises(DataError, match="members"):
        take_in(net, [file_of("south", first=date(2026, 2, 1), last=date(2026, 2, 28))])
    (net.root / "drift" / "rounds" / f"{MODEL}-2026-01-01-2026-01-31.json").unlink()
    (again,) = take_in(net, [])
    assert set(again.sites) == {"north", "east"}


def test_a_level_that_is_none_changes_nothing(net, file_of):
    with pytest.raises(ConfigError):
        take_in(net, [file_of("north"), file_of("south")], level=1.5)
    assert state(net) == {}


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_what_a_kill_leaves_is_finished_by_the_next_call(net, file_of, monkeypatch, moment):
    wanted = take_in(net, [file_of("north"), file_of("south")])
    shutil.rmtree(net.root / "drift")
    files, calls = [file_of("north"), file_of("south")], []

    class Killed(BaseException):
        pass

    def write(*args):
        calls.append(args)
        if len(calls) == moment:
            raise Killed
        write_durably(*args)

    with monkeypatch.context() as patched:
        patched.setattr(drift, "write_durably", write)
        with pytest.raises(Killed):
            take_in(net, files)
    left = files[moment - 1 :] if moment < 3 else []
    (found,) = take_in(net, left)
    assert set(found.sites) == set(wanted[0].sites)
    assert len(rounds(net)) == 1


def test_kept_files_that_were_changed_are_refused(net, file_of):
    take_in(net, [file_of("north")])
    (kept,) = (net.root / "drift" / "files").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"north", b"south"))
    with pytest.raises(DataError, match="backup"):
        take_in(net, [file_of("south")])
    (found,) = (net.root / "drift" / "rounds").iterdir()
    found.write_text("[]")
    with pytest.raises(DataError, match="parse"):
        rounds(net)


def test_the_verb_prints_a_table_or_json_and_says_what_it_cannot(net, file_of, capsys):
    assert main(["server", "drift", str(net.root)]) == 0
    capsys.readouterr()
    assert main(["server", "drift", str(net.root), str(file_of("north"))]) == 0
    assert "nobody to compare it with" in capsys.readouterr().err
    assert main(["server", "drift", str(net.root), str(file_of("south", shift=2.0))]) == 0
    said = capsys.readouterr()
    assert "nobody can say which" in said.err
    assert re.search(r"image\.mean +south +\d+ +0\.\d+.* yes\n", said.out)
    assert main(["server", "drift", str(net.root), str(file_of("east", patients=0)), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {row["distance"] for row in found["compared"] if row["site"] == "east"} == {None}
    assert main(["server", "drift", str(net.root)]) == 0
    assert "too few" in capsys.readouterr().out
    assert main(["server", "drift", str(net.root), str(file_of("east"))]) == 4
    assert "already" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------- page


@pytest.fixture
def page(net):
    """Of this federation, served; not logged in."""
    made = Made(Federation(net.root), {}, {})
    with (
        made.page().serve("127.0.0.1", 0) as server,
        Visitor(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as visitor,
    ):
        yield visitor


@pytest.fixture
def inside(net, page):
    assert page.log_in(Made(Federation(net.root)).token()).status_code == 303
    return page


def seen(response):
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", response.text))


def test_the_page_shows_the_verdict_the_bins_and_what_it_cost(net, file_of, inside):
    assert "No site has given its histograms yet" in seen(inside.get("/drift"))
    take_in(net, [file_of("north"), file_of("south", shift=1.0), file_of("east")])
    response = inside.get("/drift")
    text = seen(response)
    assert "differs: " in text
    assert "south" in text
    assert "2026-01-01 to 2026-01-31" in text
    assert response.text.count('role="img"') == 1 + len(STREAMS)
    assert 'href="/drift"' in inside.get("/").text
    assert inside.get(f"/drift/{MODEL}-2026-01-01-2026-01-31").status_code == 200
    for unknown in ("other", "..%2f..%2fpage.token", "x" * 3000):
        assert inside.get(f"/drift/{unknown}").status_code == 404
    assert str(net.root) not in response.text


def test_a_name_that_a_site_chose_is_text_on_the_page(net, file_of, inside):
    own = {"finding.<script>alert(1)</script>": (30,) * 10}
    plan = HistogramPlan.made("of these", 1, 1.0, 1e-5)
    noise = {"noise_multiplier": plan.noise_multiplier, "counts": own}
    take_in(net, [file_of("north", **noise), file_of("south", **noise)])
    text = inside.get("/drift").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_damaged_round_is_said_and_no_fault(net, file_of, inside):
    take_in(net, [file_of("north"), file_of("south")])
    (found,) = (net.root / "drift" / "rounds").iterdir()
    found.write_text("{}")
    assert inside.get("/drift").status_code == 409


def test_without_a_login_there_is_no_verdict(net, file_of, page):
    take_in(net, [file_of("north"), file_of("south")])
    for path in ("/drift", f"/drift/{MODEL}-2026-01-01-2026-01-31"):
        answer = page.get(path)
        assert answer.status_code in (303, 401)
        assert "south" not in answer.text
