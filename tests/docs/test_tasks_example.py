"""The example of docs/tasks.md works as printed, and the charge is what it declares."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import torch

DOCUMENT = Path(__file__).parents[2] / "docs" / "tasks.md"


def test_the_example_trains_privately_on_voxels(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    after: dict = {}
    exec(compile(code, str(DOCUMENT), "exec"), after)
    assert after["scores"].shape == (40, 2, 16, 16)
    assert after["plan"].epsilon <= 8.0
    assert len(after["session"].releases) == 2
    assert after["session"].faults == ()
    assert not torch.equal(after["params"], torch.from_numpy(after["network"].initial.copy()).float())
