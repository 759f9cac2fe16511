"""A whole federation in one process: virtual hospitals, a coordinator, a report.

`simulate` reads as the run does: fill the homes, let every site join, run the
rounds, train the references, write what was found. Nothing here knows how a round
works (`client_round`, `server_round`) or how bytes travel (`engines`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fedimg import config as configuration
from fedimg import training
from fedimg.client_round import Site
from fedimg.config import Config
from fedimg.coordination import rounds, summary
from fedimg.coordination.folder import RunFolder, SweepPoint
from fedimg.coordination.terms import own_network, terms_of
from fedimg.errors import DataError, FedimgError
from fedimg.operator_log import tell_operator
from fedimg.privacy.kept_heads import KeptHeads
from fedimg.processes import refuse_while_starting
from fedimg.run_sums import sums_of
from fedimg.simulation import (
    asking,
    closing,
    coordinator,
    engines,
    finishing,
    participants,
    references,
    remarks,
    virtual,
)
from fedimg.simulation.clients import HeldData
from fedimg.simulation.virtual import Federation

__all__ = ["Run", "SweepPoint", "simulate"]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what `summary.json` says."""

    path: Path
    summary: Mapping[str, Any]


def simulate(
    config: Config,
    progress: Progress | None = None,
    overrides: Sequence[str] = (),
    point: SweepPoint | None = None,
) -> Run:
    """Run a federation to its end, or go on with one that was stopped (`config.resume`).

    Args:
        progress: called as (stage, done, total).
        overrides: what `config` was composed from, to be named in listings of runs.
        point: which point of a sweep this is; the release record says so, and a new `config.state` makes
            room for the whole sweep in its ledgers.

    Raises:
        FedimgError: what no site or coordinator could go on with. KeyboardInterrupt carries
            `run_path`, the folder to resume.
    """
    refuse_while_starting()
    report = progress or (lambda _stage, _done, _total: None)
    torch.set_num_threads(config.engine.threads)
    folder = RunFolder.open(Path(config.resume)) if config.resume else RunFolder.create(Path(config.runs))
    if not config.resume:
        folder.write("config.yaml", configuration.dump(config))
        folder.write("overrides.json", json.dumps(list(overrides)) + "\n")
        folder.note_sweep(point or SweepPoint())
    if config.resume and (folder.path / "summary.json").exists():
        return Run(folder.path, closing.closed_again(config, folder))
    try:
        return _simulate(config, folder, report)
    except KeyboardInterrupt as interrupt:
        interrupt.run_path = folder.path  # type: ignore[attr-defined] # read by the command line
        raise
    except Exception as fault:
        folder.note_failure(fault)
        raise


def _simulate(config: Config, folder: RunFolder, progress: Progress) -> Run:
    device = training.select_device(config.device)
    # a model that cannot take these images says so before the intake
    network = own_network(terms_of(configuration.settled(config, config.sites), folder.run_id))
    folder.note_start(network.origin)
    manifests = virtual.manifests_of(config, folder)
    config = configuration.settled(config, len(virtual.sites_of(manifests)))
    folder.write("config.yaml", configuration.dump(config))
    terms = terms_of(config, folder.run_id)
    federation = virtual.fill(config, terms, manifests, folder, device, progress)
    public = virtual.load_public(federation, terms)
    releases = coordinator.releases(federation.coordinator, terms)
    heads, held = virtual.heads_of(config, folder), HeldData()
    sites = _join(federation, heads, held, progress)
    # who was a client is what `client_level` protects: the run keeps no list of them
    left = participants.departed(folder, terms, sites) if releases is None else ()
    declared = {site.name: float(federation.declared[site.name]) for site in sites}
    server = rounds.make_server(config, terms, network, declared, public, releases)
    server.heads = heads
    if federation.roster is not None:
        server.sums = sums_of(terms, federation.roster, terms.update_size(network))
    names = tuple(site.name for site in sites)
    plans = coordinator.plans_of(releases, sites)

    with references.started(config, terms, federation, folder) as comparison:
        history = engines.run(
            config.engine,
            sites,
            federation,
            server.weights,
            held,
            lambda carrier: rounds.run_rounds(
                server,
                names,
                carrier,
                config,
                terms,
                folder=folder,
                plans=lambda: plans,
                progress=progress,
            ),
        )
        compared = comparison.results(progress)
    for ledger in [site.ledger for site in sites] + [releases.ledger if releases else None]:
        if ledger is not None:
            ledger.disconnect()
    run = finishing.finished(
        config, terms, federation, sites, plans, left, history, compared, comparison.note, folder
    )
    content = summary.write(run, folder)
    homes = {name: home for name, home in finishing.homes_of(federation).items() if name in run.participants}
    closing.close(homes, folder, public_data=federation.public_data, left=tuple(run.left))
    return Run(folder.path, content)


def _join(federation: Federation, heads: KeptHeads, held: HeldData, progress: Progress) -> list[Site]:
    """Every site that can takes part; one that cannot tells its operator, and the others go on.

    With `client_level` there may be thousands of them: their examples are not kept with them but in `held`,
    as far as there is room, and what every site is told stays in its own log.
    """
    sites: list[Site] = []
    refusals: list[tuple[str, FedimgError]] = []
    many, examples = federation.coordinator is not None, 0
    for number, setup in enumerate(federation.setups, start=1):
        try:
            known, rehearsed = heads.known(setup.name), many and bool(sites)
            site = virtual.open_site(setup, known_head=known, rehearsed=rehearsed)
        except FedimgError as refusal:
            tell_operator(Path(setup.root), "joining", refusal)
            refusals.append((setup.name, refusal))
        else:
            if site.ledger is not None:
                heads.joined(setup.name, site.ledger.head, site.ledger.last_reserved)
            data = site.data
            examples += len(data.train.labels)
            if many:
                held.put(site.name, data)
                site = replace(site, held=None)
            else:
                remarks.after_loading(site, federation.classes)
            sites.append(site)
        progress("sites joining", number, len(federation.setups))
    if not sites:
        raise asking.nobody_joins(refusals)
    if not examples:
        raise DataError(
            "at least one site with examples to train on",
            "none at any site",
            "`fedimg site log` on a site's home says what was held back, and what to do",
        )
    return sites
