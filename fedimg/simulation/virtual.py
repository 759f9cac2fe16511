"""Virtual hospitals: each with a home of its own, filled through the same intake as a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from fedimg import client_round, sources, taking_in
from fedimg.client_round import Site, Terms
from fedimg.config import Config
from fedimg.coordination.folder import RunFolder
from fedimg.coordination.terms import own_network
from fedimg.errors import ConfigError, DataError
from fedimg.home import SiteHome
from fedimg.intake import IntakeResult
from fedimg.privacy.calibration import SCRATCH_HEADROOM
from fedimg.privacy.client_level import MODE
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.privacy.ledger import Head
from fedimg.privacy.plan import PrivacyRequest, scratch_ledger
from fedimg.privacy.policy import SitePolicy
from fedimg.secagg.roster import Roster
from fedimg.simulation import asking, coordinator, provisioning, remarks
from fedimg.site_data import Loaded
from fedimg.sources import SourceManifest
from fedimg.sources.manifest import declared
from fedimg.values import SiteDataset, SourceItem

PUBLIC = "public"
SOURCE = ".source"  # among homes; no site has such a name
Progress = Callable[[str, int, int], None]
Manifests = Mapping[str, SourceManifest]


@dataclass(frozen=True)
class SiteSetup:
    """All that is needed to open a virtual site, in this process or in another one."""

    name: str
    root: str
    terms: Terms
    device: str
    threads: int


@dataclass(frozen=True)
class Federation:
    """The virtual sites of a run, before any of them has joined.

    Attributes:
        setups: one a site, in the order of names.
        declared: each site's declared number of patients, from the source's public card.
        intake: what each site's intake did; empty for sites that were filled in an earlier run.
        cards: what the data are and how they were admitted, for the report.
        public_data: whether every source is generated or declared public.
        generated: the inputs of generated data, for the report's pictures.
        coordinator: the home of the coordinator's own ledger, with `client_level`.
        roster: of secure sums, as every site has pinned it.
    """

    setups: tuple[SiteSetup, ...]
    declared: Mapping[str, int]
    intake: Mapping[str, IntakeResult]
    cards: tuple[str, ...]
    public_data: bool
    classes: tuple[str, ...]
    unit: Literal["patient", "image"]
    public_home: Path | None
    generated: Mapping[str, Sequence[SourceItem]]
    coordinator: Path | None = None
    roster: Roster | None = None


def open_site(
    setup: SiteSetup, data: Loaded | None = None, known_head: Head | None = None, *, rehearsed: bool = False
) -> Site:
    """Open a virtual site's home and let it join; `known_head` is what the server keeps of its ledger."""
    torch.set_num_threads(setup.threads)
    home, device = SiteHome.open(Path(setup.root)), torch.device(setup.device)
    return client_round.join(home, setup.name, setup.terms, device, data, known_head, rehearsed=rehearsed)


def manifests_of(config: Config, run: RunFolder) -> Manifests:
    """Every site's share of the configured source, and under "public" the server's set, if there is one."""
    # As long-lived as the homes: generated files that are found again where they were are not read again.
    folder = Path(config.state) / SOURCE if config.state else run.path / "source"
    return sources.load(config.data, folder, config.sites, config.seed)


def sites_of(manifests: Manifests) -> list[str]:
    return sorted(name for name in manifests if name != PUBLIC)


def fill(
    config: Config,
    terms: Terms,
    manifests: Manifests,
    run: RunFolder,
    device: torch.device,
    progress: Progress,
) -> Federation:
    """Make the sites' homes, and take every input through the identity boundary."""
    classes = next(iter(manifests.values())).classes
    check_classes(classes, terms.model.classes)
    states = Path(config.state) if config.state else run.path / "sites"
    intake: dict[str, IntakeResult] = {}
    names = sites_of(manifests)
    if config.data.partition == "manifest" and len(names) != config.sites:
        remarks.of_sites(len(names), config.sites)
    if not names:
        raise DataError("at least one site in the data source", "none", "check the manifest's site column")
    sweep = run.sweep.epsilon if config.state else 0.0
    for name in names:
        _make_home(states / name, name, manifests[name], config, sweep)
        taking_in.bind(states / name, config)
    own = coordinator.home_in(states, terms, names)
    if own is not None:
        make_scratch_home(own, coordinator.NAME, declared(len(names)), config, config.privacy, sweep)
    roster = provisioning.provisioned(states, names, config)
    size = terms.update_size(own_network(terms))
    asking.ask([(name, states / name) for name in names], terms, size, heads_of(config, run), own)
    for name in names:
        root = states / name
        intake[name] = _take_in(SiteHome.open(root), manifests[name], config, name, progress)
    public_home = fill_public(config, manifests, run, progress)
    parts = [manifests[name] for name in names]
    setups = tuple(
        SiteSetup(name, str((states / name).resolve()), terms, str(device), config.engine.threads)
        for name in names
    )
    return Federation(
        setups,
        {name: SitePolicy.load(states / name / "policy.yaml").declared_patients for name in names},
        intake,
        tuple(dict.fromkeys(part.card for part in manifests.values())),
        all(part.public_data for part in parts),
        parts[0].classes,
        parts[0].unit,
        public_home,
        {name: manifests[name].items for name in names if config.data.name == "cohort"},
        own,
        roster,
    )


