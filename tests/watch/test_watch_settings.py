"""Settings that cannot be are refused with what to do, before anything is opened; the example is one that can."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedimg.errors import ConfigError
from sites.watch.settings import WatchSettings
from sites.watch.sources import sources
from sites.watch.spool import Spool

EXAMPLE = Path(__file__).parents[2] / "sites" / "watch" / "example.yaml"
LEAST = {"home": "home", "bundles": ["b"], "trusted_keys": ["k.pub"]}
POLLED = "https://pacs.example/dicom-web"
HOOK = {"name": "pager", "kind": "webhook", "url": "https://pager.example/x", "secret": "s"}


def load(tmp_path, **said):
    file = tmp_path / "watch.yaml"
    file.write_text(yaml.safe_dump(LEAST | said))
    return WatchSettings.load(file)


def test_the_example_can_be_loaded():
    found = WatchSettings.load(EXAMPLE)
    assert [target.name for target in found.deliver] == ["pacs", "dicomweb", "pager", "chief", "out"]


def test_relative_paths_are_meant_from_the_file(tmp_path):
    found = load(
        tmp_path, folder={"path": "in"}, deliver=[HOOK], trusted_keys=["k.pub", "ed25519:" + "0" * 64]
    )
    assert found.home == str(tmp_path / "home")
    assert found.bundles == (str(tmp_path / "b"),)
    assert found.trusted_keys == (str(tmp_path / "k.pub"), "ed25519:" + "0" * 64)
    assert found.folder.path == str(tmp_path / "in")
    assert found.deliver[0].secret == str(tmp_path / "s")
    polled = load(
        tmp_path, poll={"url": POLLED, "login": "l", "authority": "ca", "certificate": "c", "key": "k"}
    ).poll
    files = (polled.login, polled.authority, polled.certificate, polled.key)
    assert files == tuple(str(tmp_path / name) for name in ("l", "ca", "c", "k"))
    assert polled.url == POLLED


def test_an_archive_of_the_settings_becomes_a_source(tmp_path):
    settings = load(
        tmp_path, poll={"url": "http://127.0.0.1:1/dicom-web", "modalities": ["CT"], "every_s": 5}
    )
    with Spool(tmp_path / "spool") as spool:
        ((name, source),) = sources(settings, spool, print, print)
        with source:
            assert name == "poll" and not hasattr(source, "port")
        assert source._settings.modalities == ("CT",) and source._settings.every_s == 5


REFUSED = {
    "an unknown key": {"bundels": []},
    "no bundle": {"bundles": []},
    "no key to trust": {"trusted_keys": []},
    "a receiver in the clear beyond this machine": {
        "scp": {"address": "0.0.0.0:104", "ae_title": "A", "allowed": ["B"]}
    },
    "a receiver that lets nobody call": {"scp": {"address": "127.0.0.1:104", "ae_title": "A", "allowed": []}},
    "a title that is none": {"scp": {"address": "127.0.0.1:104", "ae_title": "A\\B", "allowed": ["B"]}},
    "a title that is too long": {"scp": {"address": "127.0.0.1:104", "ae_title": "A" * 17, "allowed": ["B"]}},
    "a web receiver in the clear": {"stow": {"address": "0.0.0.0:80", "token": "t"}},
    "an archive in the clear": {"poll": {"url": "http://pacs.example/dicom-web"}},
    "an archive with a password in its address": {"poll": {"url": "https://a:b@pacs.example/dicom-web"}},
    "an archive with a question in its address": {"poll": {"url": "https://pacs.example/dicom-web?a=b"}},
    "an archive's studies instead of itself": {"poll": {"url": f"{POLLED}/studies/"}},
    "an archive of no port": {"poll": {"url": "https://pacs.example:x/dicom-web"}},
    "an archive with two ways to log in": {"poll": {"url": POLLED, "token": "t", "login": "l"}},
    "an archive with half a certificate": {"poll": {"url": POLLED, "certificate": "c"}},
    "a modality that is no code": {"poll": {"url": POLLED, "modalities": ["CT&limit=1"]}},
    "an archive that is asked all the time": {"poll": {"url": POLLED, "every_s": 0.1}},
    "an overlap into the future": {"poll": {"url": POLLED, "overlap_days": -1}},
    "a page in the clear": {"console": {"address": "0.0.0.0:80"}},
    "a message in the clear": {"deliver": [HOOK | {"url": "http://pager.example/x"}]},
    "a password in an address": {"deliver": [HOOK | {"url": "https://a:b@pager.example/x"}]},
    "a webhook that nobody can tell from another": {
        "deliver": [{k: v for k, v in HOOK.items() if k != "secret"}]
    },
    "an archive without a title": {"deliver": [{"name": "p", "kind": "cstore", "address": "p:104"}]},
    "two targets of one name": {"deliver": [HOOK, HOOK]},
    "a name for people": {"deliver": [HOOK | {"name": "The Pager"}]},
    "escalation to nobody": {"escalation": [{"after_s": 10.0, "target": "chief"}]},
    "escalation that goes back in time": {
        "deliver": [HOOK],
        "escalation": [{"after_s": 10.0, "target": "pager"}, {"after_s": 5.0, "target": "pager"}],
    },
    "no worker": {"workers": 0},
    "a prevalence that is no share": {"prevalence": {"nodule": 3.0}},
    "silence that is longer than patience": {"assembly": {"quiet_s": 90.0}},
    "references that tell nothing": {"drift_references": 10},
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused(tmp_path, said):
    with pytest.raises(ConfigError):
        load(tmp_path, **said)


def test_a_plain_receiver_takes_a_word(tmp_path):
    plain = {"address": "0.0.0.0:104", "ae_title": "A", "allowed": ["B"], "plain": True}
    assert load(tmp_path, scp=plain).scp.plain


@given(st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=3)))
def test_no_yaml_of_another_form_gets_further(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("s") / "watch.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError):
        WatchSettings.load(file)


def test_what_cannot_be_read_says_why_and_quotes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        WatchSettings.load(tmp_path / "none.yaml")
    file = tmp_path / "watch.yaml"
    file.write_text("home: home\nbundles: [b\ntoken: whsec_aaaa\n")
    with pytest.raises(ConfigError, match="a mistake at line 3") as caught:
        WatchSettings.load(file)
    assert "whsec" not in str(caught.value)
