"""NIfTI volumes in a folder, named in a table: path, patient_id, label, and optionally site and split."""

from __future__ import annotations

from collections.abc import Mapping

from fedimg.sources.config import DataConfig
from fedimg.sources.labelled_files import divide, read_listed_files
from fedimg.sources.manifest import SourceManifest

CARD = "NIfTI files of the operator's own, with a table of labels; text fields are dropped at the intake"


def load(config: DataConfig, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    """See `labelled_files.read_listed_files` and `divide`. Raises ConfigError, DataError."""
    found = read_listed_files(config, "nifti", (".nii", ".nii.gz"))
    return divide(found, config, sites, seed, CARD)
