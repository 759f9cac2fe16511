"""The site's own report of its de-identification: exact counts, and images before and after. Mode 0600."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from fedimg.durable import write_durably
from fedimg.errors import LedgerError
from fedimg.home import ReleaseFolder, SiteHome
from fedimg.intake import REMEDIES, FolderInputs, IntakeConfig
from fedimg.intake.comparing import Compared, compare
from fedimg.intake.tally import tally
from fedimg.operator_log import ranges
from fedimg.privacy.course import course
from fedimg.privacy.ledger import Statement
from fedimg.privacy.stated import statement_of
from fedimg.report import SitePair, SiteReportData, render_site
from fedimg.report.png import both_of
from fedimg.values import Quarantine, SourceItem

NAME = "report.html"
_MOST_POSITIONS = 2000  # of one reason, before the list is cut


def write(
    file: Path,
    folder: ReleaseFolder,
    config: IntakeConfig,
    inputs: Sequence[SourceItem] | FolderInputs = (),
    *,
    name: str = "",
    before_intake: Mapping[Quarantine, int] | None = None,
    bytes_in: int | None = None,
) -> None:
    """Write the report of everything that a folder's receipts say; replaces an earlier one.

    Args:
        file: at the site: it may show patients. inputs: what the folder was filled from; without them
            there are no pictures from before. name: the site's; the folder's if empty.
        before_intake: held back when a source was divided among sites. bytes_in: of all released inputs.

    Raises ReceiptError where the receipts do not verify.
    """
    found, spent = tally(folder), _ledger(folder)
    held = {reason.value: (len(at), _positions(at)) for reason, at in found.held.items()}
    data = SiteReportData(
        name=name or folder.root.name,
        simulated=isinstance(folder, SiteHome) and folder.simulated,
        profile=found.profile,
        project=found.project,
        inputs=found.inputs,
        released=found.released,
        bytes_released=found.bytes_released,
        bytes_in=bytes_in,
        held=held,
        before={reason.value: count for reason, count in (before_intake or {}).items() if count},
        remedies={reason.value: text for reason, text in REMEDIES.items()},
        actions=found.actions,
        private=found.private,
        layers=found.layers,
        masked=found.masked,
        modalities=found.modalities,
        pairs=[_pair(shown) for shown in compare(folder, inputs, config, found.examples)],
        ledger=course(spent) if spent is not None else (),
        ledger_terms=(spent.terms.epsilon_max, spent.terms.delta) if spent is not None else (0.0, 0.0),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    write_durably(file, render_site(data))


def _ledger(folder: ReleaseFolder) -> Statement | None:
    """The site's number over time; single patients are not in it. None without a ledger that verifies."""
    if not isinstance(folder, SiteHome) or not folder.ledger.exists():
        return None
    try:
        return statement_of(folder.ledger, folder.signing_key)
    except LedgerError:  # training refuses and says why; here it is a figure less
        return None


def _positions(found: Sequence[int]) -> str:
    more = " …" if len(found) > _MOST_POSITIONS else ""
    return ranges(sorted(found)[:_MOST_POSITIONS]) + more


def _pair(shown: Compared) -> SitePair:
    example = shown.example
    areas = {0: "nothing filled", 1: "1 area filled"}
    done = areas.get(len(example.masked), f"{len(example.masked)} areas filled")
    caption = f"{example.modality}, run position {example.position}: {done}"
    return SitePair(caption, *both_of(shown.before_HW, shown.after_HW))
