"""Which overrides ask for a learner at an ε.

A learner is an experiment (`conf/experiment`), with that file's own rounds and settings, or a network
(`conf/model`) trained as the data source says. `scattering` stands for both: with privacy for the recipe that
was tuned for the ε (docs/private-recipes.md), without it for the network. A baseline (`BASELINES`) is neither: it
learns nothing, and has one row, at ε = 0, with the data of the first learner beside it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from fedimg.errors import ConfigError

DEFAULT_LEARNERS = (
    "ridge",
    "logistic",
    "svm",
    "decision_tree",
    "gradient_boosting",
    "extra_trees",
    "kmeans",
    "pca",
    "scattering",
)
RULES = "rules"
BASELINES = (RULES, "otsu", "morphology", "blobs")
"""Rows that learn nothing: an expert's rules, and traditional segmentation and detection."""
DEFAULT_EPSILONS = (math.inf, 3.0)
PRIVATE_MODES = ("distributed", "per_site", "client_level")

# Of docs/private-recipes.md: (from this ε on, experiment).
_RECIPES = ((2.0, "scattering_private"), (0.7, "scattering_private_low"), (0.0, "scattering_private_least"))
# What a comparison sets itself; a learner's own settings are given with --set.
_OWN = ("model", "experiment", "privacy", "privacy.mode", "privacy.epsilon", "privacy.rounds", "rounds")
_FOLDERS = ("runs", "resume")


@dataclass(frozen=True, slots=True)
class Asked:
    """One row that is asked for: a learner at an ε, infinite for `privacy=none`, or a baseline at ε = 0.

    `recipe` are the overrides that make it this row, in `overrides` beside those of every row.
    """

    learner: str
    epsilon: float
    overrides: tuple[str, ...]
    recipe: tuple[str, ...] = ()

    @property
    def baseline(self) -> bool:
        return self.learner in BASELINES

    @property
    def name(self) -> str:
        """`ridge-inf`, `ridge-3`: of its folder, and to be given settings by."""
        return row_name(self.learner, self.epsilon)


@dataclass(frozen=True, slots=True)
class Question:
    """What a comparison is asked.

    Attributes:
        overrides: for every row. own: learner, or a row by its name → overrides for it alone.
        mode: of the rows with a finite ε. sites: how many, where the overrides say so.
    """

    learners: tuple[str, ...] = DEFAULT_LEARNERS
    epsilons: tuple[float, ...] = DEFAULT_EPSILONS
    mode: str = "distributed"
    overrides: tuple[str, ...] = ()
    own: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sites: int = 1


def ask(question: Question, options: Mapping[str, Collection[str]]) -> list[Asked]:
    """Every learner at every ε, in the order given.

    `options` are the names in each group of the configuration.

    Raises:
        ConfigError: an unknown learner, a name that is given twice, an override that is a row's own.
    """
    for name in question.learners:
        _check_learner(name, options)
    for values, key in ((question.learners, "--learners"), (question.epsilons, "--epsilons")):
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"names or numbers in {key}, each once", "none, or one twice", "write a,b,c")
    named = {*question.learners, *(row_name(n, e) for n in question.learners for e in _epsilons(question, n))}
    if left := sorted(set(question.own) - named):
        raise ConfigError(
            f"--set for a learner or a row of this comparison: {', '.join(sorted(named))}",
            left[0],
            "name one of these",
        )
    _check_overrides(question.overrides, (*_OWN, *_FOLDERS))
    for given in question.own.values():
        _check_overrides(given, ("experiment", "privacy", "privacy.mode", "privacy.epsilon", *_FOLDERS))
    return [
        _asked(question, name, epsilon, options)
        for name in question.learners
        for epsilon in _epsilons(question, name)
    ]


def _epsilons(question: Question, name: str) -> tuple[float, ...]:
    return (0.0,) if name in BASELINES else question.epsilons


def _asked(question: Question, learner: str, epsilon: float, options: Mapping[str, Collection[str]]) -> Asked:
    own = (*question.own.get(learner, ()), *question.own.get(row_name(learner, epsilon), ()))
    like = learner
    if learner in BASELINES:  # the same data, and images of the same size
        alone = "" if learner == RULES else "segmentation"
        like, epsilon = next((name for name in question.learners if name not in BASELINES), alone), math.inf
    chosen = (*recipe(like, epsilon, question.mode, question.sites, options), *own)
    if learner in BASELINES:
        return Asked(learner, 0.0, (*question.overrides, *question.own.get(like, ()), *chosen), chosen)
    return Asked(learner, epsilon, (*question.overrides, *chosen), chosen)


def row_name(learner: str, epsilon: float) -> str:
    return f"{learner}-{epsilon_text(epsilon)}"


def recipe(
    learner: str, epsilon: float, mode: str, sites: int, options: Mapping[str, Collection[str]]
) -> tuple[str, ...]:
    """The overrides that stand for a learner at an ε.

    With each site's own noise the mean of K sites is √K times as noisy, so that the recipes' ε is ε/√K.
    """
    if math.isinf(epsilon):
        privacy: tuple[str, ...] = ("privacy=none",)
    else:
        privacy = (f"privacy={mode}", f"privacy.epsilon={epsilon_text(epsilon)}")
    if learner == "scattering" and not math.isinf(epsilon):
        level = epsilon / math.sqrt(sites) if mode == "per_site" else epsilon
        return (f"experiment={next(name for least, name in _RECIPES if level >= least)}", *privacy)
    if not learner:  # baselines alone: data and images are what the overrides say
        return privacy
    group = "experiment" if learner in options["experiment"] else "model"
    return (f"{group}={learner}", *privacy)


def epsilons_of(text: str) -> tuple[float, ...]:
    """`inf,3` → numbers; raises ConfigError for what is none, or not positive."""
    found = []
    for part in text.split(","):
        try:
            value = math.inf if part.strip() in ("none", "∞") else float(part)
        except ValueError:
            value = math.nan
        if not value > 0:
            raise ConfigError("--epsilons of positive numbers and inf", repr(part), "write inf,8,3")
        found.append(value)
    return tuple(found)


def epsilon_text(epsilon: float) -> str:
    """ε as an override and as part of a name: 3, 0.5, inf."""
    return f"{epsilon:.12g}"


def own_settings(lines: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """`NAME:key=value` lines → name of a learner or row → overrides; raises ConfigError for another form."""
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        learner, colon, override = line.partition(":")
        if not colon or "=" not in override:
            raise ConfigError(
                "--set LEARNER:key=value", repr(line), "for instance --set svm:rounds=3, or svm-inf:rounds=3"
            )
        found[learner] = (*found.get(learner, ()), override)
    return found


def _check_learner(name: str, options: Mapping[str, Collection[str]]) -> None:
    known = sorted({*options["experiment"], *options["model"], *BASELINES})
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "choose one of these"
        raise ConfigError(f"a learner: {', '.join(known)}", repr(name), hint)


def _check_overrides(overrides: Sequence[str], taken: Collection[str]) -> None:
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key not in taken:
            continue
        if key in _FOLDERS:
            expected, remedy = "--out for the comparison's folder", "leave it out; the same command goes on"
        elif key in ("rounds", "privacy.rounds"):
            expected, remedy = "each learner's own rounds", f"use --set LEARNER:{override}"
        else:
            expected, remedy = "--learners, --epsilons and --privacy", "use those"
        raise ConfigError(expected, f"an override of {key}", remedy)
