"""What is shipped is whole: the wheel, in a venv of its own, from a folder that knows no checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("fedimg", "sites", "server")

TINY = (
    "rounds=1",
    "compare=false",
    "device=cpu",
    "evaluation.bootstrap=10",
    "sites=2",
    "data.cohort.patients_per_hospital=12",
    "data.cohort.phantom_public_patients=8",
    "data.cohort.image_size=64",
    "imaging.image_size=[32,32]",
)

PROBE = """
import json, sys
from pathlib import Path
import fedimg, server, sites
from fedimg.config import compose, composition
from fedimg.dicom.profile import load_profile
from fedimg.models import build_model
from fedimg.privacy.policy import SitePolicy

policy = Path(sites.__file__).parent / "policies" / "default.yaml"
print(json.dumps({
    "modules": [module.__file__ for module in (fedimg, server, sites)],
    "conf": str(composition.conf_folder()),
    "path": sys.path,
    "options": sum(map(len, composition.groups().values())),
    "profile": load_profile("train").digest,
    "parameters": build_model(compose().model, 0).number_of_parameters,
    "declared": SitePolicy.load(policy).declared_patients,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("fedimg-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An empty venv with the wheel in it.

    The dependencies are read from this environment's site-packages, named in a .pth file: a folder
    that comes in that way has its own .pth files ignored, so an editable fedimg stays invisible.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = {sysconfig.get_paths()[kind] for kind in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in sorted(here)))
    return folder


def run_in(installed, folder, *command):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"OMP_NUM_THREADS": "1", "VIRTUAL_ENV": str(installed)}
    program = str(installed / "bin" / command[0])
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, cwd=folder, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def shipped_files():
    """Every tracked file of the packages and of conf, and where the wheel has it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *PACKAGES, "conf"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if listed.returncode != 0:
        pytest.skip("the list of files comes from git, and this is no git checkout")
    names = [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return {name: f"fedimg/{name}" if name.startswith("conf/") else name for name in names}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        for source, shipped in shipped_files().items():
            assert shipped in inside, f"{source} is not shipped"
            assert archive.read(shipped) == (ROOT / source).read_bytes(), source
        assert {name.split("/")[0] for name in inside} == set(PACKAGES)


def test_conf_tables_templates_and_weights_load_from_the_wheel(installed, tmp_path):
    done = run_in(installed, tmp_path, "python", "-P", "-c", PROBE)
    found = json.loads(done.stdout)
    assert all(Path(name).is_relative_to(installed) for name in found["modules"])
    assert Path(found["conf"]).is_relative_to(installed)
    assert str(ROOT) not in found["path"]
    assert found["options"] > 10
    assert found["parameters"] > 100
    assert len(found["profile"]) >= 64  # hex of SHA-256
    assert found["declared"] > 0


def test_the_installed_command_runs_a_federation_from_another_folder(installed, tmp_path):
    done = run_in(installed, tmp_path, "fedimg", "simulate", "--json", *TINY)
    outcome = json.loads(done.stdout)
    run = tmp_path / outcome["run"]
    assert run.is_relative_to(tmp_path)
    summary = json.loads((run / "summary.json").read_text())
    assert summary == outcome["summary"]
    assert 0 <= summary["test"]["auroc"] <= 1
    assert all(site["epsilon"] > 0 for site in summary["sites"].values())
    assert len(summary["sites"]) == 2
    assert (run / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
