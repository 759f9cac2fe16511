"""Generated images before and after de-identification, for the run's report. Never of real patients."""

from __future__ import annotations

from collections.abc import Sequence

from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig
from fedimg.intake.comparing import compare
from fedimg.intake.tally import tally
from fedimg.report import ImagePair
from fedimg.report.png import both_of
from fedimg.values import SourceItem


def before_and_after(
    home: SiteHome, config: IntakeConfig, inputs: Sequence[SourceItem], *, generated: bool
) -> tuple[ImagePair, ...]:
    """One pair a modality, one with filled areas where there is any.

    Args:
        inputs: the generated files that the home was filled from.

    Raises:
        DataError: the data are not generated.
    """
    if not generated:
        raise DataError("generated data", "other data", "pictures belong in the site's own report")
    pairs: dict[str, ImagePair] = {}
    for shown in compare(home, inputs, config, tally(home).examples):
        before, after = both_of(shown.before_HW, shown.after_HW)
        if before is None:
            continue  # a home filled by an earlier run, from files that are gone
        modality = shown.example.modality
        pairs[modality] = ImagePair(f"{modality}, generated: as acquired, and as released", before, after)
    return tuple(pairs[modality] for modality in sorted(pairs))
