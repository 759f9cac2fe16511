"""The entry point: verbs, exit codes, errors, and what it may not import or print."""

import errno
import json
import logging
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

from fedimg import cli, errors
from fedimg.cli import console

PROBE = """
import sys
from fedimg.cli import main
code = main({argv!r})
heavy = [m for m in ("torch", "numpy", "hydra", "omegaconf", "pydicom", "flwr", "rich", "monai") if m in sys.modules]
print("HEAVY", heavy, code)
"""


@pytest.mark.parametrize(
    "argv", [["--help"], ["simulate", "--help"], ["compare", "--help"], ["runs", "list"], ["version"]]
)
def test_help_and_reading_verbs_load_nothing_heavy(argv, tmp_path):
    """`--help` is quick because nothing heavy is imported; a clock would measure the machine."""
    code = (
        PROBE.format(argv=argv)
        .replace("code = main", "try:\n    code = main")
        .replace("\nheavy", "\nexcept SystemExit as end:\n    code = end.code\nheavy")
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_help_names_every_verb_and_exit_code(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(re.search(rf"^  {verb} +\S", text, re.MULTILINE) for verb in cli.VERBS)
    assert all(
        re.search(rf"^ +{code}  {meaning}$", text, re.MULTILINE) for code, meaning in cli.EXIT_CODES.items()
    )


def test_no_verb_is_a_usage_error(capsys):
    assert cli.main([]) == 2
    assert "usage: fedimg VERB" in capsys.readouterr().out


def test_every_verb_has_a_module_with_its_own_help(capsys):
    folder = Path(cli.__file__).parent
    modules = {p.stem for p in folder.glob("*.py")} | {p.parent.name for p in folder.glob("*/__init__.py")}
    assert modules - {"__init__", "__main__", "console"} == {verb.replace("-", "_") for verb in cli.VERBS}
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as end:
            cli.main([verb, "--help"])
        assert end.value.code == 0
        assert f"usage: fedimg {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(("typed", "meant"), [("simulat", "simulate"), ("ledgr", "ledger"), ("rnus", "runs")])
def test_a_mistyped_verb_is_answered_with_the_nearest(typed, meant, capsys):
    assert cli.main([typed]) == 2
    assert (
        capsys.readouterr().err
        == f"error: expected a verb\n       found {typed}\n       did you mean {meant}?\n"
    )


def verb_that(action):
    module = types.ModuleType("fedimg.cli.version")
    module.run = lambda argv: action()
    return module


def raising(fault):
    def action():
        raise fault

    return action


@pytest.fixture
def main_with(monkeypatch):
    def run(action):
        monkeypatch.setitem(sys.modules, "fedimg.cli.version", verb_that(action))
        return cli.main(["version"])

    return run


KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FedimgError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_expected_failures_end_with_their_own_documented_code(kind, main_with, capsys):
    assert main_with(raising(kind("a", "b", "c"))) == kind.exit_code
    assert kind.exit_code in cli.EXIT_CODES
    assert capsys.readouterr().err == "error: expected a\n       found b\n       c\n"


def test_an_interrupt_ends_with_130_and_names_the_resume_command(main_with, capsys):
    interrupt = KeyboardInterrupt()
    interrupt.run_path = Path("runs/20260131-142501-3f9a")
    assert main_with(raising(interrupt)) == 130
    assert "fedimg simulate resume=runs/20260131-142501-3f9a" in capsys.readouterr().err
    assert main_with(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


SECRET = "DOE^JANE/19570203"


@pytest.mark.parametrize(
    "fault", [ValueError(SECRET), KeyError(SECRET), OSError(errno.ENOSPC, "full", SECRET)]
)
def test_an_unexpected_fault_shows_its_place_and_never_its_text(fault, main_with, capsys, monkeypatch):
    monkeypatch.delenv("FEDIMG_DEBUG", raising=False)
    assert main_with(raising(fault)) == 1
    shown = capsys.readouterr().err
    assert SECRET not in shown
    assert "No space left on device" in shown or f"{type(fault).__name__} at test_main.py:" in shown


def test_debugging_shows_the_traceback(main_with, capsys, monkeypatch):
    monkeypatch.setenv("FEDIMG_DEBUG", "1")
    assert main_with(raising(ValueError(SECRET))) == 1
    assert SECRET in capsys.readouterr().err


def test_libraries_that_quote_values_are_silenced(monkeypatch, capfd):
    monkeypatch.delenv("FEDIMG_DEBUG", raising=False)
    before = {name: logging.getLogger(name).level for name in console.QUOTING_LOGGERS}
    try:
        with warnings.catch_warnings():
            console.keep_patient_data_out_of_logs()
            warnings.warn(f"Invalid value for VR PN: {SECRET}", stacklevel=1)
            for name in console.QUOTING_LOGGERS:
                logging.getLogger(name).error(SECRET)
                logging.getLogger(f"{name}.inner").critical(SECRET)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
    assert SECRET not in capfd.readouterr().err


def test_telemetry_is_off_before_any_verb_runs(main_with, monkeypatch):
    import os

    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    seen = []
    names = ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED")
    assert main_with(lambda: seen.append([os.environ[n] for n in names]) or 0) == 0
    assert seen == [["0", "0"]]


def test_versions_are_data(capsys):
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"fedimg", "python", "torch", "dp-accounting", "opacus", "flwr"} <= set(found)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"fedimg {found['fedimg']}\n")


def test_a_closed_pipe_is_not_a_failure(tmp_path):
    command = f"{sys.executable} -m fedimg.cli version | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert "Traceback" not in done.stderr


def test_progress_off_a_terminal_is_one_line_a_stage(capsys):
    with console.progress() as report:
        for done in range(4):
            report("round", done, 3)
    assert capsys.readouterr().err == "round …\nround: 3 of 3\n"


def test_a_table_is_aligned_and_leaves_absent_values_empty(capsys):
    console.print_table(
        [{"site": "a", "epsilon": 2.99987}, {"site": "longer", "epsilon": None}], ("site", "epsilon")
    )
    assert capsys.readouterr().out == "site    epsilon\na       3\nlonger\n"
