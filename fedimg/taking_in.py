"""A data source into a home: what is declared public as it is, everything else through the identity boundary."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from fedimg import client_round, declared_public, site_report
from fedimg.config import Config
from fedimg.durable import write_durably
from fedimg.errors import ConfigError
from fedimg.home import SiteHome
from fedimg.intake import IntakeConfig, IntakeResult
from fedimg.operator_log import note_held_back
from fedimg.sources import SourceManifest
from fedimg.values import Quarantine


def take_in(
    home: SiteHome,
    manifest: SourceManifest,
    config: IntakeConfig,
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> IntakeResult:
    """Admit a site's share of a source; what was held back is told to its operator, and stands in its own report.

    Inputs that have a decision already are not read again. `name`: of the site, for its report.
    """
    if manifest.arrays is not None and not (home.root / "declared_public.json").exists():
        arrays = manifest.arrays
        declared_public.admit_arrays(
            home.root,
            declared_public.PublicArrays(arrays.images, arrays.labels, arrays.patient_keys),
            manifest.card,
            home.signing_key,
        )
    if manifest.arrays is not None and not manifest.items:
        return IntakeResult(
            (), {}, 0, 0
        )  # a thousand clients of public arrays need no thousand empty intakes
    result = client_round.admit(manifest.items, home, config, progress)
    refused = {reason: len(items) for reason, items in manifest.held_back.items()}
    note_held_back(home.root, "dividing the source among sites", refused)
    note_held_back(home.root, "intake", result.quarantined, result.positions)
    together = Counter(result.quarantined) + Counter(refused)
    if not manifest.public_data:
        _own_report(home, manifest, config, name, result, refused)
    return replace(result, quarantined=together)


def bind(root: Path, config: Config) -> None:
    """Refuse to fill a home that outlives its run from another source, division or project.

    Its released files would be those of both: one patient under two pseudonyms is two units, at two
    sites where one is declared, and real files beside generated ones would be taken for public.
    """
    deid = asdict(config.deid)
    del deid["workers"]
    source = {"data": asdict(config.data), "deid": deid, "seed": config.seed, "sites": config.sites}
    text = json.dumps(source, sort_keys=True, default=list)
    digest, file = hashlib.sha256(text.encode()).hexdigest(), root / "source.sha256"
    if not file.exists():
        write_durably(file, digest)
    elif file.read_text() != digest:
        raise ConfigError(
            "the data, deid, seed and sites that this home was filled with",
            "others",
            "use the same ones, or another folder",
        )


def _own_report(
    home: SiteHome,
    manifest: SourceManifest,
    config: IntakeConfig,
    name: str,
    result: IntakeResult,
    refused: Mapping[Quarantine, int],
) -> None:
    """Counts and pictures of patients' data stay in the site's home; no run's report shows either."""
    site_report.write(
        home.root / site_report.NAME,
        home,
        config,
        manifest.items,
        name=name,
        before_intake=refused,
        bytes_in=result.bytes_taken,
    )
