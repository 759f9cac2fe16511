"""Whether new studies still look like those that the model was released for.

Each stream (a header's field, an image's moments, an embedding, a score) has a fixed reference sample and a window of the
latest studies; at each look every stream is tested against its reference. Numbers: Kolmogorov–Smirnov for any change and
rank-sum (Mann and Whitney 1947) for a change of level, which it finds sooner, Bonferroni for the two. Classes: χ² by
permutation. Vectors: the maximum mean discrepancy (Gretton et al. 2012) with a Gaussian kernel of
the median distance, by permutation with sequential stopping (Besag and Clifford 1991): valid p-values, cheap where
nothing is to be found.

Looks are many and streams are many: the chance of *any* false alarm over the `horizon` is bounded by `alpha`. A look
may spend alpha ÷ looks (Pocock's boundary without its correlations); within a look Benjamini and Hochberg 1995 over the
streams, whose false discovery rate bounds the chance of any where no stream has moved. A test of p < 0.05 at every look
would cry wolf in one of eight stationary streams and more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, mannwhitneyu

from fedimg.errors import ConfigError, DataError

Kind = Literal["number", "class", "vector"]
_Floats = npt.NDArray[np.float64]
_EXCEEDANCES = 10  # of Besag and Clifford: with so many as extreme, the p-value is close enough
_AT_ONCE = 500
_MOST_VECTORS = 500


@dataclass(frozen=True, slots=True)
class DriftConfig:
    """Attributes:
    window: the latest studies that are compared. look_every: studies between two looks.
    horizon: studies for which `alpha` holds: the chance of any false alarm among them, over all streams.
    least: studies in the window before the first look.
    """

    window: int = 175
    look_every: int = 25
    horizon: int = 2000
    alpha: float = 0.05
    least: int = 100

    def __post_init__(self) -> None:
        if not (1 <= self.look_every <= self.horizon and 20 <= self.least <= self.window):
            found = f"window {self.window}, least {self.least}, every {self.look_every} of {self.horizon}"
            expected = "20 ≤ least ≤ window, and looks within the horizon"
            raise ConfigError(expected, found, "change monitoring.drift")
        if not 0 < self.alpha < 1:
            raise ConfigError("an alpha between 0 and 1", str(self.alpha), "change monitoring.drift.alpha")

    @property
    def spent_a_look(self) -> float:
        return self.alpha / -(-self.horizon // self.look_every)


@dataclass(frozen=True, slots=True)
class Reference:
    """A stream as it was: numbers (N,), classes (N,) of whole numbers ≥ 0, or vectors (N, D); its kind."""

    kind: Kind
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = 2 if self.kind == "vector" else 1
        if self.values.ndim != shape or len(self.values) < 50 or not np.isfinite(self.values).all():
            raise DataError(
                f"50 finite references or more with {shape} axes for a stream of kind {self.kind}",
                f"shape {self.values.shape}",
                "collect more studies before drift is watched",
            )


@dataclass(frozen=True, slots=True)
class Drifted:
    """A stream that has moved: its p-value at a look, and by how much.

    `shift`: of a number the difference of medians ÷ the reference's interquartile range; of others the statistic.
    """

    stream: str
    p: float
    shift: float
    studies: int


@dataclass
class DriftMonitor:
    """Watches all streams of one model at one site. State in memory; `observe` every study, in order."""

    references: Mapping[str, Reference]
    config: DriftConfig = field(default_factory=DriftConfig)
    seed: int = 0
    studies: int = 0
    _windows: dict[str, deque[_Floats]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.references:
            raise ConfigError("a stream or more to watch", "none", "name some, or switch drift off")
        self._windows = {name: deque(maxlen=self.config.window) for name in self.references}
        self._generator = np.random.default_rng(self.seed)

    def observe(self, study: Mapping[str, float | int | npt.ArrayLike]) -> tuple[Drifted, ...]:
        """A study's value in each stream that it has; at a look the streams that have moved, worst first.

        A value that is missing or not finite is left out of its stream; how often that happens is a stream of its own
        where it matters.

        Raises DataError: a stream that has no reference, or a vector of another length.
        """
        self.take(study)
        return self.look() if self.is_due else ()

    def take(self, study: Mapping[str, float | int | npt.ArrayLike]) -> None:
        """`observe` without a look: of studies that were looked at before, after a restart."""
        for name, value in study.items():
            reference = self.references.get(name)
            found = np.asarray(value, dtype=np.float64)
            if reference is None or found.shape != reference.values.shape[1:]:
                raise DataError(
                    "values of the streams that have a reference", "another", "collect a reference for it"
                )
            if np.isfinite(found).all():
                self._windows[name].append(found)
        self.studies += 1

    @property
    def is_due(self) -> bool:
        """Whether the last study is one after which `look_every` asks for a look."""
        return self.studies > 0 and self.studies % self.config.look_every == 0

    def look(self) -> tuple[Drifted, ...]:
        """The streams that have moved. Spends a look's share of alpha."""
        return self.moved(self.tests())

    def tests(self) -> dict[str, Drifted]:
        """Every stream whose window is long enough, tested; whether it has moved, `moved` says of all together."""
        found = {}
        for name, reference in self.references.items():
            if len(self._windows[name]) >= self.config.least:
                p, shift = self._tested(reference, np.stack(tuple(self._windows[name])))
                found[name] = Drifted(name, p, shift, self.studies)
        return found

    def moved(self, tests: Mapping[str, Drifted]) -> tuple[Drifted, ...]:
        """Those of one look that have moved, the clearest first."""
        # Streams without enough studies count as tested: the number of tests may not depend on data.
        p = {name: one.p for name, one in tests.items()}
        rejected = benjamini_hochberg(p, self.config.spent_a_look, len(self.references))
        return tuple(sorted((tests[name] for name in rejected), key=lambda one: one.p))

    def _tested(self, reference: Reference, window: _Floats) -> tuple[float, float]:
        if reference.kind == "number":
            return of_numbers(reference.values, window)
        if reference.kind == "class":
            return of_classes(reference.values, window, self._least_p, self._generator)
        return of_vectors(reference.values, window, self._least_p, self._generator)

    @property
    def _least_p(self) -> float:
        return self.config.spent_a_look / len(self.references)