def fill_public(config: Config, manifests: Manifests, run: RunFolder, progress: Progress) -> Path | None:
    """The home of the server's own set, filled; None where the source has none."""
    if PUBLIC not in manifests:
        return None
    root = run.path / "public"
    if not (root / "home.json").exists():
        SiteHome.create(root, simulated=True, insecure_seed=_insecure_seed(config, PUBLIC))
    _take_in(SiteHome.open(root), manifests[PUBLIC], config, PUBLIC, progress)
    return root


def check_classes(classes: Sequence[str], expected: int) -> None:
    """Raises ConfigError where a model has not as many classes as its data."""
    if len(classes) != expected:
        raise ConfigError(
            f"model.classes={len(classes)} for this data source ({', '.join(classes)})",
            f"model.classes={expected}",
            f"add model.classes={len(classes)}",
        )


def heads_of(config: Config, run: RunFolder) -> KeptHeads:
    """The heads that the server keeps: as long as the sites' homes."""
    return KeptHeads((Path(config.state) if config.state else run.path) / "ledger-heads.json")


def load_public(federation: Federation, terms: Terms) -> SiteDataset | None:
    """The server's own held-out set, released and receipted like any other data."""
    if federation.public_home is None:
        return None
    everything = replace(terms, validation_fraction=0.0)
    home = SiteHome.open(federation.public_home)
    return client_round.load(home, everything, own_network(terms)).train


def make_scratch_home(
    root: Path, name: str, declared: int, config: Config, privacy: PrivacyRequest, sweep: float = 0.0
) -> SiteHome:
    """A home with a policy and a scratch ledger that live as long as the run, or as `config.state`.

    `sweep` is the sum of ε over the points of a sweep on one state folder: each is charged to the same ledger,
    so a new ledger opens with room for all of them.
    """
    if (root / "home.json").exists():
        home = SiteHome.open(root)
    else:
        home = SiteHome.create(root, simulated=True, insecure_seed=_insecure_seed(config, name))
    if not home.policy.exists():
        provisioning.write_policy(home, declared, config, privacy, max(10.0, privacy.epsilon, sweep))
    # A ledger that has been used and is gone is a loss, and is not made anew: `Ledger.open` refuses.
    charged = privacy.mode != "none" and (privacy.mode != MODE or name == coordinator.NAME)
    if charged and not home.ledger.exists() and not (root / "plans").exists():
        policy, room = SitePolicy.load(home.policy), SCRATCH_HEADROOM * sweep if sweep else None
        scratch_ledger(home.ledger, home.signing_key, privacy, policy, room).disconnect()
    return home


def _insecure_seed(config: Config, name: str) -> str | None:
    """In the insecure test mode pseudonyms repeat too, since they decide the order of patients."""
    return f"{config.seed}/{name}" if config.insecure_test_mode else None


def _make_home(root: Path, name: str, manifest: SourceManifest, config: Config, sweep: float) -> None:
    declared = (manifest.declared_patients or {}).get(name)
    if declared is None:
        raise DataError(
            f"a declared number of patients for {name}", "none", "set data.declared_patients for your source"
        )
    make_scratch_home(root, name, declared, config, config.privacy, sweep)


def _take_in(
    home: SiteHome, manifest: SourceManifest, config: Config, name: str, progress: Progress
) -> IntakeResult:
    taken = taking_in.take_in(
        home, manifest, config.deid, name, lambda done, total: progress(f"reading at {name}", done, total)
    )
    given = len(manifest.items) + sum(map(len, manifest.held_back.values()))
    remarks.after_intake(name, home.root, given, taken)
    return taken
