"""What a comparison costs the patients in its data, in sentences: before it is run, and of the runs that were made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedimg import record
from fedimg.compare.rows import Row
from fedimg.coordination.folder import RunFolder
from fedimg.errors import ConfigError
from fedimg.record.together import together
from fedimg.report.blocks import epsilon_text

_ADAPTIVE = (
    "They were not all asked for at once: if one was chosen after seeing another, this number does not hold, and what "
    "the ledgers allow in all is the bound."
)


@dataclass(frozen=True, slots=True)
class Charges:
    """What a comparison asks of its homes.

    Attributes:
        private, without: rows with privacy, and without; baselines are neither. left: of the private ones, still to be made.
        epsilon: the sum of what the private ones ask for.
        homes: where the homes are. own: whether they were made for this comparison alone.
        earlier: runs of rows that are asked otherwise now.
    """

    private: int
    without: int
    left: int
    epsilon: float
    homes: str
    own: bool
    earlier: int = 0


def ahead(charges: Charges) -> tuple[str, ...]:
    """What the rows that are still to be made will be charged."""
    said = []
    if charges.private:
        said.append(
            f"{_counted(charges.private, 'run')} with privacy, {charges.left} still to be made: each is charged to the "
            "ledger of every site. They compose: whoever's data are in all of them is exposed to all of them, whichever "
            f"row is kept. Their ε add up to {charges.epsilon:g}, and so do their δ."
        )
        said.append(_ledgers(charges))
    if charges.without:
        said.append(f"{_counted(charges.without, 'run')} without privacy: nothing is promised to anyone.")
    return tuple(said)


def spent(rows: Sequence[Row], charges: Charges | None = None) -> tuple[str, ...]:
    """What the finished rows cost together, from the plans that their sites signed."""
    done = [row for row in rows if row.state == "finished"]
    private = [row for row in done if row.private]
    said = []
    if private:
        said.append(_composed(private))
    without = sum(not row.private and not row.baseline for row in done)
    if private and without:
        said.append(
            f"{_counted(without, 'row')} without privacy: where the same people's data are in these too, the "
            "comparison as a whole protects nobody."
        )
    known = {row.public for row in done if not row.baseline}
    if known == {True}:
        said.append(
            "The data are generated or declared public: no patient's secret was spent, and ε is what such runs would promise."
        )
    elif False in known:
        said.append(
            "The data are of patients: every row was paid for by them, and so is the choice of the best."
        )
    if charges is not None and charges.private:
        said.append(_ledgers(charges))
    if charges is not None and charges.earlier:
        said.append(
            f"{_counted(charges.earlier, 'run')} with other settings, begun by earlier calls, lie beside these: they were charged "
            "too and stand in no row. `fedimg ledger show` on a home says what its ledger holds."
        )
    return tuple(said)


def _ledgers(charges: Charges) -> str:
    if charges.own:
        return (
            "The sites' homes are this comparison's own, and so are their ledgers: what the same patients "
            "are charged elsewhere they do not know of. Homes whose ledgers count are named with state=FOLDER."
        )
    return (
        f"The ledgers of the homes in {charges.homes} are charged run by run; a site whose policy or budget does not allow a "
        "row refuses it, and the row says so."
    )


def _composed(private: Sequence[Row]) -> str:
    """ε of all private rows, where they are of the same data and their records are all there."""
    files = [Path(row.run) / record.FILE for row in private]
    runs = _counted(len(private), "run")
    if len({row.data for row in private}) > 1:
        return f"{runs} with privacy, of different data: what they cost together is not known here."
    try:
        found = together(files) if all(file.is_file() for file in files) else None
    except ConfigError:  # noises of two kinds, which no one accountant adds up
        return f"{runs} with privacy, whose noises are of several kinds: what they cost together is not known here."
    if found is None or found.epsilon is None:
        return (
            f"{runs} with privacy, not all with a release record: what they cost together is not known here."
        )
    said = (
        f"{runs} with privacy together: ε = {epsilon_text(found.epsilon)} at δ = {found.delta:g} for one {found.unit} whose data "
        "are in all of them, whichever row is kept."
    )
    return said if _fixed_beforehand(private) else f"{said} {_ADAPTIVE}"


def _fixed_beforehand(private: Sequence[Row]) -> bool:
    """Whether all of them were asked for at once, as points of the same sweep."""
    sweeps = {(sweep.points, sweep.epsilon) for row in private for sweep in [RunFolder(Path(row.run)).sweep]}
    return len(private) == 1 or (len(sweeps) == 1 and next(iter(sweeps))[0] >= len(private))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
