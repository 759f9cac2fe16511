"""From a configuration to the manifests of all sites."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import cast

from fedimg.errors import DataError
from fedimg.models import extensions
from fedimg.sources import cohort, dicom, images, medmnist, nifti, table_rows
from fedimg.sources.config import BUILT_IN, DataConfig
from fedimg.sources.labelled_files import is_site_name
from fedimg.sources.manifest import PUBLIC, SourceManifest

Source = Callable[[DataConfig, Path, int, int], Mapping[str, SourceManifest]]
"""What an entry point in `fedimg.sources` is: (config, workdir, sites, seed) → manifests."""


def load(
    config: DataConfig, workdir: Path, sites: int, seed: int, allowed_extensions: Collection[str] = ()
) -> Mapping[str, SourceManifest]:
    """Every site's share of the configured source, and under "public" the server's held-out set, if any.

    Args:
        workdir: where generated or fetched files may be put; reused if they are there already.
        sites: how many, unless a manifest's site column says which.
        seed: of generation and division; the result is a function of config, files, sites and seed.
        allowed_extensions: digests of entry points that may run here; others are not even imported.
    Raises ConfigError, DataError; PolicyRefused for an entry point that is not allowed.
    """
    if config.name in BUILT_IN:
        return _built_in(config, workdir, sites, seed)
    extension = extensions.find("fedimg.sources", config.name, BUILT_IN)
    source = cast("Source", extension.load(allowed_extensions))
    return _checked(source(config, workdir, sites, seed), config.name)


def _built_in(config: DataConfig, workdir: Path, sites: int, seed: int) -> Mapping[str, SourceManifest]:
    if config.name == "cohort":
        return cohort.load(config, workdir, sites, seed)
    if config.name == "medmnist":
        return medmnist.load(config, workdir, sites, seed)
    tables: Mapping[str, Callable[[DataConfig, int, int], Mapping[str, SourceManifest]]] = {
        "dicom": dicom.load,
        "nifti": nifti.load,
        "images": images.load,
        "tabular": table_rows.load,
    }
    return tables[config.name](config, sites, seed)


def _checked(manifests: object, name: str) -> Mapping[str, SourceManifest]:
    """Sites become folder names and messages: what another package returns is looked at first."""
    fits = isinstance(manifests, Mapping) and all(
        isinstance(site, str)
        and (site == PUBLIC or is_site_name(site))
        and isinstance(manifest, SourceManifest)
        for site, manifest in manifests.items()
    )
    if not fits:
        expected = f"data source {name} to return a SourceManifest per site"
        raise DataError(expected, "something else", "correct the package that brings it")
    return cast("Mapping[str, SourceManifest]", manifests)
