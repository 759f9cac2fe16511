"""The verbs of a federation as they are typed: arguments that argparse has to take apart."""

import json

import pytest

from fedimg.cli import main

COHORT = (
    "data=cohort",
    "sites=2",
    "data.cohort.patients_per_hospital=4",
    "data.cohort.phantom_public_patients=4",
    "data.cohort.image_size=64",
    "data.cohort.modalities=[CR]",
    "deid.workers=0",
)


@pytest.fixture
def net(tmp_path, capsys):
    found = tmp_path / "net"
    made = ["provision", "init", str(found), "--name", "net", "--address", "localhost:8443"]
    assert main(made) == 0
    capsys.readouterr()
    return found


def test_a_public_set_is_given_to_a_server(net, capsys):
    assert main(["server", "public", str(net), *COHORT]) == 0
    assert f"public examples at {net / 'public'}" in capsys.readouterr().out
    assert main(["server", "public", str(net), *COHORT]) == 0  # again: nothing is read twice
    assert main(["server", "public", str(net), *COHORT, "seed=1"]) == 2  # another source
    capsys.readouterr()


def test_a_home_is_filled_with_its_share_of_a_source(tmp_path, capsys):
    home = tmp_path / "home"
    assert main(["site", "init", str(home), "--patients", "20"]) == 0
    assert main(["site", "admit", str(home), *COHORT]) == 2
    assert "--share with one of hospital-1, hospital-2" in capsys.readouterr().err
    assert main(["site", "admit", str(home), *COHORT, "--share", "hospital-2"]) == 0
    found = capsys.readouterr().out
    assert "inputs released in this home" in found
    assert any((home / "released").iterdir())
    assert main(["site", "admit", str(home), *COHORT, "--share", "hospital-2"]) == 0
    assert capsys.readouterr().out == found  # what has a decision stays as it was decided
    assert main(["site", "approve", str(home)]) == 0
    assert "ε ≤ 10 for all runs, left 10" in capsys.readouterr().out
    assert main(["site", "approve", str(home), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["site", "approve", str(home), "no-such-run"]) == 3
    assert main(["site", "decline", str(home), "no-such-run"]) == 3
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["site", "start"], 2),
        (["site", "start", "--config", "/nowhere.yaml"], 2),
        (["server", "start", "/nowhere"], 4),
        (["train", "/nowhere"], 4),
        (["train", "/nowhere", "rouns=3"], 2),
        (["runs", "stop", "/nowhere/runs/x"], 4),
        (["server"], 2),
        (["site", "leave"], 2),
    ],
)
def test_what_is_typed_wrongly_says_so(arguments, code, capsys):
    assert main(arguments) == code
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("home: h\nthreads: 0\n", "threads of at least 1"),
        ("home: h\nhouse: x\n", "house"),
        ("- home\n", "key: value"),
        ("device: cpu\n", "home"),
        ("home: h\ndevice: tpu\n", "device"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, text, expected, capsys):
    file = tmp_path / "north.yaml"
    file.write_text(text)
    assert main(["site", "start", "--config", str(file)]) == 2
    assert expected in capsys.readouterr().err
