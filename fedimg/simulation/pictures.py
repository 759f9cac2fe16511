"""Generated images before and after de-identification, for the report. Never of real patients."""

from __future__ import annotations

from pathlib import Path

from fedimg.dicom import pixels
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.reader import read_dataset
from fedimg.dicom.refusal import Quarantined
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.report import ImagePair
from fedimg.report.png import png_of, window_of
from fedimg.values import DeidentifiedRecord


def before_and_after(
    home: SiteHome,
    project: str,
    records: tuple[DeidentifiedRecord, ...],
    raw: tuple[Path, ...],
    *,
    generated: bool,
) -> tuple[ImagePair, ...]:
    """One pair a modality.

    Args:
        home: the site whose key made the pseudonyms. records: what it released.
        raw: generated input files, in the order in which they are looked at.

    Raises:
        DataError: the data are not generated.
    """
    if not generated:
        raise DataError("generated data", "other data", "pictures belong in the site's own report")
    released = {record.instance_key: record for record in records}
    names = Pseudonyms(home.site_key, project)
    pairs: dict[str, ImagePair] = {}
    for path in raw:
        try:
            uid = str(read_dataset(path).get("SOPInstanceUID", ""))
            record = released.get(names.uid(uid))
            if record is None or record.modality in pairs:
                continue
            before = pixels.decode(path).pixels_DHW[0]
            after = pixels.decode(home.released / record.path).pixels_DHW[0]
            # One window for both: what was burnt in and is gone would else make the rest brighter.
            window = window_of(after)
            pairs[record.modality] = ImagePair(
                f"{record.modality}, generated: as acquired, and as released",
                png_of(before, window),
                png_of(after, window),
            )
        except Quarantined:
            continue  # one of the files that the generator breaks on purpose
    return tuple(pairs[modality] for modality in sorted(pairs))
