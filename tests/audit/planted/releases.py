"""Known ways in which sums over clients and evaluations go wrong, each a patch of what is shipped."""

import importlib.util
from pathlib import Path

import numpy as np

from fedimg.privacy import client_level, plan
from fedimg.privacy.client_level import ClientReleases
from fedimg.values import ClippedSum, NoisedSum


def beside(name):
    spec = importlib.util.spec_from_file_location(f"planted_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bugs = beside("bugs")
Bug, planted = bugs.Bug, bugs.planted
TRAINING, STREAM, SAMPLE = (
    ClientReleases.training_sum,
    client_level.clipped_stream,
    client_level.poisson_sample,
)
ADD, HISTOGRAM, CHARGE = plan.add_noise, plan.ReleaseSession.histogram, bugs.CHARGE


def unclipped(vectors, size, norm):
    """The coordinator relies on what clients say of their norm."""
    total = np.zeros(size)
    for vector in vectors:
        if np.isfinite(vector).all():
            total = total + vector
    return ClippedSum(total, norm)


def not_a_number_passes(vectors, size, norm):
    total = np.zeros(size)
    for vector in vectors:
        with np.errstate(all="ignore"):
            length = np.linalg.norm(vector)
            total = total + vector * (norm / length if length > norm else 1.0)
    return ClippedSum(total, norm)


def whole_cohort_clipped(vectors, size, norm):
    """The sum is clipped, not each client."""
    found = [vector for vector in vectors if np.isfinite(vector).all()]
    return STREAM([np.sum(found, axis=0)] if found else [], size, norm)


def over_who_came():
    def training_sum(self, number, clients, size, updates):
        came = []

        def counted(cohort):
            came.extend(cohort)
            return updates(cohort)

        noised = TRAINING(self, number, clients, size, counted)
        vector = noised.vector * self.divisor / max(1, len(came))
        return NoisedSum(vector, noised.noise_std, noised.release_id)

    return [(ClientReleases, "training_sum", training_sum)]


def of_fixed_size(n, rate, entropy):
    order = np.argsort(np.frombuffer(entropy.bytes(8 * n), dtype="<u8"))
    return np.sort(order[: round(rate * n)])


def everyone(n, _rate, entropy):
    return SAMPLE(n, 1.0, entropy)


def cohort_sampler(change):
    return lambda: [(client_level, "poisson_sample", change)]


def stream(change):
    return lambda: [(client_level, "clipped_stream", change)]


CLIENTS = (
    Bug("no clip at the coordinator", "sensitivity.norm", stream(unclipped)),
    Bug("clip of the cohort's sum", "sensitivity.mean", stream(whole_cohort_clipped)),
    Bug("NaN of a client passes", "sensitivity.finite", stream(not_a_number_passes)),
    Bug("divided by who came", "upload.divisor", over_who_came),
    Bug("cohorts of a fixed size", "sampler.totals", cohort_sampler(of_fixed_size)),
    Bug("all clients asked", "sampler.totals", cohort_sampler(everyone)),
    Bug("σ × 0.9 over clients", "noise.scale", bugs.scaled(0.9)),
    Bug("skipped charge of a cohort", "ledger.recorded", bugs.skipped_charge),
    Bug("cohort asked before the charge", "ledger.crash", bugs.charged_after),
)


def unbounded(vectors, norm, *, integers=False):
    """As where a patient counts once an image."""
    del integers
    rows = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    return ClippedSum(rows.sum(axis=0), norm)


def no_noise_in_empty_cells():
    def add_noise(total, multiplier, entropy, *rest):
        vector, std = ADD(total, multiplier, entropy, *rest)
        return np.where(total.vector == 0, 0.0, vector), std

    return [(plan, "add_noise", add_noise)]


def as_shares():
    """Divided by the number of patients who are there."""

    def histogram(self, vectors):
        count = []

        def counted():
            rows = vectors()
            count.append(max(1, len(rows)))
            return rows

        noised = HISTOGRAM(self, counted)
        return NoisedSum(noised.vector / count[0], noised.noise_std, noised.release_id)

    return [(plan.ReleaseSession, "histogram", histogram)]


def charged_as_training():
    def charge(self, digest, _kind):
        return CHARGE(self, digest, "train")

    return [(bugs.ledger.Ledger, "charge", charge)]


def not_a_number_counts(vectors, norm, *, integers=False):
    del integers
    with np.errstate(all="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return ClippedSum((vectors * np.where(lengths > norm, norm / lengths, 1.0)).sum(axis=0), norm)


EVALUATION = (
    Bug(
        "a patient counts once an image", "sensitivity.images", lambda: [(plan, "clipped_vectors", unbounded)]
    ),
    Bug(
        "NaN of a patient passes",
        "sensitivity.finite",
        lambda: [(plan, "clipped_vectors", not_a_number_counts)],
    ),
    Bug("σ × 0.9 of a histogram", "noise.scale", bugs.scaled(0.9)),
    Bug("no noise in empty cells", "noise.scale", no_noise_in_empty_cells),
    Bug("one seed on all sites", "reuse.sites", bugs.one_seed),
    Bug("shares instead of counts", "upload.divisor", as_shares),
    Bug("an evaluation charged as training", "ledger.recorded", charged_as_training),
    Bug("scores read before the charge", "ledger.crash", bugs.charged_after),
)
