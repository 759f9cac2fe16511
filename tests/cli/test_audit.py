"""The dispatcher of audits."""

import pytest

from fedimg import cli
from fedimg.cli import audit


def test_help_names_every_audit(capsys):
    with pytest.raises(SystemExit) as end:
        audit.run(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name}" in text for name in audit.actions())


def test_an_unknown_audit_is_a_usage_error(capsys):
    assert cli.main(["audit", "nothing"]) == 2
    assert "found 'nothing'" in capsys.readouterr().err
