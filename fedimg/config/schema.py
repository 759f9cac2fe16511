"""The whole configuration of a run, as one frozen tree.

Each station owns its own section; only what belongs to no station is declared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal

from fedimg.aggregation import AggregationConfig
from fedimg.audit.config import AuditConfig
from fedimg.config.course import check_course
from fedimg.config.evaluation import EvaluationConfig, at_least
from fedimg.config.patience import FederationConfig
from fedimg.config.tasks import check_groups, check_labels, check_modalities
from fedimg.errors import ConfigError
from fedimg.imaging.preprocessing import ImagingConfig
from fedimg.intake import IntakeConfig
from fedimg.models import ModelConfig
from fedimg.models.classical_config import CLASSICAL
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest
from fedimg.robust import OVER_GROUPS, least_sites
from fedimg.secagg.config import SecaggConfig
from fedimg.secagg.graph import COMPLETE_UP_TO
from fedimg.secagg.plan import LEAST_SITES
from fedimg.sources import DataConfig
from fedimg.terms import check
from fedimg.training import LocalTraining

# Two stations need these; conf/config.yaml derives the first from the second.
SAID_ONCE = {
    "privacy.rounds": "rounds",
    "privacy.local_steps": "training.local_steps",
    "privacy.evaluations": "evaluation.site_evaluations",
    "privacy.max_sites_per_patient": "data.max_sites_per_patient",
    "model.dimensions": "imaging.dimensions",
    "imaging.features": "data.features",
    "model.image_size": "imaging.image_size",
}

_LEAST = {"sites": 1, "seed": 0, "rounds": 1}


@dataclass(frozen=True)
class EngineConfig:
    """Who calls the sites' steps; the steps are the same.

    `fused` trains the chosen sites of a round in one batched call (`privacy=none` and `client_level`
    only; equal to the separate calls within 1e-6). `workers` are processes, 0 meaning one per core;
    `threads` are torch's threads in each process.
    """

    name: Literal["inprocess", "ray"] = "inprocess"
    fused: bool = False
    workers: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        at_least("engine.workers", self.workers, 0)
        at_least("engine.threads", self.threads, 1)


@dataclass(frozen=True)
class Config:
    """One run.

    Attributes:
        sites: number of virtual sites where the data source leaves it open.
        seed: initial weights, partition and generated cohort; never sampling or noise.
        rounds: rounds of federation.
        state: folder of site homes that outlive this run; None makes fresh ones below the run.
        runs: folder in which the run's own folder is made.
        resume: folder of a stopped run to go on with.
        insecure_test_mode: seeds sampling and noise too; such a run is never called private.
        compare: also train every site alone and all data pooled, for the report.
        experiment: name of the experiment file that set the defaults, if any.
        tuned_on: the data that the settings were chosen on, in words for the report; None says nothing.
        device: where tensors live; "auto" takes a GPU where there is one.
    """

    sites: int = 4
    seed: int = 0
    rounds: int = 30
    state: str | None = None
    runs: str = "runs"
    resume: str | None = None
    insecure_test_mode: bool = False
    compare: bool = True
    experiment: str | None = None
    tuned_on: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: DataConfig = field(default_factory=DataConfig)
    imaging: ImagingConfig = field(default_factory=ImagingConfig)
    deid: IntakeConfig = field(default_factory=IntakeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: LocalTraining = field(default_factory=LocalTraining)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    privacy: PrivacyRequest = field(default_factory=PrivacyRequest)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    secagg: SecaggConfig = field(default_factory=SecaggConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)

    def __post_init__(self) -> None:
        check_counts({name: getattr(self, name) for name in _LEAST})
        for derived, source in SAID_ONCE.items():
            _agree(self, derived, source)
        if self.privacy.mode == "client_level" and self.aggregation.cohort:
            raise ConfigError(
                "aggregation.cohort=0 with privacy=client_level, whose cohorts are Poisson samples",
                str(self.aggregation.cohort),
                "set privacy.expected_batch_size, the clients in a round on average",
            )
        check(self)
        check_labels(self.data, self.model)
        check_groups(self.data, self.evaluation.subgroups)
        check_modalities(self.data, self.imaging)
        check_course(self.training, self.aggregation, fused=self.engine.fused)
        if self.model.name in CLASSICAL:
            _check_sums_of_statistics(self)
        if self.secagg.name == "pairwise":
            _refuse_first(_against_sums(self, self.sites), _sums_of(self), "secagg=none")
        if self.privacy.mode == DISTRIBUTED:
            _check_distributed(self)
        if self.aggregation.robust != "none":
            _check_robust(self)
        if self.model.centring_rounds:
            _check_centring(self)


def _check_sums_of_statistics(config: Config) -> None:
    """What a round brings is the sum over all patients, and a model follows from it: nothing steps along it."""
    own = config.aggregation
    where = {
        f"aggregation.name={own.name}": own.name != "fedavg",
        f"aggregation.learning_rate={own.learning_rate:g}": own.learning_rate != 1,
        f"aggregation.ema={own.ema:g}": own.ema > 0,
        f"aggregation.weights={own.weights}": own.weights != "declared",
        f"aggregation.robust={own.robust}": own.robust != "none",
        "engine.fused=true": config.engine.fused,
    }
    _refuse_first(where, f"the plain weighted mean with model={config.model.name}", "aggregation=fedavg")


def _check_robust(config: Config) -> None:
    """Rules that look at single updates need them, and enough of them."""
    rule, asked = config.aggregation.robust, config.aggregation.cohort or config.sites
    least, groups = least_sites(rule, config.aggregation.liars), config.secagg.groups
    whom = f"for aggregation.robust={rule} against {config.aggregation.liars}"
    where = {
        "privacy=client_level": config.privacy.mode == "client_level",
        "engine.fused=true": config.engine.fused,
    }
    if groups > 1:
        where |= {
            f"aggregation.robust={rule}": rule not in OVER_GROUPS,
            f"secagg.groups={groups}": groups < least,
        }
        expected = f"the median or trimmed mean over at least {least} groups' sums, {whom}"
    else:
        where |= {
            f"secagg={config.secagg.name}": config.secagg.name == "pairwise",
            f"{asked} sites in a round": asked < least and config.data.partition != "manifest",
        }
        expected = f"updates that the coordinator sees one by one, of at least {least} sites, {whom}"
    _refuse_first(where, expected, "aggregation.robust=none")


def settled(config: Config, sites: int) -> Config:
    """The configuration with `secagg=auto` decided, once it is known how many sites the data source has.

    Raises ConfigError where the run stands on secure sums and cannot have them.
    """
    if config.secagg.name != "auto":
        return config
    against = _against_sums(config, sites) | {
        f"aggregation.robust={config.aggregation.robust}": config.aggregation.robust != "none"
        and config.secagg.groups == 1,
        f"{sites} sites": sites > COMPLETE_UP_TO,
    }
    if config.privacy.mode == DISTRIBUTED:
        _refuse_first(against, _sums_of(config), "privacy=per_site")
    name: Literal["none", "pairwise"] = "none" if any(against.values()) else "pairwise"
    return replace(config, secagg=replace(config.secagg, name=name))


def _against_sums(config: Config, sites: int) -> dict[str, bool]:
    """What adds updates up by itself, or sees them one by one on purpose, has no secure sum."""
    return {
        "privacy=client_level": config.privacy.mode == "client_level",
        "engine.fused=true": config.engine.fused,
        f"aggregation.cohort={config.aggregation.cohort}": config.aggregation.cohort > 0,
        f"sites={sites}": sites < LEAST_SITES * config.secagg.groups,
        f"secagg.groups={config.secagg.groups}": config.secagg.groups > 1
        and config.aggregation.robust == "none",
    }


def _sums_of(config: Config) -> str:
    asked = f"secagg={config.secagg.name}, privacy={config.privacy.mode}"
    return (
        f"for {asked} secure sums of three sites or more, all asked in every round, not fused; in groups for a robust "
        "rule over them"
    )


def _check_distributed(config: Config) -> None:
    """The sum is the release: nothing else may come between, and every patient counts alike."""
    where = {
        "secagg=none": config.secagg.name == "none",
        f"aggregation.weights={config.aggregation.weights}": config.aggregation.weights != "declared",
        f"training.proximal_mu={config.training.proximal_mu:g}": config.training.proximal_mu > 0,
    }
    _refuse_first(
        where, "for privacy=distributed secure sums with the sites' declared weights", "privacy=per_site"
    )


def _refuse_first(where: Mapping[str, bool], expected: str, without: str) -> None:
    """Name the first setting of `where` that stands against what was asked for."""
    for name in (name for name, there in where.items() if there):
        raise ConfigError(expected, name, f"change it, or set {without}")


def _check_centring(config: Config) -> None:
    """Rounds that learn the features' centre come before others, and are one noised step each."""
    found = ""
    if config.rounds <= config.model.centring_rounds:
        found = f"rounds={config.rounds}"
    elif config.training.local_steps > 1:
        found = f"training.local_steps={config.training.local_steps}"
    elif config.privacy.mode == "client_level" or config.engine.fused:
        found = "privacy=client_level or engine.fused=true"
    if found:
        raise ConfigError(
            f"with model.centring_rounds={config.model.centring_rounds} more rounds than those, "
            "training.local_steps=1, and sites that train one by one",
            found,
            "set model.centring_rounds=0, or change what stands against it",
        )


def check_counts(values: Mapping[str, object]) -> None:
    """Judge what is said once before what is derived from it, so that an error names what was said."""
    for key, least in _LEAST.items():
        value = values.get(key)
        if type(value) is int:
            at_least(key, value, least)


def _agree(config: Config, derived: str, source: str) -> None:
    """The ledger must be charged for what is run, and the network must take what imaging makes."""
    stated, value = (attrgetter(path)(config) for path in (source, derived))
    if value != stated:
        raise ConfigError(
            f"{derived} to equal {source} = {_shown(stated)}", _shown(value), f"set {source} alone"
        )


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)
