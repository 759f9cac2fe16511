"""`fedimg provision` as its operators use it."""

import json
import re

import pytest

from fedimg.cli import main


@pytest.fixture
def said(capsys):
    def run(*arguments, code=0):
        assert main(["provision", *map(str, arguments)]) == code
        found = capsys.readouterr()
        return found.out if code == 0 else found.err

    return run


@pytest.fixture
def homes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FEDIMG_STATE_DIR", str(tmp_path / "state"))
    for name in ("north", "south"):
        assert main(["site", "init", str(tmp_path / name), "--patients", "100", "--another-site"]) == 0
    capsys.readouterr()
    return tmp_path


def test_two_hospitals_and_a_coordinator(homes, said):
    net, bundle = homes / "net", homes / "net.bundle"
    said("init", net, "--name", "heart net", "--address", "fl.example.org:8443", "--also", "10.0.0.7")
    for name in ("north", "south"):
        paper = homes / f"{name}.json"
        out = said("csr", homes / name, "--name", name, "--out", paper)
        (code,) = re.findall(r"^code (\S+)$", out, re.MULTILINE)
        shown = json.loads(said("show", paper, "--json"))
        assert (shown["name"], shown["weight"]) == (name, 100)
        assert code not in said("show", paper)
        assert "operator" in said("sign", net, paper, code=3)
        said("sign", net, paper, "--code", code.lower())
    out = said("bundle", net, "--out", bundle)
    (code,) = re.findall(r"^code of all members: (\S+)$", out, re.MULTILINE)
    assert code in said("show", bundle)
    assert code in said("accept", homes / "north", bundle, "--code", code, "--heard", "south")
    assert "as they say it" in said("accept", homes / "south", bundle, code=3)
    for path in (net, homes / "north", bundle):
        shown = json.loads(said("show", path, "--json"))
        assert shown["code"] == code
        assert [row["site"] for row in shown["members"]] == ["north", "south"]
        assert ("tls_ends" in shown) == (path == net)
    assert "asked to be south" in said("show", homes / "south")


def test_what_changes_later(homes, said):
    net = homes / "net"
    said("init", net, "--name", "net", "--address", "fl.example.org:8443")
    out = said("csr", homes / "north", "--name", "north")
    (code,) = re.findall(r"^code (\S+)$", out, re.MULTILINE)
    said("sign", net, homes / "north" / "federation" / "request.json", "--code", code)
    said("rotate", net)
    assert "none yet" in said("rotate", net, "--finish", code=4)
    said("bundle", net)
    assert "renew" in said("rotate", net, "--finish", code=4)
    said("renew", net)
    said("rotate", net, "--finish")
    said("revoke", net, "north")
    assert "none yet" in said("revoke", net, "north", code=4)
    shown = said("bundle", net)
    assert "north" not in shown


def test_a_passphrase_comes_from_a_file_of_ones_own(homes, said):
    net, secret = homes / "net", homes / "passphrase"
    options = ("--name", "net", "--address", "fl.example.org:8443", "--passphrase-file", secret)
    assert "readable" in said("init", net, *options, code=4)
    secret.write_text("correct horse\n")
    secret.chmod(0o644)
    assert "0600" in said("init", net, *options, code=4)
    secret.chmod(0o600)
    assert "encrypted" in said("init", net, *options)
    assert "opens" in said("bundle", net, code=4)
    said("bundle", net, "--passphrase-file", secret)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("init", "{}/net", "--name", "n", "--address", "no address"), 2),
        (("show", "{}/nothing"), 4),
        (("show", "{}"), 4),
        (("sign", "{}/nothing", "{}/nothing"), 4),
        (("sign",), 2),
        (("other",), 2),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, said, arguments, code):
    assert "error" in said(*(argument.format(tmp_path) for argument in arguments), code=code)
