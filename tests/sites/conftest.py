"""A coordinator and three sites that asked, none of which has accepted anything."""

from datetime import UTC, datetime, timedelta

import pytest
import yaml

from fedimg.home import SiteHome
from server.membership import Federation
from sites.enrolment import Enrolment

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = ("north", "south", "east")


def later(days):
    return NOW + timedelta(days=days)


def site(root, patients=100):
    home = SiteHome.create(root, simulated=False)
    # of hearing the others are tests of their own
    home.policy.write_text(yaml.safe_dump({"declared_patients": patients, "min_colluders": 50}))
    return Enrolment(home)


@pytest.fixture
def net(tmp_path):
    return Federation.create(tmp_path / "net", "net", "fl.example.org:8443", now=NOW)


@pytest.fixture
def sites(tmp_path, net):
    """Three members, none of which has accepted anything."""
    found = {name: site(tmp_path / name) for name in NAMES}
    for name, one in found.items():
        joined(net, one, name)
    return found


def joined(net, one, name, now=NOW):
    request = one.request(name, now)
    return net.sign((one.folder / "request.json").read_bytes(), request.code, now)


def accepted(net, sites, now=NOW):
    signed = net.bundle(now)
    for one in sites.values():
        one.accept(signed.to_bytes(), signed.manifest.roster_code, now=now)
    return signed
