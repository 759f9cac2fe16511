"""The end of a run: closed in every ledger, with signed copies of what the sites' homes keep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.errors import FedimgError
from fedimg.home import SiteHome
from fedimg.operator_log import tell_operator
from fedimg.privacy.ledger import Ledger
from fedimg.simulation import participants


def close(homes: Mapping[str, Path], folder: RunFolder, *, public_data: bool, left: Collection[str]) -> None:
    """Close the run in every ledger and keep signed copies. Last of all, since a closed run cannot go on.

    Of receipts only those of public data are copied: a line an input is a count that depends on patients.
    Whatever kept a site of `left` away may keep its ledger from being closed too: its operator is told.
    """
    for name, root in homes.items():
        try:
            _close_at(SiteHome.open(root), name, folder, public_data=public_data)
        except FedimgError as fault:
            if name not in left:
                raise
            if root.is_dir():
                tell_operator(root, "closing the run", fault)


def _close_at(home: SiteHome, name: str, folder: RunFolder, *, public_data: bool) -> None:
    if (home.root / "plans" / f"{folder.run_id}.json").exists():
        ledger = Ledger.open(home.ledger, home.signing_key)
        try:
            ledger.close(folder.run_id)
            folder.write(f"ledgers/{name}.json", ledger.extract())
        finally:
            ledger.disconnect()
    if public_data and home.receipts.exists():
        shutil.copyfile(home.receipts, folder.path / "receipts" / f"{name}.jsonl")


def closed_again(config: Config, folder: RunFolder) -> dict[str, Any]:
    """The summary of a run that was stopped after it was written; what was left to close is closed."""
    content: dict[str, Any] = json.loads((folder.path / "summary.json").read_text())
    states = Path(config.state) if config.state else folder.path / "sites"
    homes = {name: states / name for name in content["sites"]}
    close(homes, folder, public_data="intake" in content, left=participants.left_in(content))
    return content
