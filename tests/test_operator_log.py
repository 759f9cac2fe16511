"""What the operator is told, and what nobody is told."""

import json
import stat

import pytest

from fedimg.errors import PolicyRefused
from fedimg.operator_log import note_held_back, read_operator_log, tell_operator
from fedimg.outbox import Outbox
from fedimg.values import Quarantine


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_refusal_is_told_with_its_remedy(tmp_path):
    tell_operator(tmp_path, "joining", raised(PolicyRefused("a", "b", "c")))
    (line,) = read_operator_log(tmp_path)
    assert (line["kind"], line["expected"], line["found"], line["remedy"]) == ("PolicyRefused", "a", "b", "c")
    assert stat.S_IMODE((tmp_path / "operator.log").stat().st_mode) == 0o600


def test_the_text_of_an_unexpected_fault_is_not_written(tmp_path):
    """It may quote what the code was reading."""
    tell_operator(tmp_path, "round 3, train", raised(ValueError("Douglas Davidson 1951-03-02")))
    text = (tmp_path / "operator.log").read_text()
    assert "Davidson" not in text
    assert "1951" not in text
    (line,) = read_operator_log(tmp_path)
    assert line["kind"] == "ValueError"
    assert line["where"][0].startswith("test_operator_log.py:")


def test_a_log_that_cannot_be_written_goes_to_stderr(tmp_path, capsys):
    tell_operator(
        tmp_path / "absent", "joining", raised(OSError(28, "No space left on device", "/x/Davidson"))
    )
    told = json.loads(capsys.readouterr().err)
    assert told["errno"] == "No space left on device"
    assert "Davidson" not in json.dumps(told)


def test_held_back_inputs_are_counted_by_reason(tmp_path):
    note_held_back(tmp_path, "intake", {Quarantine.NO_LABEL: 2, Quarantine.UNREADABLE: 0})
    note_held_back(tmp_path, "intake", {})
    (line,) = read_operator_log(tmp_path)
    assert line["counts"] == {"no_label": 2}


def test_no_log_is_no_trouble(tmp_path):
    assert read_operator_log(tmp_path) == []


def test_the_outbox_gives_back_the_very_bytes_and_forgets_what_is_past(tmp_path):
    outbox = Outbox(tmp_path / "run")
    assert outbox.get(1, "train", "q") is None
    for number in range(1, 5):
        outbox.put(number, "train", "q", bytes([number]))
    assert outbox.get(4, "train", "q") == b"\x04"
    assert outbox.get(4, "train", "another question") is None
    assert outbox.get(4, "evaluate", "q") is None
    assert outbox.get(3, "train", "q") == b"\x03"
    assert outbox.get(1, "train", "q") is None
    assert not list((tmp_path / "run").glob("*.partial"))


def test_an_outbox_on_a_full_disk_raises_so_that_nothing_is_sent(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedimg.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        Outbox(tmp_path).put(1, "train", "q", b"x")
    assert Outbox(tmp_path).get(1, "train", "q") is None
