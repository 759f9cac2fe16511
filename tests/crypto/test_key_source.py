"""Where the site key comes from: file, environment, key service; never from an argument or a log."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedimg.crypto.key_source import find_site_key, key_file
from fedimg.crypto.keys import SiteKey
from fedimg.errors import ConfigError, DataError


@pytest.fixture
def file(tmp_path) -> Path:
    SiteKey.create(tmp_path / "site.key")
    return tmp_path / "site.key"


def command(code: str) -> dict[str, str]:
    return {"FEDIMG_SITE_KEY_COMMAND": f"{sys.executable} -c '{code}'"}


def test_a_named_file_goes_before_the_environment(file, tmp_path):
    other = SiteKey.create(tmp_path / "other.key")
    environment = {"FEDIMG_SITE_KEY_FILE": str(tmp_path / "other.key")}
    assert find_site_key(file, environment).to_bytes() == file.read_bytes()
    assert find_site_key(None, environment).to_bytes() == other.to_bytes()
    assert find_site_key(None, {}) is None
    assert key_file(None, environment) == tmp_path / "other.key"
    assert key_file(None, {}) is None


@pytest.mark.parametrize(
    "code",
    ['import sys; sys.stdout.buffer.write(b"k" * 32)', 'print("6b" * 32)'],
    ids=["raw bytes", "hexadecimal"],
)
def test_a_key_service_gives_it_by_its_output(code):
    assert find_site_key(None, command(code)).to_bytes() == b"k" * 32


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('print("short")', "another length"),
        ('import sys; print("6b" * 32); sys.exit(3)', "exit code 3"),
        ("print()", "another length"),
    ],
)
def test_a_command_that_gives_no_key_is_refused_without_its_output(code, found, capfd):
    with pytest.raises(DataError, match=found) as error:
        find_site_key(None, command(code))
    shown = capfd.readouterr()
    assert "short" not in str(error.value) + shown.out + shown.err
    assert "6b6b" not in str(error.value) + shown.out + shown.err


def test_a_command_that_is_not_there_is_refused():
    with pytest.raises(DataError, match="a key command that runs"):
        find_site_key(None, {"FEDIMG_SITE_KEY_COMMAND": "/no/such/program"})


def test_two_sources_in_the_environment_are_refused(file):
    environment = {"FEDIMG_SITE_KEY_FILE": str(file)} | command("print()")
    with pytest.raises(ConfigError, match="one source of the site key"):
        find_site_key(None, environment)


def test_a_key_that_others_may_read_is_refused(file):
    file.chmod(0o640)
    with pytest.raises(DataError, match="a key file of mode 0600"):
        find_site_key(file, {})
