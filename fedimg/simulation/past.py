"""A finished run of a simulation, opened again for audits: its model, its sites' data, its plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fedimg import client_round
from fedimg import config as configuration
from fedimg.client_round import Terms
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.models import Network
from fedimg.privacy import kept_plan
from fedimg.privacy.plan import PrivacyPlan
from fedimg.site_data import Loaded
from fedimg.values import Vector


@dataclass(frozen=True)
class PastRun:
    """What a run left behind. The sites' data are read again, behind the identity boundary, from their homes.

    Attributes:
        vector: (P,), the last model. homes: of the sites. public_data: generated, or declared public.
    """

    config: Config
    terms: Terms
    network: Network
    vector: Vector
    homes: Mapping[str, Path]
    public_data: bool

    @property
    def plans(self) -> dict[str, PrivacyPlan]:
        """Site → the plan that its ledger reserved; empty with `privacy=none`."""
        found = {}
        for name, root in self.homes.items():
            file = root / "plans" / f"{self.terms.run_id}.json"
            plan = kept_plan.kept(file, self.terms.privacy, self.terms.digest)
            if plan is not None:
                found[name] = plan
        return found

    def check_gradients(self, audit: str) -> None:
        """Raises ConfigError for a model that an audit of gradients of classes would say nothing about."""
        if self.network.task != "classification":
            raise ConfigError(
                f"a run that classifies images, to audit its {audit}",
                f"model.task={self.network.task}",
                "`fedimg audit empirical` and `site` look at what such a run released; `fedimg audit battery` at the "
                "mechanism",
            )
        if self.network.by_statistics:
            raise ConfigError(
                f"a run whose model is trained along gradients, to audit its {audit}",
                f"model={self.network.name}, which follows from sums of statistics",
                "`fedimg audit empirical` and `site` look at what such a run released; `fedimg audit battery` at the "
                "mechanism",
            )

    def features_at(self, site: str) -> Loaded:
        """A site's examples as the network's trainable part takes them."""
        return client_round.load(SiteHome.open(self.homes[site]), self.terms, self.network)

    def images_at(self, site: str) -> Loaded:
        """The same as images, (N, C, *spatial)."""
        through = replace(self.network, frozen=None, feature_shape=self.network.image_shape)
        return client_round.load(SiteHome.open(self.homes[site]), self.terms, through)


def open_past(folder: Path) -> PastRun:
    """Open a run's folder, changing nothing in it.

    Raises:
        DataError: no run there, or one that did not come to a first round's end.
    """
    if not (folder / "config.yaml").is_file():
        raise DataError("a run folder with a config.yaml", "none there", "name a folder below runs/")
    config = configuration.load(folder / "config.yaml")
    run = RunFolder(folder)
    terms = terms_of(config, run.run_id)
    checkpoint = run.last_checkpoint()
    if checkpoint is None:
        raise DataError("a run with a finished round", "none finished", "resume the run first")
    states = Path(config.state) if config.state else folder / "sites"
    homes = {root.name: root for root in sorted(states.iterdir()) if (root / "home.json").exists()}
    if not homes:
        raise DataError("the homes of the run's sites", "none", "audit a run whose state folder still exists")
    public = config.data.name == "cohort" or all(
        (root / "declared_public.json").exists() for root in homes.values()
    )
    vector = checkpoint[1]["parameters"].to(torch.float64).numpy().astype(np.float64)
    return PastRun(config, terms, own_network(terms), vector, homes, public)
