"""The wheelhouse's own parts: what is pinned, and what is refused before anything is fetched."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import wheelhouse_index

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "wheelhouse"
WHEELS = {
    "fedimg-0.1.0-py3-none-any.whl": b"own",
    "torch-2.9.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": b"torch",
    "ruamel.yaml_clib-0.2.8-1-cp311-cp311-linux_x86_64.whl": b"built",
    "PyYAML-6.0.2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl": b"yaml",
}


@pytest.fixture
def house(tmp_path):
    for name, data in WHEELS.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_every_wheel_is_pinned_by_version_and_digest(house):
    assert wheelhouse_index.write(house, "ray") == 4
    assert (house / "requirements.txt").read_text().splitlines() == [
        f"pyyaml==6.0.2 --hash=sha256:{digest(b'yaml')}",
        f"ruamel-yaml-clib==0.2.8 --hash=sha256:{digest(b'built')}",
        f"torch==2.9.0+cpu --hash=sha256:{digest(b'torch')}",
        f"fedimg[ray]==0.1.0 --hash=sha256:{digest(b'own')}",
    ]


def test_the_sums_are_those_that_sha256sum_checks(house):
    wheelhouse_index.write(house)
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    assert subprocess.run(command, cwd=house, check=False).returncode == 0
    listed = {line.split("  ")[1] for line in (house / "SHA256SUMS").read_text().splitlines()}
    assert listed == {*WHEELS, "requirements.txt"}
    (house / "fedimg-0.1.0-py3-none-any.whl").write_bytes(b"other")
    assert subprocess.run(command, cwd=house, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("numpy-2.0.0.tar.gz", "found numpy-2.0.0.tar.gz"),
        ("pyyaml-6.0.1-cp311-cp311-linux_x86_64.whl", "one wheel of pyyaml; found two"),
        ("SHA256SUMS", "found SHA256SUMS"),
    ],
)
def test_what_would_not_install_as_it_stands_is_refused(house, name, found):
    (house / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=found):
        wheelhouse_index.write(house)


def test_a_folder_without_the_program_is_refused(house):
    (house / "fedimg-0.1.0-py3-none-any.whl").unlink()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "wheelhouse_index.py", house],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "error: expected a wheel of fedimg; found none; make the folder again\n",
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        ([], {}, "usage: scripts/wheelhouse DIR"),
        (["NEW", "ray", "more"], {}, "usage: scripts/wheelhouse DIR"),
        (["NEW"], {"FEDIMG_TORCH": "gpu"}, "found gpu"),
        (["OLD"], {}, "found one that exists"),
        (["NEW"], {"PYTHON": "no-such-python"}, "expected Python 3.11, 3.12 or 3.13"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_fetched(tmp_path, arguments, environment, said):
    (tmp_path / "OLD").mkdir()
    named = [str(tmp_path / part) if part.isupper() else part for part in arguments]
    done = subprocess.run(
        [SCRIPT, *named],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["OLD"]
