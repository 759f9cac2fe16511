"""A plan says what a run would do, and does nothing."""

from __future__ import annotations

from collections import Counter

from fedimg.crypto.keys import SiteKey
from fedimg.intake import FolderInputs, run_intake
from fedimg.intake.plan import plan


def listing(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_a_plan_agrees_with_the_run_and_writes_nothing(source, slice_of, out, config, tmp_path):
    for seed in range(4):
        slice_of(seed)
    slice_of(4, BurnedInAnnotation="YES")
    (source / "copy.dcm").write_bytes((source / "Quirrell Annabeth" / "001.dcm").read_bytes())
    (source / "letter.dcm").write_text("a letter")
    before = listing(tmp_path)
    seen = []
    planned = list(
        plan(FolderInputs(source), SiteKey.from_bytes(b"k" * 32), config, lambda *at: seen.append(at))
    )
    assert listing(tmp_path) == before
    assert seen == [(n, 7) for n in range(1, 8)]
    result = run_intake(FolderInputs(source), out, config)
    held = Counter(entry.reason for entry in planned if entry.reason is not None)
    assert held == Counter(result.quarantined)
    assert sum(entry.reason is None for entry in planned) == result.released == 4
    released = next(entry for entry in planned if entry.reason is None)
    assert released.route == "volume"
    assert sum(released.actions.values()) > 10
