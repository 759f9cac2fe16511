"""The examples for supervisors and containers: they parse, they are hardened, and they say what the program takes."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedimg.cli import main

ROOT = Path(__file__).resolve().parents[2]
UNITS = [
    ROOT / "sites" / "deploy" / "fedimg-site@.service",
    ROOT / "server" / "deploy" / "fedimg-server.service",
]
CONTAINERS = [ROOT / side / "deploy" / "Containerfile" for side in ("sites", "server")]
ANALYZE = shutil.which("systemd-analyze")
HARDENED = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "ProtectSystem": "strict",
    "ReadWritePaths": "/srv/fedimg /var/lib/fedimg",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "UMask": "0077",
    "Restart": "on-failure",
    "LimitCORE": "0",
}
units = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
containers = pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.parent.parent.name)


def settings(path):
    lines = [line for line in path.read_text("utf-8").splitlines() if line and line[0] not in "#["]
    return [tuple(line.split("=", 1)) for line in lines]


@units
def test_a_unit_is_hardened(path):
    found = settings(path)
    assert HARDENED.items() <= dict(found).items()
    assert ("SystemCallFilter", "@system-service") in found
    # torch compiles convolutions as they run: with these, a site could not train, or would be killed while it does
    assert not {"MemoryDenyWriteExecute", "WatchdogSec"} & {name for name, _ in found}


@units
def test_a_unit_starts_what_the_program_has(path, capsys):
    (command,) = [value for name, value in settings(path) if name == "ExecStart"]
    program, verb, action, *_ = command.split()
    assert program == "/opt/fedimg/bin/fedimg"
    with pytest.raises(SystemExit) as end:
        main([verb, action, "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in re.findall(r"--[a-z]+", command))


@units
@pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_exposure(path, tmp_path):
    own = tmp_path / path.name
    own.write_text(path.read_text("utf-8").replace("/opt/fedimg/bin/fedimg", sys.executable))
    done = subprocess.run([ANALYZE, "verify", str(own)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # of 10; what is left is the network, the user's own device view and memory that is written and run
    command = [ANALYZE, "security", "--offline=true", "--threshold=20", str(own)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("needs a systemd-analyze that looks at files")
    assert done.returncode == 0, done.stdout[-200:]


@containers
def test_a_container_runs_as_nobody_and_holds_no_secret(path):
    text = path.read_text("utf-8")
    steps = [line for line in text.splitlines() if line and not line.startswith("#")]
    last = "\n".join(steps[max(n for n, line in enumerate(steps) if line.startswith("FROM")) :])
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "--require-hashes" in text
    assert "--no-index" in text
    # the second stage takes the program from the first, and nothing from the folder that it is built in
    assert re.findall(r"^(?:COPY|ADD) (.*)$", last, re.MULTILINE) == ["--from=build /opt/fedimg /opt/fedimg"]
    assert not re.search(r"^ARG .*(KEY|PASS|SECRET|TOKEN)", text, re.MULTILINE | re.IGNORECASE)
    volumes = re.search(r"^VOLUME (.*)$", last, re.MULTILINE)
    assert volumes is not None
    assert "/srv/fedimg" in volumes[1]


def test_both_containers_are_made_in_the_same_way():
    """But for what they are for: the comment, the port, and the command."""
    first, second = (
        [line for line in path.read_text("utf-8").splitlines() if line and not line.startswith("#")]
        for path in CONTAINERS
    )
    differing = {line.split()[0] for line in set(first) ^ set(second)}
    assert differing == {"EXPOSE", "CMD", "HEALTHCHECK"}