def benjamini_hochberg(p: Mapping[str, float], level: float, tests: int) -> frozenset[str]:
    """Names of the hypotheses that are rejected at false discovery rate `level`, of so many `tests`."""
    ordered = sorted(p, key=lambda name: p[name])
    passed = [k for k, name in enumerate(ordered, start=1) if p[name] <= level * k / tests]
    return frozenset(ordered[: max(passed, default=0)])


def of_numbers(reference: _Floats, window: _Floats) -> tuple[float, float]:
    """(p, shift) of two samples of numbers: the smaller p of two tests, doubled."""
    if np.ptp(reference) == 0 and np.ptp(window) == 0 and reference[0] == window[0]:
        return 1.0, 0.0
    p = 2 * min(
        float(ks_2samp(reference, window, method="asymp").pvalue),
        float(mannwhitneyu(reference, window, method="asymptotic").pvalue),
    )
    low, middle, high = np.quantile(reference, [0.25, 0.5, 0.75])
    shift = np.median(window) - middle
    return min(1.0, p), float(shift / (high - low)) if high > low else float(np.sign(shift))


def of_classes(
    reference: _Floats, window: _Floats, least_p: float, generator: np.random.Generator
) -> tuple[float, float]:
    """(p, χ² ÷ studies) of two samples of classes, by permutation: cells may be small, and a class may be new."""
    kinds, coded = np.unique(np.concatenate([reference, window]), return_inverse=True)
    if len(kinds) == 1:
        return 1.0, 0.0
    size, count = len(window), len(coded)
    total = np.bincount(coded, minlength=len(kinds))
    wanted = total * (size / count)

    def statistic(seen: npt.NDArray[np.int64]) -> _Floats:
        """Pearson's, of (B, kinds) counts in the window; the totals of the 2 × K table are fixed."""
        off: _Floats = ((seen - wanted) ** 2 / wanted).sum(axis=1) * (count / (count - size))
        return off

    own = float(statistic(np.bincount(coded[-size:], minlength=len(kinds))[None])[0])
    drawn = partial(generator.multivariate_hypergeometric, total, size)
    return by_permutation(own, lambda many: statistic(drawn(size=many)), least_p), own / size


def of_vectors(
    reference: _Floats, window: _Floats, least_p: float, generator: np.random.Generator
) -> tuple[float, float]:
    """(p, MMD²) of two samples of vectors, (N, D) and (M, D), by permutation; of a long reference an even part."""
    if len(reference) > _MOST_VECTORS:
        reference = reference[np.linspace(0, len(reference) - 1, _MOST_VECTORS).astype(np.int64)]
    both = np.concatenate([reference, window])
    deviation = both.std(
        axis=0
    )  # of both: a scale from one of them would tell them apart where nothing has moved
    both = both / np.where(deviation > 0, deviation, 1.0)
    squares = (both**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None, :] - 2 * both @ both.T, 0)
    typical = float(np.median(distances[np.triu_indices(len(both), 1)]))
    kernel = np.exp(-distances / typical) if typical > 0 else (distances == 0).astype(np.float64)
    np.fill_diagonal(kernel, 0.0)  # the unbiased estimate has no pair of a study with itself
    n, m = len(reference), len(window)

    def statistic(second: _Floats) -> _Floats:
        """MMD² (unbiased), of (N + M, B): ones where a vector is in the second sample."""
        sums = kernel @ second
        within = (sums * second).sum(axis=0)
        across = sums.sum(axis=0) - within
        first = kernel.sum() - within - 2 * across
        found: _Floats = first / (n * (n - 1)) + within / (m * (m - 1)) - 2 * across / (n * m)
        return found

    labels = np.concatenate([np.zeros(n), np.ones(m)])
    own = float(statistic(labels[:, None])[0])
    turned = np.tile(labels, (_AT_ONCE, 1))

    def drawn(many: int) -> _Floats:
        return statistic(generator.permuted(turned[:many], axis=1).T)

    return by_permutation(own, drawn, least_p), own


def by_permutation(own: float, drawn: Callable[[int], npt.ArrayLike], least_p: float) -> float:
    """A valid p-value of a statistic of which large values speak, from statistics `drawn(B)` where nothing has moved.

    Stops at the tenth draw that is as extreme (p = 10 ÷ draws; Besag and Clifford 1991, §2); where none is, after enough
    draws for p to fall below `least_p`.
    """
    most, made, extreme = math.ceil(4 / least_p), 0, 0
    while made < most:
        as_extreme = np.asarray(drawn(min(_AT_ONCE, most - made))) >= own * (1 - 1e-12)
        if extreme + as_extreme.sum() >= _EXCEEDANCES:
            last = np.flatnonzero(as_extreme)[_EXCEEDANCES - extreme - 1]
            return float(_EXCEEDANCES / (made + last + 1))
        made, extreme = made + len(as_extreme), extreme + int(as_extreme.sum())
    return (extreme + 1) / (made + 1)
