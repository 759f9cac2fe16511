"""Asking for a run: its whole configuration is judged here, before a server or a site hears of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedimg import config as configuration
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import COORDINATOR, own_network, terms_of
from fedimg.errors import ConfigError, DataError
from fedimg.privacy.client_level import MODE
from server.federation_folder import RUNS, FederationFolder
from server.registry import Registry

# What a federation between machines has by itself, or what only a simulation has.
_NOT_HERE = ("sites", "state", "resume", "runs", "compare", "engine", "data.path", "data.partition")


def submit(root: Path, overrides: Sequence[str]) -> str:
    """Queue a run for the members of a federation's last bundle, and return its name.

    Raises:
        ConfigError: a key that has no meaning here, or values that do not fit these members. DataError: no members.
    """
    last = FederationFolder(root).last()
    if last is None or not last.manifest.members:
        raise DataError(
            "a federation with members, and a bundle of them", "none yet", f"fedimg provision bundle {root}"
        )
    config = _composed(overrides, sorted(last.manifest.members))
    own_network(terms_of(config, "asked"))  # a model that cannot take these images says so at once
    folder = RunFolder.create(root / RUNS)
    for name in ("ledgers", "receipts"):  # both stay at the sites
        (folder.path / name).rmdir()
    folder.write("config.yaml", configuration.dump(replace(config, runs=str(root / RUNS))))
    folder.write("overrides.json", json.dumps(list(overrides)) + "\n")
    with Registry(root) as registry:
        registry.add(folder.run_id, config.rounds)
    return folder.run_id


def _composed(overrides: Sequence[str], names: Sequence[str]) -> Config:
    for line in overrides:
        key = line.lstrip("+~").partition("=")[0]
        if key in _NOT_HERE or key.partition(".")[0] in _NOT_HERE:
            raise ConfigError(
                "keys of a run between machines",
                key,
                "leave it out: members are in the federation's bundle, data and homes at the sites",
            )
    config = configuration.compose([*overrides, f"sites={len(names)}", "compare=false"])
    config = configuration.settled(config, len(names))
    start = config.federation.start_with
    against = {
        f"a site named {COORDINATOR}": COORDINATOR in names,
        f"privacy={MODE}, whose clients are virtual": config.privacy.mode == MODE,
        f"federation.start_with={start} of {len(names)} sites": start is not None and start > len(names),
        f"aggregation.min_sites={config.aggregation.min_sites} of {len(names)} sites": config.aggregation.min_sites
        > len(names),
        "aggregation.weights=uniform with secure sums, which go by the weights in the bundle": (
            config.secagg.name != "none" and config.aggregation.weights == "uniform"
        ),
    }
    for found, stands_against in against.items():
        if stands_against:
            raise ConfigError("a run that these members can do", found, "change it")
    return config
