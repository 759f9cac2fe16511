"""PNG and JPEG pictures (scanned film, screen exports) named in a table, as `nifti` reads them."""

from __future__ import annotations

from collections.abc import Mapping

from fedimg.sources.config import DataConfig
from fedimg.sources.labelled_files import divide, read_listed_files
from fedimg.sources.manifest import SourceManifest

CARD = (
    "PNG and JPEG pictures of the operator's own, with a table of labels; they become Secondary Captures "
    "at the intake, text chunks and EXIF are dropped"
)


def load(config: DataConfig, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """See `labelled_files.read_listed_files` and `divide`. Raises ConfigError, DataError."""
    found = read_listed_files(config, "image", (".png", ".jpg", ".jpeg"))
    return divide(found, config, sites, seed, CARD)
