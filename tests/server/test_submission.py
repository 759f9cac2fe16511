"""What is asked of a server is judged whole before it is queued."""

import pytest
import yaml

from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from server.conducting import needed, unit_of
from server.membership import Federation
from server.registry import Registry, Stage
from server.submission import submit
from sites.enrolment import Enrolment

NAMES = ("north", "south", "east", "west", "middle")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """Five members."""
    folder = tmp_path_factory.mktemp("net")
    found = Federation.create(folder / "net", "net", "fl.example.org:8443")
    for name in NAMES:
        home = SiteHome.create(folder / name, simulated=False)
        home.policy.write_text(yaml.safe_dump({"declared_patients": 100}))
        one = Enrolment(home)
        request = one.request(name)
        found.sign((one.folder / "request.json").read_bytes(), request.code)
    found.bundle()
    return found.root


def config_of(net, *overrides):
    from fedimg import config as configuration

    run = submit(net, overrides)
    return configuration.load(net / "runs" / run / "config.yaml")


def test_a_run_is_for_all_members_with_secure_sums(net):
    found = config_of(net, "rounds=3")
    assert (found.sites, found.secagg.name, found.compare) == (5, "pairwise", False)
    assert needed(found, 5) == 4
    assert unit_of(found) == "patient"
    registry = Registry(net)
    entry = registry.all()[-1]
    registry.close()
    assert (entry.stage, entry.rounds) == (Stage.QUEUED, 3)
    folder = net / "runs" / entry.run
    assert not (folder / "ledgers").exists()
    assert (folder.stat().st_mode & 0o077) == 0


def test_how_many_sites_a_round_needs(net):
    assert needed(config_of(net, "secagg=none"), 5) == 1
    assert needed(config_of(net, "secagg=none", "aggregation.min_sites=2"), 5) == 2
    robust = ("secagg=none", "aggregation.robust=krum", "aggregation.liars=1")
    assert needed(config_of(net, *robust), 5) == 5  # Krum against f liars: 2f + 3
    assert needed(config_of(net, "secagg.threshold=5"), 5) == 5
    assert unit_of(config_of(net, "data=medmnist", "secagg=none")) == "image"


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["sites=3"], "sites"),
        (["++sites=3"], "sites"),
        (["data.path=/etc"], "data.path"),
        (["data.partition=iid"], "data.partition"),
        (["state=x"], "state"),
        (["resume=x"], "resume"),
        (["engine=ray"], "engine"),
        (["engine.workers=2"], "engine.workers"),
        (["compare=true"], "compare"),
        (["privacy=client_level"], "privacy=client_level"),
        (["federation.start_with=6"], "federation.start_with=6"),
        (["aggregation.min_sites=6"], "aggregation.min_sites=6"),
        (["aggregation.weights=uniform"], "aggregation.weights=uniform"),
        (["federation.deadline_s=0"], "0"),
        (["federation.patience_s=1e9"], "1e+09"),
        (["federation.start_with=0"], "0"),
        (["rounds=0"], "0"),
        (["federation.patience=3"], "federation.patience"),
        (["model=cnn", "model.weights=/nowhere.pt"], ""),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_what_these_members_cannot_do_is_refused_and_not_queued(net, overrides, found):
    registry = Registry(net)
    before = len(registry.all())
    with pytest.raises(ConfigError) as refused:
        submit(net, overrides)
    assert found in str(refused.value)
    assert len(registry.all()) == before
    registry.close()


def test_without_members_there_is_nothing_to_ask(tmp_path):
    Federation.create(tmp_path / "net", "net", "fl.example.org:8443").bundle()
    with pytest.raises(DataError, match="a federation with members"):
        submit(tmp_path / "net", [])
