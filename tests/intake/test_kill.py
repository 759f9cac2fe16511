"""Killed at any moment, the release tree holds receipted files only; the next run ends like one never broken.

A few moments of `scripts/study_kill.py`, whose hundred are run by hand; and the moments between two
steps, one by one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fedimg.dicom import receipts
from fedimg.dicom.receipts import ReceiptLog
from fedimg.errors import DataError, ReceiptError
from fedimg.home import OutFolder
from fedimg.intake import FolderInputs, batch, run_intake
from fedimg.intake.proof import prove

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def content(folder):
    files = [path for path in folder.released.rglob("*") if path.is_file()]
    files += [folder.receipts, folder.root / "receipts.head"]
    return {path.relative_to(folder.root): path.read_bytes() for path in files}


def assert_receipted_files_only(folder):
    known = {}
    if receipts.head_path(folder.receipts).exists():
        known = receipts.standing(receipts.read(folder.receipts, folder.signing_key.public_bytes))
    for path in folder.released.rglob("*"):
        if path.is_file():
            output = path.relative_to(folder.released).as_posix()
            receipts.check_file(known[output], output, folder.released)


@pytest.fixture
def unbroken(source, slice_of, config, tmp_path, key):
    for seed in range(12):
        slice_of(seed)
    folder = OutFolder.create(tmp_path / "unbroken", key, "trial")
    run_intake(FolderInputs(source), folder, config)
    return content(folder)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run's own endings may write anything after it."""


@pytest.mark.parametrize("moment", ["before signing", "after signing", "between two moves"])
@pytest.mark.parametrize("which", [1, 2])
def test_the_moments_between_two_steps(source, unbroken, out, config, monkeypatch, moment, which):
    monkeypatch.setattr(batch, "_MOST_FILES", 4)
    signs, moves, dead = [], [], []

    def die():
        dead.append(1)
        raise Killed

    original_checkpoint, original_move = ReceiptLog.checkpoint, batch._move

    def checkpoint(log):
        if dead:
            raise Killed
        signs.append(1)
        if moment == "before signing" and len(signs) == which + 1:  # the first signs an empty log
            die()
        original_checkpoint(log)
        if moment == "after signing" and len(signs) == which + 1:
            die()

    def move(*paths):
        if dead:
            raise Killed
        moves.append(1)
        if moment == "between two moves" and len(moves) == 4 * which - 1:
            die()
        original_move(*paths)

    with monkeypatch.context() as broken:
        broken.setattr(ReceiptLog, "checkpoint", checkpoint)
        broken.setattr(batch, "_move", move)
        broken.setattr(batch, "clear", lambda _: None)
        with pytest.raises(Killed):
            run_intake(FolderInputs(source), out, config)
    assert_receipted_files_only(out)
    if moment != "before signing":
        with pytest.raises(ReceiptError, match="still in quarantine, where an interrupted run left them"):
            prove(out.root)
    run_intake(FolderInputs(source), out, config)
    assert content(out) == unbroken
    assert list(out.quarantine.iterdir()) == []


def test_a_few_random_kills(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "study_kill.py", "--kills", "4", "--files", "40", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills: tree whole 4 times" in done.stdout


def limited(source, root, size):
    """A run in a process that may write no file longer than `size` bytes: what a full disk is to it."""
    code = (
        "import resource, sys; from pathlib import Path; from fedimg.crypto.keys import SiteKey\n"
        "from fedimg.errors import FedimgError; from fedimg.home import OutFolder\n"
        "from fedimg.intake import FolderInputs, MeasuredIntakeConfig, run_intake\n"
        "out = OutFolder.open(Path(sys.argv[2]), SiteKey.from_bytes(bytes(range(32))))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))\n"
        "try: run_intake(FolderInputs(Path(sys.argv[1])), out, MeasuredIntakeConfig(project='trial'))\n"
        "except FedimgError as error: print(error); sys.exit(error.exit_code)\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", code, source, root, str(size)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("size", [2_000, 40_000])
def test_a_full_disk_releases_nothing_half_written(source, unbroken, out, config, size):
    """2,000 bytes hold no release; 40,000 no index of the survey."""
    done = limited(source, out.root, size)
    assert done.returncode == DataError.exit_code, done.stderr
    assert done.stdout.startswith("expected room on the disk of the site's home; found a full disk")
    assert_receipted_files_only(out)
    run_intake(FolderInputs(source), out, config)
    assert content(out) == unbroken


def test_children_end_with_a_parent_that_is_killed(source, slice_of, out, tmp_path):
    for seed in range(60):
        slice_of(seed)
    code = (
        "import sys; from pathlib import Path; from fedimg.crypto.keys import SiteKey\n"
        "from fedimg.home import OutFolder; from fedimg.intake import FolderInputs, IntakeConfig, run_intake\n"
        "out = OutFolder.open(Path(sys.argv[2]), SiteKey.from_bytes(bytes(range(32))))\n"
        "if __name__ == '__main__':\n"
        "    run_intake(FolderInputs(Path(sys.argv[1])), out, IntakeConfig(project='trial', workers=2),\n"
        "               lambda done, total: print(done, flush=True))\n"
    )
    (tmp_path / "run.py").write_text(code)
    command = [sys.executable, tmp_path / "run.py", source, out.root]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.stdout.readline()  # the first outcome: both children are at work
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
        process.wait()
        # The pipe's end is held by every child that still lives: reading to its end waits for them.
        process.stdout.read()
    assert children
    assert_receipted_files_only(out)
