"""Who is at which site: by a manifest's column, at random, or with skewed classes. Always by patient.

Only simulations and single-machine studies divide data; in deployment each hospital has its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fedimg.errors import ConfigError, DataError
from fedimg.values import SourceItem

SCHEMES = ("manifest", "iid", "dirichlet")

_STREAM = 0x70617274
"""Keeps this generator's stream apart from others made from the same seed."""


def site_names(sites: int) -> tuple[str, ...]:
    """`site-1`, `site-2` …, zero-padded so that their order is their number's."""
    width = len(str(sites))
    return tuple(f"site-{k + 1:0{width}d}" for k in range(sites))


def assign(
    items: Sequence[SourceItem], scheme: str, sites: int, alpha: float, seed: int
) -> Mapping[str, tuple[SourceItem, ...]]:
    """Items by site; within a site in the order given. An item without `patient_id` stands for itself.

    "manifest": by `SourceItem.site`; `sites`, `alpha` and `seed` are not used, sites appear in the
    order in which they are first named. "iid" and "dirichlet": see `assign_units`; sites are
    `site_names(sites)`, and some may be empty or have one class only.
    Guarantee: each item at exactly one site; with "iid" and "dirichlet" each patient too.
    Raises ConfigError: unknown scheme, `sites` < 1, `alpha` ≤ 0. DataError: "manifest" without sites.
    """
    if scheme == "manifest":
        by_site: dict[str, list[SourceItem]] = {}
        for item in items:
            if item.site is None:
                raise DataError(
                    "a site for every row",
                    "rows without one",
                    "fill the site column, or set data.partition=iid",
                )
            by_site.setdefault(item.site, []).append(item)
        return {site: tuple(own) for site, own in by_site.items()}
    units: dict[Hashable, int] = {}
    unit_of_item = [units.setdefault(unit_key(item), len(units)) for item in items]
    # A patient's class is the highest among their items: one positive image makes a positive patient.
    labels = np.full(len(units), -1, dtype=np.int64)
    np.maximum.at(labels, unit_of_item, [-1 if item.label is None else item.label for item in items])
    site_of_unit = assign_units(labels, scheme, sites, alpha, seed)
    return {
        name: tuple(item for item, unit in zip(items, unit_of_item, strict=True) if site_of_unit[unit] == k)
        for k, name in enumerate(site_names(sites))
    }


def assign_units(
    labels: npt.NDArray[np.int64], scheme: str, sites: int, alpha: float, seed: int
) -> npt.NDArray[np.int64]:
    """The site, 0 … sites − 1, of each unit (a patient, or an image where nothing is known of patients).

    "iid": shuffled and dealt out, sizes differ by at most one. "dirichlet": for every class
    separately, shares of the sites ~ Dirichlet(α·1), as Hsu, Qi & Brown (arXiv 1909.06335) and Li
    et al. (NIID-Bench, arXiv 2102.02079); small α, strong skew. Units are shuffled first, so that a
    file sorted by class is no different from one that is not.
    Guarantee: a function of its arguments alone. Raises ConfigError.
    """
    if scheme not in ("iid", "dirichlet"):
        raise ConfigError(f"data.partition to be one of {', '.join(SCHEMES)}", scheme, "change this key")
    if sites < 1:
        raise ConfigError("sites ≥ 1", str(sites), "change sites")
    if not 0 < alpha < float("inf"):
        raise ConfigError("data.alpha above 0", str(alpha), "change this key")
    random = np.random.default_rng([seed, _STREAM])
    site_of_unit = np.empty(len(labels), dtype=np.int64)
    order = random.permutation(len(labels))
    if scheme == "iid":
        site_of_unit[order] = np.arange(len(labels)) % sites
        return site_of_unit
    for label in np.unique(labels):
        members = order[labels[order] == label]
        shares = random.dirichlet(np.full(sites, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(members) + 0.5).astype(np.int64)
        site_of_unit[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return site_of_unit


def patients_at_further_sites(
    assignment: Mapping[str, Sequence[SourceItem]], max_sites_per_patient: int = 1
) -> Mapping[str, tuple[SourceItem, ...]]:
    """Items to hold back (PATIENT_AT_TWO_SITES), by site: those of patients beyond their allowed sites.

    Sites count in the order of `assignment`; a patient stays at the first `max_sites_per_patient`.
    The per-patient ε of a federation is the maximum over sites only while this holds. It can be seen
    only where one list names the patients of all sites: separate pseudonyms hide it.
    """
    places: defaultdict[Hashable, list[str]] = defaultdict(list)
    for site, items in assignment.items():
        for item in items:
            key = unit_key(item)
            if not places[key] or places[key][-1] != site:
                places[key].append(site)
    excess = {key: set(sites[max_sites_per_patient:]) for key, sites in places.items()}
    return {
        site: held
        for site, items in assignment.items()
        if (held := tuple(item for item in items if site in excess[unit_key(item)]))
    }


def unit_key(item: SourceItem) -> Hashable:
    """What must stay together: the patient number without surrounding blanks, else the file itself."""
    patient = (item.patient_id or "").strip()
    return ("patient", patient) if patient else ("file", item.path)
