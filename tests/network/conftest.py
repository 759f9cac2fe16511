"""Real processes on the loopback: a server, three sites, and the run of a simulation with the same homes."""

import loopback_federation as loopback
import pytest

OVERRIDES = ("rounds=3", "secagg=pairwise")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """Homes of three sites, filled, and what they make of a run in one process."""
    folder = tmp_path_factory.mktemp("base")
    loopback.simulated(folder, 3, OVERRIDES)
    return folder


@pytest.fixture
def unbroken(base):
    """The simulation's run."""
    (found,) = (base / "simulated").iterdir()
    return found


@pytest.fixture
def net(base, tmp_path, monkeypatch):
    """The same homes as a federation, provisioned; nothing runs yet, and nothing does afterwards."""
    monkeypatch.setenv("FEDIMG_STATE_DIR", str(tmp_path / "state"))
    found = loopback.copied(base, tmp_path / "federation")
    found.provision()
    yield found
    found.end()


@pytest.fixture
def started(net):
    """The server and all sites at work."""
    for name in (loopback.SERVER, *net.names):
        net.start(name)
    return net
