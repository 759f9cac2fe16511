"""Generated images before and after de-identification, for the report. Never of real patients."""

from __future__ import annotations

from pathlib import Path

from fedimg.dicom import pixels
from fedimg.dicom.pseudonyms import Pseudonyms
from fedimg.dicom.reader import Quarantined, read_dataset
from fedimg.errors import DataError
from fedimg.home import SiteHome
from fedimg.report import ImagePair
from fedimg.report.png import png_of
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
            pairs[record.modality] = ImagePair(
                f"{record.modality}, generated: as acquired, and as released",
                png_of(pixels.decode(path).pixels_DHW[0]),
                png_of(pixels.decode(home.released / record.path).pixels_DHW[0]),
            )
        except Quarantined:
            continue  # one of the files that the generator breaks on purpose
    return tuple(pairs[modality] for modality in sorted(pairs))
